"""The JSON schema that editors use: it accepts what the loader accepts, and shows what is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from lb_core import Feature, Strategy, hookimpl
from lb_core.config import config_from_tree, json_schema
from lb_core.errors import ConfigError
from lb_core.plugins import Plugins
from lb_core.settings import Duration, Settings

jsonschema = pytest.importorskip("jsonschema", reason="the package jsonschema checks the schema")


class TeapotSettings(Settings):
    """A feature's settings."""

    short = "message"

    message: str
    delay: Duration = 0.0


class Options(Settings):
    """A strategy's options."""

    decay: Duration = 10.0
    metric: str


class Extra:
    """A plugin with a strategy and a feature."""

    @hookimpl
    def register_strategies(self) -> Iterator[Strategy]:
        """Offer one with options."""
        yield Strategy("latest", lambda settings: object(), Options, aliases=("newest",))

    @hookimpl
    def register_features(self) -> Iterator[Feature]:
        """Offer one."""
        yield Feature("teapot", lambda route, settings: None, TeapotSettings)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    """Core's own and Extra."""
    found = Plugins()
    found.add(import_module("lb_core.defaults"), "defaults", "lb-core")
    found.add(Extra(), "extra")
    return found


@pytest.fixture(scope="module")
def check(plugins: Plugins) -> Any:
    """A validator of the schema."""
    schema = json_schema(plugins)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def in_route(**sections: Any) -> dict[str, Any]:
    return {"routes": {"a": {"backends": ["a:1"], **sections}}}


GOOD: list[dict[str, Any]] = [
    {"routes": {"a": "a:1", "b": ["b:1"], "c": {"containers": {"x": "c:1", "y": {"url": "http://d", "weight": 0}}}}},
    {"version": 1, "x-notes": [1, {"a": 2}], "defaults": None, "routes": {"a": "a:1"}},
    {"listeners": {"a": ":80", "b": {"address": "[::1]:81", "timeouts": {"header": "5s"}}}, **in_route()},
    {"access_log": False, **in_route()},
    {"access_log": {"format": "clf", "file": "x"}, "trusted_proxies": "::1", **in_route()},
    in_route(strategy="leastconn", health_check="/x", timeouts={"idle": "1m30s"}, retry={"on": ["reset"]}),
    in_route(strategy={"name": "newest", "metric": "x", "decay": "1s"}, health_check=False),
    in_route(health_check={"type": "tcp", "expect": [200, "300-399"], "port": 8}),
    in_route(teapot="hello", ejection=False, max_body="10MB", priority=3, strip_prefix="/x"),
    in_route(teapot={"message": "x", "delay": "1s"}, ejection={"max_ejected": "20%"}),
    in_route(match=[{"path_prefix": "/x", "strip_prefix": True, "methods": "GET", "clients": ["::1"], "name": "n"}]),
    in_route(match={"path": "/x", "headers": {"A": "~b"}, "teapot": False}),
    {"pools": {"p": ["a:1"], "q": {"backends": {"x": "a:1"}, "health_check": "/x"}}, "routes": {"a": {"use": "p"}}},
    {"defaults": {"teapot": "x", "strategy": "least_conn", "health_check": "/x"}, **in_route()},
]

BAD: list[dict[str, Any]] = [
    {"verion": 1},
    {"routes": {"a": {"backends": {}}}},
    {"routes": {"a": {"backends": {"x": {"weight": 1}}}}},
    {"listeners": {"a": {"address": ":80", "host": "x"}}},
    {"defaults": {"backends": ["a:1"]}},
    {"pools": {"p": {"backends": ["a:1"], "strategy": "leastconn"}}},
    {"access_log": "jsn", **in_route()},
    in_route(strategy="p2c"),
    in_route(strategy={"name": "newest", "decay": "1s"}),
    in_route(strategy={"name": "least_conn", "x": 1}),
    in_route(timeouts={"idle": 5}),
    in_route(timeouts={"idle": "5"}),
    in_route(timeouts={"ilde": "5s"}),
    in_route(retry={"budget": 20}),
    in_route(max_body=10),
    in_route(rate_limit={}),
    in_route(teapot={"delay": "1s"}),
    in_route(match=[{"path_prefx": "/x"}]),
]


@pytest.mark.parametrize("tree", GOOD, ids=str)
def test_what_loads_passes(tree: dict[str, Any], check: Any, plugins: Plugins) -> None:
    assert config_from_tree(tree, plugins).routes
    assert [error.message for error in check.iter_errors(tree)] == []


@pytest.mark.parametrize("tree", BAD, ids=str)
def test_what_is_refused_fails(tree: dict[str, Any], check: Any, plugins: Plugins) -> None:
    with pytest.raises(ConfigError):
        config_from_tree(tree, plugins)
    assert not check.is_valid(tree)


def test_defaults_are_shown_as_a_file_writes_them(plugins: Plugins) -> None:
    schema = json_schema(plugins)
    timeouts = schema["$defs"]["Timeouts"]["properties"]
    assert timeouts["tunnel_idle"]["default"] == "1h"
    assert timeouts["connect"]["description"].startswith("for a connection")
    assert "TeapotSettings" in schema["$defs"]
