"""`lb backends`: the backends of every pool, and what an operator wants of one.

What is ordered here reaches every worker and node at once (following.py), and holds for workers that come later. A
mode outlasts reloads; a weight holds until the next one, when that of the configuration comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lb_core import known
from lb_core.backend import NO_LIMIT
from lb_core.columns import columns
from lb_core.commands import Command
from lb_core.errors import LbError
from lb_core.pool import DRAIN
from lb_core.units import format_duration, parse_duration, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lb_core.backend import Backend
    from lb_core.balancer import LoadBalancer
    from lb_core.pool import Pool

HEADER = ("BACKEND", "ADDRESS", "STATE", "SINCE", "WEIGHT", "IN FLIGHT", "REQUESTS", "FAILURES", "REASON")
WHO = "lb backends"
HEAVIEST = 1000


def show_or_order(balancer: LoadBalancer, what: str = "", route: str = "", backend: str = "", value: str = "") -> str:
    """The table, of all or of one route, or what came of an order. Raises LbError."""
    if what not in ORDERS:
        return _table(balancer, _chosen(balancer, what, route))
    if not backend:
        raise LbError(
            f"lb backends {what}: say of which backend, as in `lb backends {what} {route or 'ROUTE'} BACKEND`"
        )
    pool = _pool(balancer, route)
    return ORDERS[what](pool, _backend(pool, backend), value)


def data(balancer: LoadBalancer, what: str = "", route: str = "", backend: str = "", value: str = "") -> dict[str, Any]:
    """The same for programs; an order first."""
    said = {"said": show_or_order(balancer, what, route, backend, value)} if what in ORDERS else {}
    balancer.node.load()
    pools = _chosen(balancer, "", "") if what in ORDERS else _chosen(balancer, what, route)
    return {**said, "pools": [_as_data(balancer, pool) for pool in pools]}


# orders


def _drain(pool: Pool, backend: Backend, value: str) -> str:
    seconds = _duration(value) if value else DRAIN
    if backend.mode == "draining":
        return f"{backend.id} is draining already; `lb backends resume {pool.name} {backend.name}` ends that"
    pool.set_mode(backend, "draining", WHO, seconds=seconds)
    how_long = f", clients that are its own are served for {format_duration(seconds)} more" if seconds else ""
    return f"{backend.id} is draining: it takes no new requests{how_long}"


def _maintain(pool: Pool, backend: Backend, value: str) -> str:
    _nothing("maintenance", value)
    pool.set_mode(backend, "maintenance", WHO)
    return f"{backend.id} is in maintenance: it takes no requests"


def _resume(pool: Pool, backend: Backend, value: str) -> str:
    _nothing("resume", value)
    if backend.mode == "active":
        return f"{backend.id} is active already; its state is {backend.state}"
    pool.set_mode(backend, "active", WHO)
    return f"{backend.id} is active again; its state is {backend.state}"


def _weigh(pool: Pool, backend: Backend, value: str) -> str:
    if not (value.isascii() and value.isdigit() and int(value[:5]) <= HEAVIEST):
        raise LbError(f"lb backends weight: {show(value)} is no weight: give a whole number from 0 to {HEAVIEST}")
    weight = int(value)
    pool.set_weight(backend, weight, operator=True)
    drained = "; it takes no new requests" if not weight else ""
    return f"{backend.id} has weight {weight} until the next reload{drained}"


ORDERS: dict[str, Callable[[Pool, Backend, str], str]] = {
    "drain": _drain,
    "maintenance": _maintain,
    "resume": _resume,
    "weight": _weigh,
}


def _nothing(order: str, value: str) -> None:
    if value:
        raise LbError(f"lb backends {order}: {show(value)} is one word too many")


def _duration(value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise LbError(f"lb backends drain: {error}") from None


# who is meant


def _chosen(balancer: LoadBalancer, route: str, more: str) -> Iterable[Pool]:
    if more:
        raise LbError(f"lb backends: {show(route)} is no order; there are {', '.join(ORDERS)}")
    return (_pool(balancer, route),) if route else balancer.pools.values()


def _pool(balancer: LoadBalancer, name: str) -> Pool:
    """The pool of that route, or that pool."""
    found = balancer.routes.get(name)
    pool = found.pool if found is not None else balancer.pools.get(name)
    if pool is None:
        names = dict.fromkeys((*balancer.routes, *balancer.pools))
        raise LbError(f"there is no route and no pool {show(name)}{_hint(name, names)}")
    return pool


def _backend(pool: Pool, name: str) -> Backend:
    names = {each.name: each for each in pool.backends} | {each.id: each for each in pool.backends}
    if name not in names:
        there = [each.name for each in pool.backends]
        raise LbError(f"there is no backend {show(name)} in {pool.name}{_hint(name, there)}")
    return names[name]


def _hint(name: str, there: Iterable[str]) -> str:
    hint = known.suggestion(name, there)
    return f": {hint}" if hint else "; `lb backends` shows those there are"


# what is shown


def _table(balancer: LoadBalancer, pools: Iterable[Pool]) -> str:
    lines: list[str] = []
    balancer.node.load()  # where there are workers, this adds up what they have counted until now
    for pool in pools:
        lines += ["", _title(balancer, pool)] if lines else [_title(balancer, pool)]
        lines += columns(HEADER, [_row(pool, each) for each in pool.backends])
    return "\n".join(lines)


def _title(balancer: LoadBalancer, pool: Pool) -> str:
    routes = [name for name in _routes(balancer, pool) if name != pool.name]
    return f"{pool.name} (pool of {', '.join(routes)})" if routes else pool.name


def _routes(balancer: LoadBalancer, pool: Pool) -> list[str]:
    return [name for name, route in balancer.routes.items() if route.pool is pool]


def _row(pool: Pool, backend: Backend) -> tuple[str, ...]:
    limit = "" if backend.max_connections == NO_LIMIT else f" of {backend.max_connections}"
    return (
        backend.name,
        backend.address,
        backend.state,
        _ago(pool.clock() - backend.since) if backend.since else "",
        str(backend.configured_weight),
        f"{backend.in_flight}{limit}",
        str(backend.requests),
        str(backend.failures),
        _reason(pool, backend),
    )


def _reason(pool: Pool, backend: Backend) -> str:
    left = backend.drains_until - pool.clock() if backend.state == "draining" else 0.0
    own = f"serves clients that are its own for {left:.0f}s more" if left > 0 else ""
    return "; ".join(filter(None, (backend.reason, own)))


def _ago(seconds: float) -> str:
    """How long ago, in the largest unit."""
    for name, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds / size)}{name}"
    return f"{max(int(seconds), 0)}s"


def _as_data(balancer: LoadBalancer, pool: Pool) -> dict[str, Any]:
    return {
        "pool": pool.name,
        "routes": _routes(balancer, pool),
        "backends": [
            {
                "name": each.name,
                "address": each.address,
                "state": each.state,
                "reason": each.reason,
                "since": each.since,
                "weight": each.configured_weight,
                "in_flight": each.in_flight,
                "max_connections": 0 if each.max_connections == NO_LIMIT else each.max_connections,
                "requests": each.requests,
                "failures": each.failures,
                "candidate": each in pool.candidates,
            }
            for each in pool.backends
        ],
    }


BACKENDS = Command(
    "backends",
    show_or_order,
    "Show the backends, all or those of a route: `drain ROUTE BACKEND [TIME]`, `maintenance ROUTE BACKEND`, "
    "`resume ROUTE BACKEND` and `weight ROUTE BACKEND NUMBER` change one at once, in every worker and node.",
    ("[WHAT]", "[ROUTE]", "[BACKEND]", "[VALUE]"),
    data,
)
