"""`lb workers`: who carries the traffic of this node, and a restart of them without a lost request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lb_core.columns import columns
from lb_core.commands import Command
from lb_core.errors import LbError
from lb_core.units import format_duration

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer
    from lb_core.node import Workers

HEADER = ("SEAT", "PID", "STATE", "UP FOR", "REQUESTS", "IN FLIGHT", "CONNECTIONS", "MEMORY")
KIB = 1024


def show(balancer: LoadBalancer, what: str = "") -> str:
    """The table, or what came of a restart."""
    workers = _workers(balancer)
    if what:
        return _restart(workers, what)
    return "\n".join(columns(HEADER, [_row(each) for each in workers.figures()], indent=""))


def data(balancer: LoadBalancer, what: str = "") -> dict[str, Any]:
    """The same for programs."""
    workers = _workers(balancer)
    said = {"said": _restart(workers, what)} if what else {}
    return {**said, "workers": [{**each, "memory": _memory(each["pid"])} for each in workers.figures()]}


def _workers(balancer: LoadBalancer) -> Workers:
    if balancer.node.workers is None:
        raise LbError("this node is one process without workers: `workers: 2` in the file and a new start make some")
    return balancer.node.workers


def _restart(workers: Workers, what: str) -> str:
    if what != "restart":
        raise LbError(f"lb workers {what!r}: there are `lb workers` and `lb workers restart`")
    return workers.restart()


def _row(figures: dict[str, Any]) -> tuple[str, ...]:
    memory = _memory(figures["pid"])
    return (
        str(figures["seat"]),
        str(figures["pid"]),
        figures["state"],
        format_duration(max(round(time.time() - figures["since"]), 0)),
        str(figures["requests"]),
        str(figures["in_flight"]),
        str(figures["connections"]),
        f"{memory >> 20} MiB" if memory else "-",
    )


def _memory(pid: int) -> int:
    """Bytes of memory that are this process's share, pages that others have too divided by how many they are."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            return next((int(line.split()[1]) * KIB for line in lines if line.startswith("Pss:")), 0)
    except OSError:
        return 0


WORKERS = Command(
    "workers", show, "Show the workers of this node; `restart` renews them one after the other.", ("[WHAT]",), data
)
