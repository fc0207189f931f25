"""`lb nodes`: who serves, and whether traffic should be sent there.

A process alone knows itself only. In a cluster every node knows all of them, and may ask another to drain.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lb_core.columns import columns
from lb_core.commands import Command
from lb_core.errors import LbError
from lb_core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lb_core.balancer import LoadBalancer
    from lb_core.sharing.cluster import Member

HEADER = ("NODE", "STATE", "VERSION", "UP FOR", "WORKERS", "REQUESTS/S", "IN FLIGHT", "CONNECTIONS", "CONFIG")
ORDERS = ("drain", "resume")
LATE = 2.0
"""Seconds after which it is worth saying how long ago a node was last heard of."""


def show(balancer: LoadBalancer, what: str = "", node: str = "") -> str:
    """The table, or what came of an order."""
    if what:
        return _order(balancer, what, node)
    offset = balancer.sharing.offset
    return "\n".join(columns(HEADER, [_row(each, time.time() + offset) for each in _members(balancer)], indent=""))


def data(balancer: LoadBalancer, what: str = "", node: str = "") -> dict[str, Any]:
    """The same for programs; an order first."""
    said = {"said": _order(balancer, what, node)} if what else {}
    return {**said, "nodes": [asdict(each) for each in _members(balancer)]}


def _order(balancer: LoadBalancer, what: str, node: str) -> str:
    if what not in ORDERS:
        raise LbError(f"lb nodes {what!r}: there are `lb nodes drain [NODE]` and `lb nodes resume [NODE]`")
    name = _own(balancer)
    if node and node != name:
        cluster = balancer.sharing.cluster
        if cluster is None:
            raise LbError(f"no node {node!r} is known here: this one is {name!r}, and in no cluster")
        cluster.order(node, what)
        return f"{node} is asked to {what}; `lb nodes` shows what it does"
    if what == "drain":
        changed = balancer.node.drain("lb nodes")
        said = "it goes on serving, and /ready says 503; `lb nodes resume` ends that"
        return f"{name} is draining: {said}" if changed else f"{name} is draining already"
    changed = balancer.node.resume("lb nodes")
    reason = balancer.node.reason
    if reason:
        return f"{name} is not ready: {reason}"
    return f"{name} is ready again" if changed else f"{name} was not draining"


def _members(balancer: LoadBalancer) -> Sequence[Member]:
    cluster = balancer.sharing.cluster
    return [balancer.node.member()] if cluster is None else cluster.members()


def _own(balancer: LoadBalancer) -> str:
    cluster = balancer.sharing.cluster
    known = [] if cluster is None else [each.name for each in cluster.members() if each.own]
    return known[0] if known else balancer.node.name


def _row(member: Member, now: float) -> tuple[str, ...]:
    marks = [mark for mark, holds in (("this one", member.own), ("leader", member.leader)) if holds]
    state = f"{member.state}, {format_duration(round(member.seen))} ago" if member.seen >= LATE else member.state
    return (
        f"{member.name} ({', '.join(marks)})" if marks else member.name,
        state,
        member.version,
        _since(now - member.since),
        str(member.workers),
        f"{member.requests_per_second:.1f}",
        str(member.in_flight),
        str(member.connections),
        member.config,
    )


def _since(seconds: float) -> str:
    """How long that is, in its largest unit."""
    for name, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds / size)}{name}"
    return f"{max(int(seconds), 0)}s"


NODES = Command(
    "nodes",
    show,
    "Show the nodes of the cluster, or this one: `drain [NODE]` has one say that it is not ready, `resume` ends that.",
    ("[WHAT]", "[NODE]"),
    data,
)
