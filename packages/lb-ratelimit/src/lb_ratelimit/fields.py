"""What clients are told about limits, in two forms.

    draft     RateLimit-Policy: "default";q=1000;w=60, "burst";q=20;w=1     every limit, always the same
              RateLimit: "burst";r=7;t=1                                    the one with the fewest left
    legacy    X-RateLimit-Limit: 20   X-RateLimit-Remaining: 7   X-RateLimit-Reset: 1      the same, in seconds

The draft is draft-ietf-httpapi-ratelimit-headers-10: `q` how many, `w` in how many seconds, `r` how many are left, `t`
after how many seconds there are more, `qu` what is counted where that is not requests. It is still moving: all that is
known of its syntax stands here.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import NamedTuple

Fields = tuple[tuple[str, str], ...]


class Policy(NamedTuple):
    """A limit as clients see it: `window` in seconds, None for a limit of requests under way."""

    name: str
    requests: int
    window: float | None

    def __str__(self) -> str:
        if self.window is None:
            return f'"{self.name}";q={self.requests};qu="concurrent-requests"'
        return f'"{self.name}";q={self.requests};w={ceil(self.window)}'


def policy_fields(form: str, policies: Iterable[Policy]) -> Fields:
    """The fields that are the same on every answer."""
    text = ", ".join(map(str, policies))
    return (("RateLimit-Policy", text),) if form == "draft" and text else ()


def standing_fields(form: str, policy: Policy, remaining: int, reset: float | None) -> Fields:
    """The fields that say how many requests a client has left, and when there are more."""
    left = remaining if remaining < policy.requests else policy.requests
    if form == "draft":
        if reset is None:
            return (("RateLimit", f'"{policy.name}";r={left}'),)
        return (("RateLimit", f'"{policy.name}";r={left};t={ceil(reset)}'),)
    if form == "legacy":
        fields = (("X-RateLimit-Limit", str(policy.requests)), ("X-RateLimit-Remaining", str(left)))
        return fields if reset is None else (*fields, ("X-RateLimit-Reset", str(ceil(reset))))
    return ()
