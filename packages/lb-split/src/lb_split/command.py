"""`lb shift`: other shares for a route's split, in the running balancer and at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import Command, LbError
from lb_split.shares import parse, suggestion
from lb_split.split import split_of

if TYPE_CHECKING:
    from lb_core import LoadBalancer


def shift(balancer: LoadBalancer, route: str, *shares: str) -> str:
    """Change the shares of a route, and say what they are; without `shares` only say it. Raises LbError."""
    found = balancer.routes.get(route)
    if found is None:
        raise LbError(f'there is no route "{route}" ({suggestion(route, balancer.routes)})')
    split = split_of(found)
    if shares:
        split.shift(parse(shares))
    return "\n".join(split.describe())


SHIFT = Command(
    "shift",
    shift,
    "Change the shares of a route's split at once: `lb shift api.example.com canary=20` gives canary 20 %.",
    ("ROUTE", "[POOL=PERCENT]..."),
)
