"""What workers say of themselves, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lb_core.workers import beats

if TYPE_CHECKING:
    from lb_core.workers.beats import Beats
    from lb_core.workers.seated import Seated


def figures(workers: Iterable[Seated], beating: Beats) -> list[dict[str, Any]]:
    """Every worker, for people and programs, by place."""
    return [
        {
            "seat": each.seat,
            "place": each.place,
            "pid": each.pid,
            "state": each.state,
            "since": each.since,
            "requests": beating.read(each.seat, beats.REQUESTS),
            "in_flight": beating.read(each.seat, beats.IN_FLIGHT),
            "connections": beating.read(each.seat, beats.CONNECTIONS),
        }
        for each in sorted(workers, key=lambda each: (each.place, each.seat))
    ]


def decisions(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What each has recorded of a request, as if one had."""
    made = sorted((each for one in found for each in one["decisions"]), key=lambda each: each["time"])
    reach = min((one["seconds"] for one in found), default=0.0)
    return {"decisions": made, "kept": sum(one["kept"] for one in found), "seconds": reach}
