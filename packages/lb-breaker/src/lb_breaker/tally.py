"""What is counted while a circuit is closed, and when that is too bad.

    in a row     so many failures without a success between them
    ratio        the share of failures among the requests of a window, once there are enough of them
    slow         the same for responses that took too long

The window moves in ten steps: a tenth of it at a time is forgotten, so that counting costs a comparison and an addition
and no request is remembered by itself.
"""

from __future__ import annotations

from math import inf
from typing import Protocol

STEPS = 10


class Rules(Protocol):
    """The settings that decide."""

    @property
    def in_a_row(self) -> int: ...

    @property
    def error_ratio(self) -> float | None: ...

    @property
    def min_requests(self) -> int: ...

    @property
    def window(self) -> float: ...

    @property
    def slow_call(self) -> float: ...

    @property
    def slow_ratio(self) -> float: ...


class Window:
    """Requests, failures and slow responses of the last so many seconds.

    Whoever counts calls `advance` first once the time has reached `ends`, and then adds to the three numbers.
    """

    __slots__ = ("_before", "_step", "_steps", "_width", "ends", "failures", "requests", "slow")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / STEPS
        self._step = 0
        self._steps = [(0, 0, 0)] * STEPS
        self._before = (0, 0, 0)
        self.requests = self.failures = self.slow = 0
        self.ends = 0.0

    def advance(self, now: float) -> None:
        """Begin the step that `now` is in, and forget those that have left the window."""
        step = int(now / self._width)
        for passed in range(self._step, min(step, self._step + STEPS)):
            requests, failures, slow = self._before
            self._steps[passed % STEPS] = self.requests - requests, self.failures - failures, self.slow - slow
            requests, failures, slow = self._steps[(passed + 1) % STEPS]
            self.requests -= requests
            self.failures -= failures
            self.slow -= slow
            self._before = self.requests, self.failures, self.slow
        self._step = step
        self.ends = (step + 1) * self._width


class Tally:
    """The count of one backend, or of one route. Moments are seconds of any clock that does not go back."""

    __slots__ = ("_rules", "_slow_call", "_window", "row")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._slow_call = rules.slow_call or inf
        self._window = Window(rules.window) if rules.error_ratio is not None or rules.slow_call else None
        self.row = 0

    def failed(self, now: float, why: str) -> str:
        """Count a failure; the reason to open, or nothing."""
        self.row += 1
        rules = self._rules
        window = self._window
        if window is not None:
            if now >= window.ends:
                window.advance(now)
            window.requests += 1
            window.failures += 1
        if rules.in_a_row and self.row >= rules.in_a_row:
            row = f"{self.row} failures in a row, the last" if self.row > 1 else "a failure"
            return f"{row}: {why}"
        return self._judged(f", the last: {why}")

    def passed(self, now: float, seconds: float) -> str:
        """Count a success that took so long; the reason to open, or nothing."""
        self.row = 0
        window = self._window
        if window is None:
            return ""
        if now >= window.ends:
            window.advance(now)
        window.requests += 1
        if seconds > self._slow_call:
            window.slow += 1
        return self._judged("") if window.failures or window.slow else ""

    def broken(self) -> None:
        """A row has ended, and nothing else was counted: this tally is not needed any more."""

    def _judged(self, ending: str) -> str:
        window, rules = self._window, self._rules
        if window is None or window.requests < rules.min_requests:
            return ""
        if rules.error_ratio is not None and window.failures >= rules.error_ratio * window.requests:
            return f"{window.failures} of {window.requests} requests failed within {rules.window:g}s{ending}"
        if rules.slow_call and window.slow >= rules.slow_ratio * window.requests:
            took = f"took longer than {rules.slow_call:g}s"
            return f"{window.slow} of {window.requests} requests {took} within {rules.window:g}s"
        return ""
