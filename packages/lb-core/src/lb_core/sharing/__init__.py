"""What processes and nodes that serve together share: messages, counts, and who they are.

    channel     facts: a message to the same topic in every other process of this node, and in every other node
    counts      numbers: each process adds in its own part of a shared memory, and reads the others'
    seat        0 for the control process, or for a process alone; 1 to 63 for a worker
    cluster     the other nodes, where there are some

A process alone has no peers: a message goes nowhere, and nothing is counted in shared memory.
"""

from lb_core.sharing.cluster import Cluster, Member
from lb_core.sharing.memory import Memory
from lb_core.sharing.sharing import Channel, Note, Peers, Sharing

__all__ = ["Channel", "Cluster", "Member", "Memory", "Note", "Peers", "Sharing"]
