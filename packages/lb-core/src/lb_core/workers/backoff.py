"""How long to wait before a worker that ended is replaced.

lived long enough       at once, and what was before is forgotten
ended soon by itself    0.1 s, 0.2 s, 0.4 s … 10 s: it will most likely end again, and starting costs everybody
ended soon, killed      0.1 s, 0.2 s: somebody else ended it, and nothing says that the next one fares so
"""

from __future__ import annotations

SOON = 10.0
"""Seconds from its start within which the end of a worker is suspicious."""
SHORTEST = 0.1
LONGEST = 10.0
LONGEST_KILLED = 0.2


class Backoff:
    """The pauses of one place. `crashes` is how often in a row its worker ended soon."""

    def __init__(self) -> None:
        self.crashes = 0

    def ended(self, lived: float, *, killed: bool) -> float:
        """A worker ended after so many seconds; returns how many to wait before the next one starts."""
        if lived >= SOON:
            self.crashes = 0
            return 0.0
        self.crashes += 1
        pause: float = SHORTEST * 2 ** min(self.crashes - 1, 30)
        return min(pause, LONGEST_KILLED if killed else LONGEST)
