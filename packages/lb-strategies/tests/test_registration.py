"""What lb-strategies offers, and that every strategy chooses candidates through its hook."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import lb_strategies
from lb_core import Backend, Exchange, Strategy
from lb_core.plugins import Plugins

OFFERED = {each.name: each for each in lb_strategies.register_strategies()}
ALIASES = {
    "roundrobin": "round_robin",
    "rr": "round_robin",
    "wrr": "weighted_round_robin",
    "source": "ip_hash",
    "maglev": "ip_hash",
}


def test_the_names() -> None:
    assert set(OFFERED) == {"round_robin", "weighted_round_robin", "random", "p2c", "ip_hash"}
    assert {alias: each.name for each in OFFERED.values() for alias in each.aliases} == ALIASES


def test_the_entry_point_is_found() -> None:
    plugins = Plugins.discover(built_in=())
    (found,) = [each for each in plugins.loaded if each.distribution == "lb-strategies"]
    assert found.name == "strategies"
    assert plugins.strategies["maglev"] is plugins.strategies["ip_hash"]
    assert plugins.broken == []


@pytest.mark.parametrize("declared", OFFERED.values(), ids=lambda each: each.name)
@pytest.mark.parametrize("count", [1, 2, 3, 17, 100])
def test_every_strategy_chooses_among_the_candidates(declared: Strategy, count: int) -> None:
    plugins = Plugins.discover(built_in=())
    manager = plugins.traffic_manager(declared.build(), [], declared.name)
    where: Any = SimpleNamespace(scheme="http", port=80, serving=None)
    exchange = Exchange(where, where, "192.0.2.7", b"GET", b"/", b"example.com", b"")
    pool = tuple(Backend(f"b{n}", "127.0.0.1", 9000 + n, weight=n % 5 + 1) for n in range(count))
    for candidates in (pool, pool[: count // 2 + 1], pool, pool[count // 2 :]):
        for _ in range(20):
            assert manager.hook.select_backend(exchange=exchange, candidates=candidates) in candidates
