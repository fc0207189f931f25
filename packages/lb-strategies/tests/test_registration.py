"""What lb-strategies offers, and that every strategy chooses candidates through its hook."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import lb_strategies
from lb_core import Backend, ConfigError, Exchange, Strategy
from lb_core.config import Config, config_from_tree
from lb_core.plugins import Plugins
from lb_strategies import ConsistentHashSettings, EwmaSettings, P2cSettings

OFFERED = {each.name: each for each in lb_strategies.register_strategies()}
ALIASES = {
    "roundrobin": "round_robin",
    "rr": "round_robin",
    "wrr": "weighted_round_robin",
    "source": "ip_hash",
    "maglev": "ip_hash",
    "peak_ewma": "ewma",
}


def test_the_names() -> None:
    assert set(OFFERED) == {
        "round_robin",
        "weighted_round_robin",
        "random",
        "p2c",
        "ewma",
        "ip_hash",
        "consistent_hash",
        "first",
    }
    assert {alias: each.name for each in OFFERED.values() for alias in each.aliases} == ALIASES


def test_the_entry_point_is_found() -> None:
    plugins = Plugins.discover(built_in=())
    (found,) = [each for each in plugins.loaded if each.distribution == "lb-strategies"]
    assert found.name == "strategies"
    assert plugins.strategies["maglev"] is plugins.strategies["ip_hash"]
    assert "slow_start" in plugins.features
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


@pytest.mark.parametrize(
    ("written", "settings"),
    [
        ("peak_ewma", EwmaSettings()),
        ({"name": "ewma", "decay": "10s"}, EwmaSettings(decay=10)),
        ({"name": "ewma", "decay": "1m", "explore": "0s"}, EwmaSettings(decay=60, explore=0)),
        ({"name": "p2c", "metric": "ewma", "decay": "5s"}, P2cSettings(metric="ewma", decay=5)),
        ({"name": "consistent_hash", "on": "cookie:id"}, ConsistentHashSettings(on="cookie:id")),
        ({"name": "consistent_hash", "bounded": False}, ConsistentHashSettings(bounded=0)),
        ({"name": "consistent_hash", "bounded": 2}, ConsistentHashSettings(bounded=2)),
    ],
)
def test_the_long_form_carries_options(written: object, settings: object) -> None:
    assert config(strategy=written).routes[0].strategy.settings == settings


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"name": "ewma", "decay": "0s"}, "routes.*.strategy.decay: this cannot be 0"),
        ({"name": "ewma", "decay": 10}, "routes.*.strategy.decay: a duration needs a unit: write 10s"),
        ({"name": "p2c", "metric": "latency"}, "routes.*.strategy.metric: "),
        ({"name": "p2c", "decay": "10s"}, "decay has no effect on the metric in_flight: write metric: ewma"),
        ({"name": "consistent_hash", "on": "body"}, 'on: "body" is nothing to go by: write client, path, header:X-'),
        ({"name": "consistent_hash", "on": "header:"}, 'on: "" is not the name of a header'),
        ({"name": "consistent_hash", "on": "cookie:a b"}, 'on: "a b" is not the name of a cookie'),
        ({"name": "consistent_hash", "on": "query:a=b"}, 'on: "a=b" is not the name of a parameter'),
        ({"name": "consistent_hash", "bounded": 0.5}, "bounded: 0.5 is not a bound: write 1.25"),
        ({"name": "consistent_hash", "bounded": True}, "bounded: True is not a bound: write 1.25"),
        ({"name": "first", "limit": 3}, "strategy first has no options"),
    ],
)
def test_a_mistake_in_the_options_is_named_with_its_place(written: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(strategy=written)
    assert message in str(caught.value)


def config(**route: object) -> Config:
    backends = ["127.0.0.1:9001", "127.0.0.1:9002"]
    return config_from_tree({"routes": {"*": {"backends": backends, **route}}}, Plugins.discover(), source="")
