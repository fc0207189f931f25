"""What is behind a simulated backend: slots that work, a queue before them, and its faults.

A backend works on `slots` requests at once; what it gets beyond that waits there in order. Since the order is fixed,
the moment a request will be done is known when it arrives, and the queue need not be kept: `_free` holds when each slot
is free again.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapreplace
from math import inf
from random import Random
from typing import TYPE_CHECKING, Literal, get_args

from lb_core.units import show

if TYPE_CHECKING:
    from lb_core.backend import Backend

Kind = Literal["status", "refused", "reset"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a backend, for how many of its requests (0-1), and when (seconds from the begin).

    `status` answers with 503, `refused` takes no connection, `reset` ends the connection without an answer; each
    `after` seconds, without occupying a slot.
    """

    kind: Kind = "status"
    probability: float = 1.0
    after: float = 0.001
    start: float = 0.0
    end: float = inf

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{show(self.kind)} is no fault: there are {', '.join(KINDS)}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"the probability of a fault is from 0 to 1, not {self.probability:g}")
        if not (0 <= self.after < inf and 0 <= self.start < self.end):
            raise ValueError("a fault has a start before its end, and takes a time that is not negative")

    def strikes(self, elapsed: float, random: Random) -> bool:
        """Whether a request that arrives so many seconds after the begin fails."""
        return self.start <= elapsed < self.end and (self.probability >= 1 or random.random() < self.probability)


class Machine:
    """What does a backend's work; `factor` is how many times slower than usual it is.

    `work` sums the seconds of slots it was given, `taken` the requests.
    """

    __slots__ = ("_free", "backend", "factor", "fault", "slots", "taken", "work")

    def __init__(self, backend: Backend, slots: int, factor: float = 1.0, fault: Fault | None = None) -> None:
        self.backend = backend
        self.slots = slots
        self.factor = factor
        self.fault = fault
        self.taken = 0
        self.work = 0.0
        self._free = [0.0] * slots

    def take(self, now: float, seconds: float) -> float:
        """Take a request that needs so many seconds of a usual backend; the moment at which it is done."""
        seconds *= self.factor
        self.work += seconds
        start = self._free[0]
        done = (start if start > now else now) + seconds
        heapreplace(self._free, done)
        return done
