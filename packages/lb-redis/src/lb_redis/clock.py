"""The cluster's clock: Redis's time of day, as nodes estimate it from round trips.

    ask -------- (Redis's time) -------- answer      offset = Redis's time - the middle; wrong by half the way at most

Of the last samples the one with the shortest way counts. The estimate follows small differences slowly, so that no
window ends twice; it jumps where a sample proves it wrong: somebody has set a clock, or another Redis took over.
"""

from __future__ import annotations

from collections import deque

KEPT = 10
SLOWLY = 0.25
LEAST = 0.001
"""Seconds: a smaller difference is not worth a change."""


class Clock:
    """How far the cluster's clock is ahead of this machine's, in seconds."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._known = False
        self._samples: deque[tuple[float, float]] = deque(maxlen=KEPT)

    def sample(self, offset: float, doubt: float) -> bool:
        """Take in an estimate that is at most `doubt` seconds wrong; whether `offset` has changed."""
        if self._samples and not all(abs(offset - other) <= doubt + its + LEAST for other, its in self._samples):
            self._samples.clear()  # they cannot both be right: a clock was set
        self._samples.append((offset, doubt))
        best, its_doubt = min(self._samples, key=lambda sample: sample[1])
        wrong = best - self.offset
        if not self._known or abs(wrong) > its_doubt + 10 * LEAST:
            self._known = True
            self.offset = best
            return wrong != 0.0
        if abs(wrong) < LEAST:
            return False
        self.offset += SLOWLY * wrong
        return True
