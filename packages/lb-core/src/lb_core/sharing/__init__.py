"""What processes and nodes that serve together share: messages, counts, and who they are.

    channel     facts: a message to the same topic in every other process of this node, and in every other node
    counts      numbers: each process adds in its own part of a shared memory, and reads the others'
    seat        0 for the control process, or for a process alone; 1 to 63 for a worker
    cluster     the other nodes, where there are some

A process alone has no peers: a message goes nowhere, and nothing is counted in shared memory.

Plugins import from here what they share: `Channel` and `Sharing` (which is `route.sharing`), numbers side by side
(`Slots`, `Figures`), and counts of keys for limits (`windows`, `arrivals`, `gauge`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lb_core.locality import Locality
from lb_core.sharing.cluster import Cluster, Member
from lb_core.sharing.memory import Memory
from lb_core.sharing.sharing import Channel, Note, Peers, Sharing

if TYPE_CHECKING:
    from lb_core.sharing.counts import SharedCounts
    from lb_core.sharing.counts_arrivals import ArrivalCounts
    from lb_core.sharing.counts_by_name import arrivals, gauge, windows
    from lb_core.sharing.counts_gauge import GaugeCounts
    from lb_core.sharing.counts_windows import WindowCounts
    from lb_core.sharing.figures import Figures
    from lb_core.sharing.slots import Slots

_WHERE = {
    "ArrivalCounts": "counts_arrivals",
    "Figures": "figures",
    "GaugeCounts": "counts_gauge",
    "SharedCounts": "counts",
    "Slots": "slots",
    "WindowCounts": "counts_windows",
    "arrivals": "counts_by_name",
    "gauge": "counts_by_name",
    "windows": "counts_by_name",
}
"""What is loaded when somebody asks for it: a process alone counts nothing here."""

__all__ = [
    "ArrivalCounts",
    "Channel",
    "Cluster",
    "Figures",
    "GaugeCounts",
    "Locality",
    "Member",
    "Memory",
    "Note",
    "Peers",
    "SharedCounts",
    "Sharing",
    "Slots",
    "WindowCounts",
    "arrivals",
    "gauge",
    "windows",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
