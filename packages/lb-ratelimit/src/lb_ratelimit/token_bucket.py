"""Token bucket: `burst` tokens, refilled at the rate `requests` / `window`; a request takes one or is refused.

Kept as GCRA (ITU-T I.371; the same decisions, with one number a key instead of two): the theoretical arrival time is
when the bucket will be full again. A request moves it on by the interval between two tokens, and may pass while it is
at most `burst - 1` intervals ahead.

    in any span of t seconds    at most `burst` + t * `requests` / `window`, so in `window` at most `burst` + `requests`
    refused                     only when the bucket holds less than one token

Exact but for the rounding of floating point: two nanoseconds a token are forgiven, so that a burst is never one short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lb_ratelimit.counters import Arrivals

if TYPE_CHECKING:
    from lb_ratelimit.recent import Key


class ArrivalCounting(Protocol):
    """Where arrival times are kept: in this process alone, or together with others."""

    def __len__(self) -> int:
        """How many keys there are."""

    def peek(self, key: Key, now: float) -> float:
        """When the key's debt is paid; `now` where it has none."""

    def add(self, key: Key, now: float, seconds: float) -> float:
        """Add to what the key has to wait off, or take it back; returns what `peek` would then."""

    def turn(self) -> None:
        """Keys that were not used since the last turn may be forgotten."""

    def resize(self, most: int) -> None:
        """Remember another number of keys."""


ROUNDING = 2e-9
"""The last binary digit of a clock that has been running for less than half a year."""


class TokenBucket:
    """`requests` in `window` on the average, and `burst` at once."""

    __slots__ = ("_burst", "_interval", "_requests", "_tolerance", "_turns", "counters", "window")

    def __init__(
        self,
        requests: int,
        window: float,
        burst: int,
        *,
        most: int = 100_000,
        counters: ArrivalCounting | None = None,
    ) -> None:
        self.window = window
        self.counters: ArrivalCounting = Arrivals(most) if counters is None else counters
        self._turns = float("-inf")
        self._burst = burst
        self.requests = requests

    @property
    def requests(self) -> int:
        """How many tokens come in a window; setting it changes the rate and keeps how full the buckets are."""
        return self._requests

    @requests.setter
    def requests(self, requests: int) -> None:
        self._requests = requests
        self._interval = self.window / requests
        self._tolerance = (self._burst - 1 + 1e-6) * self._interval + self._burst * ROUNDING

    @property
    def burst(self) -> int:
        """How many tokens a bucket holds."""
        return self._burst

    @burst.setter
    def burst(self, burst: int) -> None:
        self._burst = burst
        self.requests = self._requests

    def take(self, key: Key, now: float) -> bool:
        """Whether a request may pass, which then takes a token."""
        if now >= self._turns:
            self._turn(now)
        interval = self._interval
        if self.counters.add(key, now, interval) - now - interval <= self._tolerance:
            return True
        self.counters.add(key, now, -interval)
        return False

    def give_back(self, key: Key, now: float) -> None:
        """A request that was let pass did not happen."""
        self.counters.add(key, now, -self._interval)

    def remaining(self, key: Key, now: float) -> int:
        """The whole tokens in the bucket."""
        left = (self._tolerance - self.counters.peek(key, now) + now) / self._interval + 1
        return max(0, min(self._burst, int(left)))

    def reset(self, key: Key, now: float) -> float:
        """Seconds until the bucket is full."""
        return self.counters.peek(key, now) - now

    def retry_after(self, key: Key, now: float) -> float:
        """Seconds until there is a token."""
        return max(0.0, self.counters.peek(key, now) - now - self._tolerance)

    def resize(self, most: int) -> None:
        """Remember another number of keys."""
        self.counters.resize(most)

    def _turn(self, now: float) -> None:
        """Forget buckets that were not used for as long as the emptiest takes to fill: they are full."""
        self.counters.turn()
        self._turns = now + self._burst * self._interval
