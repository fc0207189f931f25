"""What is counted while a circuit is closed, and when that is too bad.

    in a row     so many failures without a success between them
    ratio        the share of failures among the requests of a window, once there are enough of them
    slow         the same for responses that took too long

The window moves in ten steps: a tenth of it at a time is forgotten, so that counting costs a comparison and an addition
and no request is remembered by itself.
"""

from __future__ import annotations

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
    """Requests, failures and slow responses of the last so many seconds."""

    __slots__ = ("_failures", "_requests", "_slow", "_step", "_width", "failures", "requests", "slow")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / STEPS
        self._step = 0
        self._requests = [0] * STEPS
        self._failures = [0] * STEPS
        self._slow = [0] * STEPS
        self.requests = self.failures = self.slow = 0

    def add(self, now: float, *, failed: bool = False, slow: bool = False) -> None:
        """Count one request."""
        step = int(now / self._width)
        if step != self._step:
            self._advance(step)
        place = step % STEPS
        self._requests[place] += 1
        self.requests += 1
        if failed:
            self._failures[place] += 1
            self.failures += 1
        if slow:
            self._slow[place] += 1
            self.slow += 1

    def _advance(self, step: int) -> None:
        """Forget the steps that have left the window."""
        for old in range(max(self._step + 1, step - STEPS + 1), step + 1):
            place = old % STEPS
            self.requests -= self._requests[place]
            self.failures -= self._failures[place]
            self.slow -= self._slow[place]
            self._requests[place] = self._failures[place] = self._slow[place] = 0
        self._step = step


class Tally:
    """The count of one backend, or of one route. Moments are seconds of any clock that does not go back."""

    __slots__ = ("_rules", "_slow_call", "_window", "row")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._slow_call = rules.slow_call
        self._window = Window(rules.window) if rules.error_ratio is not None or rules.slow_call else None
        self.row = 0

    def failed(self, now: float, why: str) -> str:
        """Count a failure; the reason to open, or nothing."""
        self.row += 1
        rules = self._rules
        if self._window is not None:
            self._window.add(now, failed=True)
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
        window.add(now, slow=0 < self._slow_call < seconds)
        return self._judged("") if window.failures or window.slow else ""

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
