"""Unix sockets and the PROXY protocol in a configuration, and what a person reads when they are written wrongly."""

from __future__ import annotations

import pytest

from lb_core.config import BackendConfig, Config, ListenerConfig, config_from_tree
from lb_core.documents import parse
from lb_core.errors import ConfigError
from lb_core.plugins import Plugins


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.discover()


def built(text: str, plugins: Plugins) -> Config:
    document = parse(text, "lb.yaml")
    return config_from_tree(document.tree, plugins)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "listeners: {web: 'unix:run/lb.sock'}",
            'listeners.web: "unix:run/lb.sock" is not the address of a unix socket',
        ),
        ("listeners: {web: {address: ':80', mode: 0660}}", "mode is of a unix socket's file"),
        ("listeners: {web: {address: 'unix:/a', mode: 660}}", "listeners.web.mode: 660 is not the mode of a file"),
        (
            "listeners: {a: 'unix:/a', b: 'unix:///a'}",
            'listeners.b: "unix:/a" is the address of listener a too',
        ),
        ("listeners: {web: {address: ':80', path: /a}}", 'listeners.web.path: unknown key "path"'),
        ("listeners: {web: {address: ':80', proxy_protocol: []}}", "nobody is trusted to send a PROXY header"),
        ("listeners: {web: {address: ':80', proxy_protocol: true}}", "nobody is trusted to send a PROXY header"),
        (
            "listeners: {web: {address: ':80', proxy_protocol: {trusted: [10.0.0.1/8]}}}",
            'listeners.web.proxy_protocol.trusted[0]: "10.0.0.1/8" has bits set',
        ),
        (
            "listeners: {web: {address: ':80', proxy_protocol: {trusted: unix, timeout: 0s}}}",
            "listeners.web.proxy_protocol.timeout: this cannot be 0",
        ),
        (
            "listeners: {web: {address: ':80', proxy_protocol: {trust: unix}}}",
            'listeners.web.proxy_protocol.trust: unknown key "trust" (did you mean trusted?)',
        ),
        (
            "routes: {'*': ['unix:app.sock']}",
            'routes.*.backends[0]: "unix:app.sock" is not the address of a unix socket',
        ),
        ("routes: {'*': ['unix:/a/b', 'unix:/a:b']}", 'the backend "unix:a:b" is given twice'),
        ("routes: {'*': [{url: 'unix:/a', path: /b}]}", 'unknown key "path"'),
        (
            "routes: {'*': {backends: ['unix:/a'], health_check: {port: 80}}}",
            "routes.*.health_check.port: a backend on a unix socket has no port to check (leave it out)",
        ),
        ("routes: {'*': {backends: ['a:1'], send_proxy: v3}}", 'routes.*.send_proxy: "v3" is not one of off, v1, v2'),
        ("routes: {'*': {backends: ['a:1'], send_proxy: true}}", "routes.*.send_proxy: true is not one of off, v1, v2"),
        (
            "routes: {a: {use: p, send_proxy: v1}, b: {use: p}}\npools: {p: ['a:1']}",
            "routes.b.send_proxy: send_proxy is off here and v1 for routes.a, which has the same backends "
            "(say the same in both)",
        ),
        (
            "routes: {a: {backends: ['a:1'], match: [{path: /x, send_proxy: v2}]}}",
            "send_proxy is v2 here and off for routes.a, which has the same backends",
        ),
    ],
)
def test_mistakes(text: str, message: str, plugins: Plugins) -> None:
    with pytest.raises(ConfigError) as error:
        built(text, plugins)
    (problem,) = error.value.problems
    assert message in str(problem)


def test_a_listener(plugins: Plugins) -> None:
    config = built("listeners: {a: 'unix:///run/a.sock', b: {address: 'unix:/run/b.sock', mode: 0600}}", plugins)
    assert [(each.address, each.host, each.port, each.path, each.mode) for each in config.listeners] == [
        ("unix:/run/a.sock", "", 0, "/run/a.sock", 0o660),
        ("unix:/run/b.sock", "", 0, "/run/b.sock", 0o600),
    ]


@pytest.mark.parametrize("written", ["off", "false"])
def test_switched_off(written: str, plugins: Plugins) -> None:
    text = (
        f"listeners: {{web: {{address: ':80', proxy_protocol: {written}}}}}\n"
        f"defaults: {{send_proxy: v1}}\nroutes: {{a: ['a:1'], b: {{backends: ['b:1'], send_proxy: {written}}}}}"
    )
    config = built(text, plugins)
    assert config.listeners[0].proxy_protocol is None
    assert {pool.name: pool.send_proxy for pool in config.pools} == {"a": "v1", "b": "off"}


def test_routes_that_say_the_same_may_share_a_pool(plugins: Plugins) -> None:
    config = built("routes: {a: {use: p, send_proxy: v1}, b: {use: p, send_proxy: v1}}\npools: {p: ['a:1']}", plugins)
    assert [pool.send_proxy for pool in config.pools] == ["v1"]


def test_names_of_backends(plugins: Plugins) -> None:
    config = built("routes: {'*': ['unix:/run/app.sock', 'http://[::1]:80', 'a:1']}", plugins)
    assert [backend.name for backend in config.pools[0].backends] == ["unix:run:app.sock", "[::1]:80", "a:1"]


def test_a_backend_is_in_one_place() -> None:
    for wrong in ({}, {"host": "a"}, {"port": 1}, {"host": "a", "port": 1, "path": "/a"}):
        with pytest.raises(ValueError, match=r"address is missing|at a host and port, or at a socket file"):
            BackendConfig(**wrong)
    assert BackendConfig(path="/run/a.sock").path == "/run/a.sock"


def test_python_may_build_a_listener() -> None:
    assert ListenerConfig(name="web", address="unix:/run/a.sock").path == "/run/a.sock"
