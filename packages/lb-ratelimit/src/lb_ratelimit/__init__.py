"""Rate limits for lb: sliding window, token bucket, fixed window, concurrency.

    rate_limit: 1000/60s                                                   a client's requests in any minute
    rate_limit: {requests: 20, algorithm: concurrency, key: route}         those of everybody under way
    rate_limit: [10/1s, {requests: 5000, window: 1h, key: "header:X-Api-Key"}]

The algorithms are pure and take the time from their caller; `counters` is what they remember.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import Feature, hookimpl
from lb_ratelimit.concurrency import Concurrency
from lb_ratelimit.fixed_window import FixedWindow
from lb_ratelimit.limiter import RateLimit, build
from lb_ratelimit.settings import LimitSettings, RateLimitSettings
from lb_ratelimit.sliding_window import SlidingWindow
from lb_ratelimit.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Concurrency",
    "FixedWindow",
    "LimitSettings",
    "RateLimit",
    "RateLimitSettings",
    "SlidingWindow",
    "TokenBucket",
]


@hookimpl
def register_features() -> Iterator[Feature]:
    """Offer the section `rate_limit`."""
    yield Feature("rate_limit", build, RateLimitSettings)
