"""One circuit: whether somebody takes requests, is left alone, or is being tried again.

    closed ──  too many failures  ──>  open  <── a failure ──  half open
       ^                                 └───── timeout ──────────> │
       └───────────────────── enough passes ────────────────────────┘

Closed is everything going well; what is counted then is a Tally's affair. The clock is passed in.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """The state as a number, for metrics."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Circuit:
    """The state of one backend, or of one route; `opened` counts how often it opened.

    It stays open for `timeout` seconds; `probes` requests at a time may then try it, and `passes` of them close it.
    `followed` says that another process opened it.
    """

    __slots__ = ("followed", "opened", "passed", "passes", "probes", "reason", "since", "state", "timeout")

    def __init__(self, *, timeout: float, passes: int, probes: int = 1) -> None:
        self.timeout = timeout
        self.passes = passes
        self.probes = probes
        self.state = State.CLOSED
        self.passed = 0
        self.reason = ""
        self.since = 0.0
        self.opened = 0
        self.followed = False

    def open(self, now: float, reason: str) -> None:
        """Leave it alone for `timeout` seconds."""
        self.state = State.OPEN
        self.since = now
        self.reason = reason
        self.opened += 1

    def try_again(self, now: float) -> None:
        """The time is over: probes may go through."""
        self.state = State.HALF_OPEN
        self.since = now
        self.passed = 0

    def pass_probe(self, now: float) -> bool:
        """A request succeeded while it is half open; whether that closes it."""
        self.passed += 1
        if self.passed < self.passes:
            return False
        self.close(now)
        return True

    def close(self, now: float) -> None:
        """All is well again."""
        self.state = State.CLOSED
        self.since = now
        self.reason = ""

    def remaining(self, now: float) -> float:
        """Seconds until it is tried again; 0 unless it is open."""
        return max(0.0, self.since + self.timeout - now) if self.state is State.OPEN else 0.0

    def describe(self, now: float) -> str:
        """Its state in words."""
        if self.state is State.CLOSED:
            return "closed"
        if self.state is State.OPEN:
            return f"open for {now - self.since:.0f}s: {self.reason}; tried again in {self.remaining(now):.0f}s"
        return f"half open: {self.passed} of {self.passes} probes passed; it had opened after {self.reason}"
