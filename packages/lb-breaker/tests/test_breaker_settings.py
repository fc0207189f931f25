"""The section `circuit_breaker:` and what lb-breaker offers."""

from __future__ import annotations

from typing import Any

import pytest

from lb_breaker.settings import BreakerSettings, replaces
from lb_core import ConfigError
from lb_core.config import Config, config_from_tree, json_schema
from lb_core.plugins import Plugins


def load(section: object, **more: Any) -> Config:
    tree = {"routes": {"example.com": {"backends": ["127.0.0.1:9001"], "circuit_breaker": section}}, **more}
    return config_from_tree(tree, Plugins.discover())


def settings(section: object, **more: Any) -> BreakerSettings:
    (found,) = [each.settings for each in load(section, **more).routes[0].features if each.name == "circuit_breaker"]
    assert isinstance(found, BreakerSettings)
    return found


def chosen(section: object) -> set[str]:
    return {each.name for each in load(section).routes[0].features} & {"circuit_breaker", "ejection"}


def test_the_entry_point_is_found() -> None:
    plugins = Plugins.discover(built_in=())
    (found,) = [each for each in plugins.loaded if each.distribution == "lb-breaker"]
    assert found.name == "breaker"
    assert "circuit_breaker" in plugins.features


@pytest.mark.parametrize(
    ("section", "threshold", "timeout"),
    [
        (True, 5, 60),
        (3, 3, 60),
        ("3", 3, 60),
        ("3/20s", 3, 20),
        (" 3 / 1m30s ", 3, 90),
        ({"threshold": 7, "timeout": "500ms"}, 7, 0.5),
    ],
)
def test_short_and_long_forms(section: object, threshold: int, timeout: float) -> None:
    found = settings(section)
    assert (found.threshold, found.timeout, found.scope, found.statuses) == (
        threshold,
        timeout,
        "backend",
        (502, 503, 504),
    )


def test_off_is_off() -> None:
    assert chosen(False) == {"ejection"}


def test_what_is_inherited_is_merged_key_by_key() -> None:
    found = settings({"probes": 3}, defaults={"circuit_breaker": "4/20s"})
    assert (found.threshold, found.timeout, found.probes) == (4, 20, 3)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("5/60", "a duration needs a unit"),
        ("five", '"five" is not a threshold: write 5, or 5/60s'),
        ({"threshold": 0}, "circuit_breaker.threshold"),
        ({"threshold": True}, "is not a number"),
        ({"timeout": 60}, "write 60s"),
        ({"scope": "pool"}, "backend"),
        ({"error_ratio": 0}, "error_ratio"),
        ({"error_ratio": 50}, "write 50%"),
        ({"statuses": [200]}, "statuses"),
        ({"treshold": 5}, "did you mean threshold?"),
    ],
)
def test_what_cannot_be_is_said(section: object, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(section)
    assert said in str(refused.value)


def test_scope_backend_replaces_passive_ejection_and_scope_route_does_not() -> None:
    assert [*replaces(BreakerSettings())] == ["ejection"]
    assert [*replaces(BreakerSettings(scope="route"))] == []
    assert chosen(True) == {"circuit_breaker"}
    assert chosen({"scope": "route"}) == {"ejection", "circuit_breaker"}


def test_the_schema_knows_the_short_forms() -> None:
    schema = json_schema(Plugins.discover())["$defs"]["BreakerSettings"]
    kinds = [each.get("type") for each in schema["anyOf"]]
    assert kinds == ["integer", "object", "string"]
    assert schema["anyOf"][1]["properties"]["timeout"]["default"] == "1m"
