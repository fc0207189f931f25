"""Failover for lb: a backup domain serves while no backend of a route can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import Feature, hookimpl
from lb_failover.failover import Failover
from lb_failover.settings import FailoverSettings, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Failover", "FailoverSettings"]


@hookimpl
def register_features() -> Iterator[Feature]:
    """Offer `failover`."""
    yield Feature("failover", Failover, FailoverSettings, uses=uses)
