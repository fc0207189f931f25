"""The main curves of the model, drawn."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from benchmarks.cluster.facts import failures, spread
from benchmarks.cluster.load import BUSY
from benchmarks.cluster.tables import KEYS, LIMIT, PER_NODE
from benchmarks.curves import Axis, Curve, Limit, draw_curves

if TYPE_CHECKING:
    from benchmarks.cluster.tables import Model

LEAST = 0.05
"""Per cent below which an error is drawn as this."""


def drawings(model: Model) -> dict[str, str]:
    """File name by SVG text."""
    return {
        "scale-limits.svg": _limits(model),
        "scale-redis.svg": _redis(model),
        "scale-facts.svg": _facts(model),
    }


def _limits(model: Model) -> str:
    def worst(nodes: int, shape: str) -> float:
        found = model.errors[nodes][shape]
        return max(LEAST, 100 * abs(found.first), 100 * abs(found.later))

    curves = [
        Curve(shape, [(nodes, worst(nodes, shape)) for nodes in model.nodes])
        for shape in ("late", "even", "hot", "uneven")
    ]
    caption = (
        f"A limit of {LIMIT:,} in 10 s, exchanges every 50 ms: the larger of a key's first window and those after it"
    )
    return draw_curves(
        "How far a limit is off",
        caption,
        Axis("nodes"),
        Axis("per cent of the limit, over or under"),
        curves,
        Limit("3 %", 3),
    )


def _redis(model: Model) -> str:
    curves = [
        Curve(name, [(nodes * PER_NODE, model.load(nodes, keys=keys).cpu) for nodes in model.nodes])
        for name, keys in ((f"{KEYS // 1_000_000} M clients", KEYS), ("1,000 users", 1000), ("10 routes", 10))
    ]
    caption = f"{PER_NODE:,.0f} requests/s a node, and one limit, by whom or what it counts"
    return draw_curves(
        "How busy Redis is with counts",
        caption,
        Axis("requests/s of all nodes", _thousands),
        Axis("cores"),
        curves,
        Limit("one process, 60 % busy", BUSY),
    )


def _facts(model: Model) -> str:
    nodes = [count for count in (3, 10, 30, 100, 300, 1000, 3000, 10_000) if count <= 10 * model.most]

    def known(count: int, requests: float) -> float:
        return 1000 * spread(failures(Random(model.seed), count, requests), model.costs, 0.0005).everywhere

    def busy(count: int, requests: float) -> float:
        return 1000 * spread(failures(Random(model.seed), count, requests), model.costs, 0.0005).redis_seconds

    curves = [
        Curve("known by all", [(count, known(count, 100)) for count in nodes]),
        Curve("Redis' CPU", [(count, busy(count, 100)) for count in nodes]),
    ]
    caption = "A backend fails that each node sends 100 requests a second; each tells it unless it has heard of it"
    return draw_curves("A backend is ejected everywhere", caption, Axis("nodes"), Axis("milliseconds"), curves)


def _thousands(value: float) -> str:
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k"
