"""What the limits have in common: an algorithm decides about one request of one key at a time given by its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lb_ratelimit.recent import Key


class Counted(Protocol):
    """Where an algorithm counts."""

    def __len__(self) -> int:
        """How many keys there are."""


class Algorithm(Protocol):
    """Times are seconds of one clock that does not run backwards; one that is a little late is taken as it is."""

    requests: int
    """How many may pass: in a window, or at the same time."""

    @property
    def counters(self) -> Counted:
        """What it remembers."""

    def take(self, key: Key, now: float) -> bool:
        """Whether a request may pass, which then counts; one that may not counts nowhere."""

    def give_back(self, key: Key, now: float) -> None:
        """A request that was let pass did not happen, or is no longer under way."""

    def remaining(self, key: Key, now: float) -> int:
        """How many more may pass now."""

    def reset(self, key: Key, now: float) -> float | None:
        """Seconds until more may pass than now; None where that does not depend on time."""

    def retry_after(self, key: Key, now: float) -> float:
        """Seconds until the next may pass, if no other comes before it."""

    def resize(self, most: int) -> None:
        """Remember another number of keys."""
