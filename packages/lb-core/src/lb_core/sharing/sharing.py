"""One process's part in what is shared: its channels, its seat, and what it knows of the others.

    a message   channel.send  ->  peers  ->  `hear` in the control process  ->  every other worker, and the cluster
                the cluster   ->  `deliver` in the control process          ->  every worker

The control process has every channel too, so it knows the present state and can tell it to a newcomer. Messages of one
sender arrive in their order; a lost node or a restarted Redis may swallow some, which the snapshots make good.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from lb_core.locality import Locality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lb_core.sharing.cluster import Cluster
    from lb_core.sharing.memory import Memory

log = logging.getLogger("lb.sharing")

Note = tuple[Any, ...]
"""What travels between the processes of a node: `("message", topic, message, nodes)`, `("up", topic, message)` or
`("state", name, value)`."""


class Peers(Protocol):
    """The other processes of this node: all workers, seen from the control process; that one, seen from a worker."""

    def tell(self, note: Note, *, but: int | None = None) -> None:
        """Send it to all of them but one seat; never blocks and never raises."""


class Channel:
    """A topic that this process takes part in."""

    __slots__ = ("_sharing", "nodes", "receive", "snapshot", "topic")

    def __init__(
        self,
        sharing: Sharing,
        topic: str,
        receive: Callable[[Any], None],
        snapshot: Callable[[], Iterable[Any]] | None,
        nodes: bool,
    ) -> None:
        self._sharing = sharing
        self.topic = topic
        self.receive = receive
        self.snapshot = snapshot
        self.nodes = nodes

    def send(self, message: Any) -> None:
        """Send what JSON can carry to everybody else; nothing is sent while a message of theirs is being applied."""
        self._sharing.send(self, message)

    def close(self) -> None:
        """Hear no more."""
        self._sharing.leave(self)


class Sharing:
    """What one process shares with others.

    `leads`: this process does what must run once among all nodes. `share` is the part of a limit for the whole cluster
    that this node may use while it cannot ask the others; `offset` leads from this machine's clock to the cluster's,
    in seconds. `on_*` are called after the value has changed. `locality` marks messages about backends whose address
    means something else at other nodes; a marked one reaches only nodes that the mark is for.
    """

    def __init__(self, *, seat: int = 0, memory: Memory | None = None, locality: Locality | None = None) -> None:
        self.seat = seat
        self.locality = locality or Locality.here()
        self.seats: tuple[int, ...] = () if seat == 0 else (0,)
        self.on_seats: list[Callable[[], None]] = []
        self.on_seat_gone: list[Callable[[int], None]] = []
        self.gone = 0
        self.on_gone: list[Callable[[], None]] = []
        self.memory = memory
        self.clustered = False
        self.leads = seat == 0
        self.on_leads: list[Callable[[], None]] = []
        self.nodes = 1
        self.on_nodes: list[Callable[[], None]] = []
        self.share = 1.0
        self.on_share: list[Callable[[], None]] = []
        self.offset = 0.0
        self.on_offset: list[Callable[[], None]] = []
        self.on_urgent: list[Callable[[str], None]] = []
        self.applying = False
        self.counts: dict[str, Any] = {}
        self.cluster: Cluster | None = None
        self.peers: Peers | None = None
        self._channels: dict[str, Channel] = {}

    # channels

    def channel(
        self,
        topic: str,
        receive: Callable[[Any], None],
        *,
        snapshot: Callable[[], Iterable[Any]] | None = None,
        nodes: bool = True,
    ) -> Channel:
        """Take part in a topic; one that is open under this name is replaced.

        `receive` hears what others send. It must be idempotent and ignore names it does not know. `snapshot` gives the
        messages that bring somebody new to the present state. With `nodes` other nodes take part, too.
        """
        made = self._channels[topic] = Channel(self, topic, receive, snapshot, nodes)
        return made

    def leave(self, channel: Channel) -> None:
        """A channel is closed."""
        if self._channels.get(channel.topic) is channel:
            del self._channels[channel.topic]

    def send(self, channel: Channel, message: Any) -> None:
        """Send a channel's message; not while one of others is applied, for they derive the same from it."""
        if self.applying:
            return
        if self.peers is not None:
            self.peers.tell(("message", channel.topic, message, channel.nodes))
        if self.cluster is not None and channel.nodes:
            self.cluster.publish(channel.topic, message)

    def hear(self, note: Note, seat: int | None = None) -> None:
        """A note from a peer; one of a worker is passed on to the others, and to the cluster."""
        match note:
            case ("message", str(topic), message, bool(nodes)):
                if self.seat == 0:
                    if self.peers is not None:
                        self.peers.tell(note, but=seat)
                    if self.cluster is not None and nodes:
                        self.cluster.publish(topic, message)
                self._receive(topic, message)
            case ("up", str(topic), message):
                self._receive(topic, message)
            case ("state", str(name), value):
                self._set(name, value)

    def send_up(self, topic: str, message: Any) -> None:
        """In a worker: a message to the control process alone, which takes part in this topic."""
        if self.peers is not None:
            self.peers.tell(("up", topic, message))

    def deliver(self, topic: str, message: Any) -> None:
        """A message of another node; one about something that this node does not have is dropped."""
        if not self.locality.hears(message):
            return
        if self.peers is not None:
            self.peers.tell(("message", topic, message, True))
        self._receive(topic, message)

    def snapshots(self, *, nodes: bool = True) -> list[tuple[str, Any]]:
        """Topics and messages that tell the present state: to other nodes, or all there are."""
        found: list[tuple[str, Any]] = []
        for channel in list(self._channels.values()):
            if channel.snapshot is not None and (channel.nodes or not nodes):
                try:
                    found += [(channel.topic, message) for message in channel.snapshot()]
                except Exception:
                    log.exception("the state of %s could not be told", channel.topic)
        return found

    def welcome(self) -> list[Note]:
        """The notes that tell a worker how things stand."""
        state = [("state", name, getattr(self, name)) for name in ("nodes", "share", "offset")]
        nodes = {topic: channel.nodes for topic, channel in self._channels.items()}
        return [*state, *(("message", topic, each, nodes[topic]) for topic, each in self.snapshots(nodes=False))]

    def _receive(self, topic: str, message: Any) -> None:
        channel = self._channels.get(topic)
        if channel is None:
            return
        before, self.applying = self.applying, True
        try:
            channel.receive(message)
        except Exception:
            log.exception("a message of %s could not be applied: %.200r", topic, message)
        finally:
            self.applying = before

    # what is known of the others

    def attach(self, cluster: Cluster) -> None:
        """Other nodes take part from now on."""
        self.cluster = cluster

    def detach(self) -> None:
        """No other node takes part any more."""
        self.cluster = None
        self.set_nodes(1)
        self.set_share(1.0)
        self.set_leads(self.seat == 0)

    def set_seats(self, seats: tuple[int, ...]) -> None:
        """Whose counts must be read beside one's own."""
        self._set("seats", seats)

    def seat_gone(self, seat: int) -> None:
        """In the control process: the worker of that seat has ended. What it had counted is kept, what it had under way
        is not; called before the others are told of it by `set_seats`, and before another worker takes the seat.
        """
        for hear in tuple(self.on_seat_gone):
            hear(seat)
        self._set("gone", self.gone + 1, tell=True)

    def set_leads(self, leads: bool) -> None:
        """Whether this process does what must run once; workers never do."""
        self._set("leads", leads)

    def set_nodes(self, nodes: int) -> None:
        """How many nodes there are."""
        self._set("nodes", nodes, tell=True)

    def set_share(self, share: float) -> None:
        """Which part of a limit for the whole cluster this node may use."""
        self._set("share", share, tell=True)

    def set_offset(self, offset: float) -> None:
        """How far the cluster's clock is ahead of this machine's, in seconds."""
        self._set("offset", offset, tell=True)

    def _set(self, name: str, value: Any, *, tell: bool = False) -> None:
        if getattr(self, name) == value:
            return
        setattr(self, name, value)
        if tell and self.peers is not None:
            self.peers.tell(("state", name, value))
        for hear in tuple(getattr(self, f"on_{name}")):
            hear()
