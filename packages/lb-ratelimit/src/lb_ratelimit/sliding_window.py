"""Sliding window: two counters a key, the previous window weighted by the share of it that is still in sight.

    used = current + previous * (1 - elapsed / window)          a request may pass while used + 1 <= requests

    |--- previous window ---|--- current window ---|
              [========= the last `window` seconds ]now

As Cloudflare describes it ("How we built rate limiting capable of scaling to millions of domains", 2017), but that
requests which are refused do not count. The weighting takes the previous window's requests for evenly spread. With f
the elapsed share of the current window and p <= `requests` the count of the previous one:

    in an aligned window            at most `requests`, exactly
    in any other span of `window`   at most `requests` + f * p, which is below twice `requests`; f * p is reached when
                                    all p came after the share f of their window, so for a burst at its very end
    refused too early               at most (1 - f) * p requests, when all p came before the share f of their window
    evenly spread requests          within one request; so is constant demand above the limit, from its third window
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_ratelimit.windows import Windows

if TYPE_CHECKING:
    from lb_ratelimit.recent import Key


class SlidingWindow(Windows):
    """`requests` in a window that moves with the clock, estimated from two aligned ones."""

    __slots__ = ()

    def take(self, key: Key, now: float) -> bool:
        """Whether a request may pass, which then counts."""
        if now >= self.end:
            self.advance(now)
        index = self.index
        _, used, previous = self.counters.add(key, index)
        if previous:
            share = (self.end - now) / self.window
            used += previous * (share if share < 1.0 else 1.0)
        if used <= self.requests:
            return True
        self.counters.add(key, index, -1)
        return False

    def remaining(self, key: Key, now: float) -> int:
        """How many more may pass now."""
        current, previous = self._counts(key, now)
        return max(0, int(self.requests - current - previous * self._share(now)))

    def reset(self, key: Key, now: float) -> float:
        """Seconds until the current window ends."""
        self._counts(key, now)
        return self.end - now

    def retry_after(self, key: Key, now: float) -> float:
        """Seconds until so much of the last requests is out of sight that one more may pass."""
        current, previous = self._counts(key, now)
        share, room = self._share(now), self.requests - 1 - current
        if room >= previous * share:
            return 0.0
        if room >= 0:
            return (share - room / previous) * self.window
        kept = min(1.0, (self.requests - 1) / current)
        return (share + 1 - kept) * self.window

    def _share(self, now: float) -> float:
        """The share of the previous window that is in sight."""
        return min(1.0, (self.end - now) / self.window)

    def _counts(self, key: Key, now: float) -> tuple[int, int]:
        if now >= self.end:
            self.advance(now)
        _, current, previous = self.counters.peek(key, self.index)
        return current, previous
