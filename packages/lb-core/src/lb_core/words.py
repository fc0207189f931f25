"""Operators' words about backends, and which of two is the newer.

Anybody at any node may say that a backend drains, or that it is active again, and a node that was cut off meanwhile
still knows the older word. So each carries a stamp: milliseconds of the clock that all nodes share, and more than any
stamp known of the same backend. Of two words of the same millisecond all take that which sends it less.

What was said about a backend that has gone, or of a weight that a reload has replaced, is remembered too: it holds
nothing any more, but an older word must not come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lb_core.backend import Backend

What = Literal["mode", "weight"]

MOST = 4096
"""How many are remembered of backends that are not there."""

MODES = ("active", "draining", "maintenance")


class Subject(NamedTuple):
    """What a word is about: a pool's and a backend's name, and what of it."""

    pool: str
    backend: str
    what: What


class Words:
    """The last word about each subject; `now` is the clock that all nodes share, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last: dict[Subject, tuple[int, int]] = {}

    def say(self, subject: Subject, backend: Backend) -> None:
        """An operator has said it here, just now."""
        stamp = max(int(self._now() * 1000), self.stamp(subject) + 1)
        self._last[subject] = stamp, urgency(backend.mode if subject.what == "mode" else backend.configured_weight)

    def learn(self, subject: Subject, stamp: int, urgency: int) -> bool:
        """Whether a word from elsewhere is newer than what is known; it is known from then on."""
        if (stamp, urgency) <= self._last.get(subject, (0, 0)):
            return False
        self._last[subject] = stamp, urgency
        return True

    def stamp(self, subject: Subject) -> int:
        """The stamp of the last word; 0 for none."""
        return self._last.get(subject, (0, 0))[0]

    def all(self) -> Iterator[tuple[Subject, int, int]]:
        """Every subject, with the stamp and the urgency of the last word about it."""
        for subject, (stamp, urgent) in self._last.items():
            yield subject, stamp, urgent

    def keep(self, present: Callable[[Subject], bool]) -> None:
        """Forget the oldest about what is not there, where that is too much."""
        gone = [subject for subject in self._last if not present(subject)]
        gone.sort(key=self.stamp)
        for subject in gone[: max(0, len(gone) - MOST)]:
            del self._last[subject]


def urgency(value: str | int) -> int:
    """How far a mode, or a weight, is from sending it everything: what decides between words of one moment."""
    return -value if isinstance(value, int) else MODES.index(value)
