"""Fixed window: one counter a key, which begins at zero with each aligned window.

in an aligned window            at most `requests`, exactly
in any other span of `window`   at most twice `requests`: all of one window at its end, all of the next at its begin
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_ratelimit.windows import Windows

if TYPE_CHECKING:
    from lb_ratelimit.recent import Key


class FixedWindow(Windows):
    """`requests` from one multiple of `window` to the next."""

    __slots__ = ()

    def take(self, key: Key, now: float) -> bool:
        """Whether a request may pass, which then counts."""
        if now >= self.end:
            self.advance(now)
        index = self.index
        if self.counters.add(key, index)[1] <= self.requests:
            return True
        self.counters.add(key, index, -1)
        return False

    def remaining(self, key: Key, now: float) -> int:
        """How many more may pass in this window."""
        if now >= self.end:
            self.advance(now)
        return max(0, self.requests - self.counters.peek(key, self.index)[1])

    def reset(self, key: Key, now: float) -> float:  # noqa: ARG002 (one end for all keys)
        """Seconds until the window ends."""
        if now >= self.end:
            self.advance(now)
        return self.end - now

    def retry_after(self, key: Key, now: float) -> float:
        """Seconds until the window ends, where it is used up."""
        return 0.0 if self.remaining(key, now) else self.end - now
