"""A pool's part in a split: its weight, and how it has fared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_split.outcomes import Outcomes
from lb_split.settings import SELF

if TYPE_CHECKING:
    from lb_core import Exchange, Pool, Route
    from lb_split.settings import PoolSettings


class Part:
    """A pool's part in the split: its weight now, and how it has fared. `pool` is the route's own for `self`."""

    __slots__ = ("failed", "name", "own", "pool", "recent", "requests", "rolled_back", "weight")

    def __init__(self, settings: PoolSettings, route: Route, window: float) -> None:
        self.name = settings.use
        self.own = settings.use == SELF
        self.pool: Pool = route.pool if self.own else route.pools[settings.use]
        self.weight = float(settings.weight or 0)
        self.requests = 0
        self.failed = 0
        self.recent = Outcomes(window)
        self.rolled_back = False


def has_failed(exchange: Exchange) -> bool:
    """Whether an exchange is to the discredit of its pool: a 5xx, a failed attempt, an answer that broke off.

    A kept connection that the backend had closed while idle says nothing about it.
    """
    if exchange.status >= 500:
        return True
    if exchange.error is not None and not getattr(exchange.error, "reused", False):
        return True
    return bool(exchange.flags) and ("reset" in exchange.flags or "read_timeout" in exchange.flags)
