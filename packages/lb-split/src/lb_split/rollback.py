"""Whether a pool fails so much more often than the stable one that it must go."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_split.outcomes import Outcomes
    from lb_split.recent_of_all import Sum
    from lb_split.settings import RollbackSettings


def verdict(canary: Outcomes | Sum, stable: Outcomes | Sum, settings: RollbackSettings) -> bool:
    """True when it must go. A stable pool without requests counts as one without failures."""
    if canary.requests < settings.min_requests:
        return False
    return canary.ratio > settings.ratio * stable.ratio and canary.ratio - stable.ratio > settings.margin
