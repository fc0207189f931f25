"""Who leads: a lease in Redis, and what its holder may conclude from it.

    free      ->  held by this node     a beat takes it where the key is not there, with a token higher than any before
    held      ->  held                  a beat that is answered renews it
    held      ->  given up              `until` has passed: nobody else can hold it yet

The holder counts from when it *sent* the beat, on a clock that goes on while the machine sleeps, and stops a tenth of
the lease before the key can be gone. So two nodes never lead at once, as long as their clocks run at about the same
speed. Who writes elsewhere hands the token on, and the other side refuses a lower one than it has seen: that also holds
for a process that was stopped between its look and its write.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MARGIN = 0.1


def clock() -> float:
    """Seconds that also pass while the machine sleeps, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Holder(NamedTuple):
    """What the key holds: which run of which node leads, with which token."""

    boot: str
    token: int
    node: str


def parse_holder(value: object) -> Holder | None:
    """What the key holds; None where it is not there, or is not ours."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    parts = text.split(" ", 2) if isinstance(text, str) else []
    if len(parts) != 3 or not parts[1].isdecimal():
        return None
    return Holder(parts[0], int(parts[1]), parts[2])


class Lease:
    """This node's part in the question who leads. `seconds` is for how long one beat makes a leader."""

    def __init__(self, boot: str, seconds: float, clock: Callable[[], float] = clock) -> None:
        self.boot = boot
        self.seconds = seconds
        self.holder: Holder | None = None
        self.highest = 0
        self._clock = clock
        self._until = 0.0
        self._asked = float("-inf")

    @property
    def leads(self) -> bool:
        """Whether this node leads, now."""
        return self.remaining > 0

    @property
    def token(self) -> int:
        """The token under which this node leads; 0 where it does not."""
        return self.holder.token if self.holder is not None and self.leads else 0

    @property
    def remaining(self) -> float:
        """For how many seconds this node may still say that it leads; 0.0 where it does not."""
        return max(self._until - self._clock(), 0.0)

    def due(self) -> bool:
        """Whether the next beat should ask: a third of the lease has passed, or another one leads or nobody."""
        return not self.leads or self._clock() - self._asked >= self.seconds / 3

    def ask(self) -> float:
        """The beat is sent; returns when, for `heard`."""
        return self._clock()

    def heard(self, holder: Holder | None, asked: float | None) -> None:
        """What a beat has found in the key; `asked` is when it was sent if it asked for the lease, else None."""
        self.holder = holder
        if holder is not None:
            self.highest = max(self.highest, holder.token)
        if holder is None or holder.boot != self.boot:
            self._until = 0.0
        elif asked is not None:
            self._asked = asked
            self._until = asked + self.seconds * (1 - MARGIN)

    def give_up(self) -> None:
        """Lead no more, at once."""
        self._until = 0.0
