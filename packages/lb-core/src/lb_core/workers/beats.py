"""Beats: how the control process knows that a worker's loop turns, without asking it.

Each worker counts in a place of its own, ten times a second. The control process looks twice a second and counts the
looks at which nothing had moved. Time in which it did not look itself, because the machine slept or it was stopped,
counts as one look at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core.sharing import Memory

AREA = "workers/beats"
WORDS = 8
"""Of 8 bytes: a cache line, so that no two workers write to the same."""
BEAT, CONNECTIONS, REQUESTS, IN_FLIGHT = range(4)
EVERY = 0.1


class Beats:
    """The places of all seats; `values[seat]` are its words."""

    def __init__(self, memory: Memory) -> None:
        self._words = memory.area(AREA, memory.SEATS * WORDS * 8).cast("Q")

    def read(self, seat: int, word: int) -> int:
        """What a seat has written there last."""
        return self._words[seat * WORDS + word]

    def write(self, seat: int, word: int, value: int) -> None:
        """Write it; only that seat's process does, or the control process while there is none."""
        self._words[seat * WORDS + word] = value

    def clear(self, seat: int) -> None:
        """Nobody has this seat."""
        for word in range(WORDS):
            self.write(seat, word, 0)


class Pulse:
    """What is known of one worker's beat."""

    def __init__(self) -> None:
        self._last = -1
        self.missed = 0

    def look(self, beat: int) -> int:
        """Compare with the last look; returns at how many looks in a row nothing had moved."""
        self.missed = self.missed + 1 if beat == self._last else 0
        self._last = beat
        return self.missed
