"""When a node exchanges, and whether it goes by what the others have.

    near    every 50 ms where there is something to say; at once where that is urgent, and the budget allows it
    away    Redis has failed, or has not answered in time: tried again after 50 ms, 100 ms, ... 1 s; where it has
            answered in time, after 10 ms

A node that is away keeps to its share of the limits. It is near again after three answers in time, one after the other,
so that a Redis that is slow now and then does not make the limits change back and forth. Where the connection was lost,
Redis may have lost its counts, too: a second passes first, in which the other nodes say theirs again.

Urgent exchanges have a budget: what they are thought to cost may be 2 % of the time, with a reserve from quiet times.
So one busy key is told 200 times a second for some seconds, and many of them do not take the processor from traffic.
"""

from __future__ import annotations

from math import inf

EVERY = 0.05
SOONEST = 0.004
LONGEST = 1.0
GOOD = 3
PROOF = 0.01
OTHERS = 1.0

BUDGET = 0.02
RESERVE = 0.2
FIXED, EACH = 0.0003, 0.000003
"""Seconds of processor time of one exchange, and of a key in it."""


class Pace:
    """The times of one node's exchanges, of any clock that does not run backwards; `failures` one after the other."""

    def __init__(self) -> None:
        self.away = False
        self._last = -inf
        self.failures = 0
        self._good = 0
        self._joined = False
        self._not_before = -inf
        self._reserve = RESERVE

    def next(self, *, urgent: bool) -> float:
        """When the next exchange may come."""
        if self.failures:
            return self._last + min(EVERY * float(2 ** min(self.failures - 1, 10)), LONGEST)
        if self._good and self.away:
            return self._last + PROOF
        if urgent and not self.away and self._reserve > 0:
            return self._last + SOONEST
        return self._last + EVERY

    def begin(self, now: float, keys: int) -> None:
        """An exchange about so many keys begins; 0 for one that found nothing to say."""
        quiet = min(now - self._last, 30.0) if self._last > -inf else 0.0
        cost = FIXED + EACH * keys if keys else 0.0
        self._reserve = min(RESERVE, self._reserve + BUDGET * quiet - cost)
        self._last = now

    def good(self, now: float) -> bool:
        """It was answered in time; whether the node comes back by that."""
        self.failures = 0
        if not self.away:
            return False
        self._good += 1
        self.away = self._good < GOOD or now < self._not_before
        return not self.away

    def late(self) -> bool:
        """It was not answered in time, or not at all; whether the node goes away by that."""
        self.failures += 1
        self._good = 0
        was, self.away = self.away, True
        return not was

    def rejoined(self, now: float) -> None:
        """The connection is there, again if there was one before: try at once."""
        if self._joined:
            self._not_before = now + OTHERS
        self._joined = True
        self.failures = 0
        self._last = -inf
