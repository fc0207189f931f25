"""The sections in a file: what they may hold, and what is said of what they may not."""

from __future__ import annotations

from typing import Any

import pytest

from lb_core import ConfigError
from lb_core.config import Config, config_from_tree
from lb_core.plugins import Plugins

PLUGINS = Plugins.discover()


def config(**route: Any) -> Config:
    tree = {
        "routes": {"example.com": {"backends": ["127.0.0.1:9001"], **route}},
        "pools": {"canary": {"backends": ["127.0.0.1:9002"]}},
    }
    return config_from_tree(tree, PLUGINS, source="lb.yaml")


def refused(**route: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(**route)
    return str(caught.value)


def settings_of(config: Config, name: str) -> Any:
    return next(each.settings for each in config.routes[0].features if each.name == name)


STABLE, CANARY = {"use": "self", "weight": 95}, {"use": "canary", "weight": 5}


def test_defaults() -> None:
    split = settings_of(config(split=[STABLE, CANARY]), "split")
    assert (split.sticks_by, split.cookie, split.ttl) == ("request", "lb_split", 0.0)
    rollback = split.rollback
    assert (rollback.enabled, rollback.ratio, rollback.margin, rollback.window, rollback.min_requests) == (
        True,
        2.0,
        0.05,
        60.0,
        20,
    )
    mirror = settings_of(config(mirror={"use": "canary", "percent": 10}), "mirror")
    assert (mirror.max_body, mirror.timeout, mirror.max_in_flight) == (65536, 3.0, 50)


def test_what_clients_stick_by() -> None:
    sticky = {**CANARY, "sticky": True}
    assert settings_of(config(split=[STABLE, sticky]), "split").sticks_by == "cookie"
    for by in ("request", "cookie", "client"):
        assert settings_of(config(split={"pools": [STABLE, CANARY], "by": by}), "split").sticks_by == by
    assert "by: request remembers no client" in refused(split={"pools": [STABLE, sticky], "by": "request"})


def test_rollback_may_be_off() -> None:
    assert not settings_of(config(split={"pools": [STABLE, CANARY], "rollback": False}), "split").rollback.enabled


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ([STABLE, {"use": "canry", "weight": 5}], r'split[1].use: there is no pool "canry" (did you mean canary?)'),
        ([STABLE, {"use": "canary"}], 'split[1]: pool "canary" has no weight: write weight: 5, or give it a header'),
        ([STABLE, {**CANARY, "wieght": 5}], 'split[1].wieght: unknown key "wieght" (did you mean weight?)'),
        ([STABLE, {**CANARY, "weight": 1001}], "split[1].weight: 1001 should be less than or equal to 1000"),
        ([STABLE, {**CANARY, "weight": 2.5}], "split[1].weight: 2.5 is not a whole number"),
        ([STABLE, STABLE], 'pool "self" is there 2 times'),
        ([{**STABLE, "weight": 0}, {**CANARY, "weight": 0}], "no pool has a weight above 0"),
        ([], "split"),
        ([STABLE, {**CANARY, "header": {"X-A": 1}}], 'X-A: 1 is not text: put it in quotes, "1"'),
        ([STABLE, {**CANARY, "header": {"X A": "1"}}], '"X A" is not the name of a header field'),
        ([STABLE, {**CANARY, "header": {"X-A": "~("}}], 'X-A: "(" is not a regular expression'),
        ([STABLE, {**CANARY, "clients": ["10.0.0.0/33"]}], "split[1].clients[0]"),
        ({"pools": [STABLE, {"use": "nobody", "weight": 1}]}, 'split.pools[1].use: there is no pool "nobody"'),
        ({"pools": [STABLE], "cookie": "a b"}, "split.cookie"),
        ({"pools": [STABLE], "rollback": {"ratio": 0.5}}, "split.rollback.ratio"),
        ({"pools": [STABLE], "rollback": {"window": "0s"}}, "split.rollback.window: this cannot be 0"),
        ("canary", "split"),
    ],
)
def test_what_a_split_may_not_be(split: Any, message: str) -> None:
    assert message in refused(split=split)


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ("canary", 'mirror.percent: the key "percent" is missing'),
        ({"use": "canary", "percent": 101}, "mirror.percent: 101 should be less than or equal to 100"),
        ({"use": "canary", "percent": True}, "write how many of a hundred: percent: 10"),
        ({"use": "canary", "percent": "many"}, 'mirror.percent: "many" is not a number'),
        ({"use": "canry", "percent": 10}, 'mirror.use: there is no pool "canry" (did you mean canary?)'),
        ({"use": "self", "percent": 10}, 'there is no pool "self"'),
    ],
)
def test_what_a_mirror_may_not_be(mirror: Any, message: str) -> None:
    assert message in refused(mirror=mirror)


def test_a_mirror_of_nothing_is_none() -> None:
    from lb_core import LoadBalancer

    made = config(mirror={"use": "canary", "percent": 0})
    assert "mirror" not in dict(LoadBalancer(made, plugins=PLUGINS).routes["example.com"].parts)


def test_the_command_is_offered() -> None:
    assert PLUGINS.commands["shift"].usage == "shift ROUTE [POOL=PERCENT]..."
