"""What the exchanges of all kinds of counts have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lb_redis.exchange_fields import Fields
    from lb_redis.link import Script
    from lb_redis.policy import Key


class Counts(Protocol):
    """The part of lb_core's SharedCounts that is used here."""

    name: str
    limit: float
    window: float

    def take_changes(self) -> list[tuple[Key, int, float]]: ...
    def set_elsewhere(self, key: Key, index: int, amount: float, previous: float, cap: float) -> None: ...
    def node_total(self, key: Key, index: int) -> float: ...


class Call(NamedTuple):
    """A script to call, and who takes its answer; `size` is how many keys it is about, with one for the call."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Any]
    size: int
    take: Callable[[Any, float], None]


class Place(NamedTuple):
    """Who says it, and how things are called in Redis: `key(bucket, ...)`."""

    node: str
    fields: Fields
    key: Callable[..., str]


class CountsExchange(Protocol):
    """The exchange of one limit; `now` is the time of the cluster's clock everywhere."""

    def follow(self, counts: Any, nodes: int) -> bool:
        """Go on with the counts as they are now; False where they are others."""

    def calls(self, now: float) -> Iterable[Call]:
        """What is to be said now."""

    def check(self) -> None:
        """Have Redis say whether it still knows what it was told."""

    def heal(self, now: float) -> None:
        """Redis may have lost everything: wait until the other nodes have said again what they have."""

    def release(self) -> None:
        """This node ends: give back what is reserved."""
