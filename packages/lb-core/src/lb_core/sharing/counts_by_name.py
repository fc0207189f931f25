"""Counts for whoever limits: by a name that is the same in every process, before a reload and after it.

    counts = windows(route.sharing, f"rate_limit/{route.name}/…", most=100_000, limit=1000, window=60.0)
    counts.hold()                         in the part's `start`; `counts.drop()` in its `close`
    counts.add(key, index)                this process adds; the sum of all is returned

Only where `route.sharing.memory` is not None: a process alone without a cluster counts for itself, at half the price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.sharing.counts_arrivals import ArrivalCounts
from lb_core.sharing.counts_cluster import ClusterArrivalCounts, ClusterGaugeCounts, ClusterWindowCounts
from lb_core.sharing.counts_gauge import GaugeCounts
from lb_core.sharing.counts_windows import WindowCounts

if TYPE_CHECKING:
    from lb_core.sharing.sharing import Sharing

AT_ONCE = 100_000
"""Keys with requests under way: there are never more of them than connections."""


def windows(
    sharing: Sharing, name: str, *, most: int, limit: float, window: float, sliding: bool = True
) -> WindowCounts:
    """Counts of at least `most` keys by windows of `window` seconds: those there are under this name, or new ones.

    `sliding` tells other nodes whether the window before counts in part, too.
    """
    kind = ClusterWindowCounts if sharing.clustered else WindowCounts
    counts = kind.of(sharing, name, most=most, limit=limit, window=window)
    counts.sliding = sliding
    return counts


def arrivals(sharing: Sharing, name: str, *, most: int, limit: float, window: float) -> ArrivalCounts:
    """Theoretical arrival times of at least `most` keys, for a rate of `limit` in `window` seconds."""
    kind = ClusterArrivalCounts if sharing.clustered else ArrivalCounts
    return kind.of(sharing, name, most=most, limit=limit, window=window)


def gauge(sharing: Sharing, name: str, *, limit: float) -> GaugeCounts:
    """How many are under way by key."""
    kind = ClusterGaugeCounts if sharing.clustered else GaugeCounts
    return kind.of(sharing, name, most=AT_ONCE, limit=limit)
