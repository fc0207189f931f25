"""Every example loads, with the installed plugins; the JSON schema agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lb_core.config import Config, json_schema, load_config, read_file
from lb_core.plugins import Plugins

FOLDER = Path(__file__).parent
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".yaml", ".toml"))


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    """What is installed."""
    return Plugins.discover()


def loaded(name: str, plugins: Plugins) -> Config:
    return load_config(FOLDER / name, plugins, {})


def test_there_are_examples() -> None:
    assert len(FILES) >= 7


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_loads_and_passes_the_schema(path: Path, plugins: Plugins) -> None:
    assert loaded(path.name, plugins).routes
    jsonschema = pytest.importorskip("jsonschema", reason="the package jsonschema checks the schema")
    validator = jsonschema.Draft202012Validator(json_schema(plugins))
    assert [error.message for error in validator.iter_errors(read_file(path).tree)] == []


def test_toml_and_python_say_the_same(plugins: Plugins) -> None:
    toml, python = loaded("same.toml", plugins), loaded("balancer.py", plugins)
    assert python.model_dump(exclude={"files", "pools"}) == toml.model_dump(exclude={"files", "pools"})
    assert {pool.name: pool for pool in python.pools} == {pool.name: pool for pool in toml.pools}


def test_hosts(plugins: Plugins) -> None:
    hosts = [route.host for route in loaded("hosts.yaml", plugins).routes]
    assert hosts == ["example.com", "xn--bcher-kva.example", "*.example.com", "**.example.com", "*"]


def test_matching(plugins: Plugins) -> None:
    routes = {route.name: route for route in loaded("matching.yaml", plugins).routes}
    assert routes["beta"].match.headers == {"x-beta": "~^(1|yes)$"}
    assert routes["api.example.com /v2"].strip_prefix == "/v2"
    assert routes["api.example.com /upload"].pool == "api.example.com"
    assert routes["api.example.com /upload"].timeouts.response_header == 300


def test_weights(plugins: Plugins) -> None:
    config = loaded("weights.yaml", plugins)
    assert [backend.weight for backend in config.pools[0].backends] == [3, 1, 0, 1]
    assert config.routes[0].strategy.name == "weighted_round_robin"


def test_health_checks(plugins: Plugins) -> None:
    checks = {pool.name: pool.health_check for pool in loaded("health_checks.yaml", plugins).pools}
    first = checks["example.com"]
    assert first is not None
    assert (first.path, first.interval, first.port) == ("/health", 5, 9100)
    assert first.accepts(308)
    assert checks["static.example.com"] is None


def test_timeouts(plugins: Plugins) -> None:
    config = load_config(FOLDER / "timeouts.yaml", plugins, {"LISTEN": "127.0.0.1:7000"})
    assert [listener.port for listener in config.listeners] == [7000, 8081]
    (route,) = config.routes
    assert (route.timeouts.response_header, route.timeouts.connect, route.retry.attempts) == (10, 3, 2)


def test_proxy_protocol(plugins: Plugins) -> None:
    config = loaded("proxy_protocol.yaml", plugins)
    told = [listener.proxy_protocol for listener in config.listeners]
    assert [[str(each) for each in section.trusted] for section in told if section] == [
        ["10.0.0.0/8"],
        ["127.0.0.1/32"],
    ]
    assert [route.send_proxy for route in config.routes] == ["off", "v2"]
    assert [pool.send_proxy for pool in config.pools] == ["off", "v2"]


def test_unix_sockets(plugins: Plugins) -> None:
    config = loaded("unix_sockets.yaml", plugins)
    assert (config.listeners[0].path, config.listeners[0].mode) == ("/run/lb/lb.sock", 0o660)
    assert [backend.path for backend in config.pools[0].backends] == ["/run/app/app.sock", "/run/app/old.sock"]
    assert config.trusted_proxies == ("unix",)


def test_hostile_clients(plugins: Plugins) -> None:
    (listener,) = loaded("hostile_clients.yaml", plugins).listeners
    limits = listener.limits
    assert (limits.connections, limits.per_client, limits.body_rate, limits.read_rate) == (20_000, 200, 1000, 1000)


def test_rate_limit(plugins: Plugins) -> None:
    routes = loaded("rate_limit.yaml", plugins).routes
    sections: dict[str, Any] = {
        route.name: each.settings for route in routes for each in route.features if each.name == "rate_limit"
    }
    assert sections.keys() == {"example.com", "api.example.com", "new.example.com"}
    assert [(each.requests, each.window) for each in sections["example.com"].limits] == [(1000, 60)]
    assert sections["api.example.com"].names == ("default", "hourly", "all")
    assert (sections["new.example.com"].limits[0].window, sections["new.example.com"].limits[0].dry_run) == (60, True)


def test_queueing(plugins: Plugins) -> None:
    config = loaded("queueing.yaml", plugins)
    waits = {route.name: (route.queue, route.timeouts.queue, route.timeouts.connect) for route in config.routes}
    assert waits == {
        "example.com": (100, 5, 3),
        "reports.example.com": (10, 60, 3),
        "live.example.com": (0, 5, 3),
    }
    room = {backend.name: backend.max_connections for pool in config.pools for backend in pool.backends}
    assert room == {"large": 100, "small": 20, "report": 1, "live": 50}


def test_workers(plugins: Plugins) -> None:
    config = loaded("workers.yaml", plugins)
    assert (config.workers, config.shutdown_delay) == (4, 5)
    assert config.readiness is not None


def test_cluster(plugins: Plugins) -> None:
    config = load_config(FOLDER / "cluster.yaml", plugins, {"REDIS_PASSWORD": "secret"})
    assert config.section("cluster") is not None
    assert config.workers == "auto"
    assert "secret" not in repr(config.section("cluster"))
