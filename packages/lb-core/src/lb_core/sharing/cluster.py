"""What a plugin that joins nodes to a cluster gives to the core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

NodeState = Literal["up", "draining", "gone"]


@dataclass(frozen=True, slots=True)
class Member:
    """A node as the others see it.

    `since` is when it started and `seen` when it was last heard of, in seconds of the cluster's clock since the epoch
    and in seconds ago. `config` tells versions of the configuration apart.
    """

    name: str
    version: str
    state: NodeState
    since: float
    seen: float = 0.0
    workers: int = 1
    requests_per_second: float = 0.0
    in_flight: int = 0
    connections: int = 0
    config: str = ""
    leader: bool = False
    own: bool = False


class Cluster(Protocol):
    """The other nodes."""

    def members(self) -> Sequence[Member]:
        """Every node that is known, this one included, by name."""

    def publish(self, topic: str, message: Any) -> None:
        """Send a channel's message to the other nodes; never blocks and never raises."""

    def order(self, node: str, what: str) -> None:
        """Ask another node to `drain` or to `resume`; raises LbError for one that is not known or not there."""
