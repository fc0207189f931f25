"""Everything that can be wrong with a configuration, and what the person who wrote it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge, MinLen
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from lb_core import Feature, hookimpl
from lb_core.config import build, config_from_tree, load_config, parse
from lb_core.errors import ConfigError, Problem
from lb_core.known import nearest, package_of, suggestion
from lb_core.plugins import BrokenPlugin, LoadedPlugin, Plugins


class KettleSettings(BaseModel):
    """A third party's settings, without anything of ours."""

    litres: float
    inner: dict[str, int] = {}
    cups: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1,)
    colour: Annotated[str, Field(pattern="^[a-z]+$")] = "black"


class Failing(BaseModel):
    """Settings with a fault of their own."""

    @model_validator(mode="before")
    @classmethod
    def _fail(cls, value: object) -> object:
        raise ZeroDivisionError("by nothing")


class Extra:
    """Two features of a third party."""

    @hookimpl
    def register_features(self) -> Iterator[Feature]:
        """Offer them."""
        yield Feature("kettle", lambda route, settings: None, KettleSettings)
        yield Feature("failing", lambda route, settings: None, Failing)


@pytest.fixture
def plugins() -> Plugins:
    """Core's own and Extra."""
    found = Plugins()
    found.add(import_module("lb_core.defaults"), "defaults", "lb-core")
    found.add(Extra(), "extra")
    return found


def problems(text: str, plugins: Plugins) -> list[Problem]:
    with pytest.raises(ConfigError) as error:
        build(parse(text, "lb.yaml"), plugins)
    return error.value.problems


def told(text: str, plugins: Plugins) -> list[str]:
    return [str(each) for each in problems(text, plugins)]


def in_route(section: str) -> str:
    return f"routes:\n  example.com:\n    backends: [a:1]\n    {section}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verion: 1", 'lb.yaml:1: verion: unknown key "verion" (did you mean version?)'),
        ("xyzzy: 1", 'unknown key "xyzzy" (known are access_log, control, defaults,'),
        ("version: 2", "lb.yaml:1: version: 2 is not a version of this format (write version: 1)"),
        ("routes: 3", "lb.yaml:1: routes: 3 is not a mapping (write the routes as name: value)"),
        ("listeners: [a]", "listeners: a list is not a mapping"),
        ("listeners: {web: ':99999'}", "listeners.web: port 99999 is not between 0 and 65535"),
        (
            "listeners: {web: {address: ':80', limit: {}}}",
            'listeners.web.limit: unknown key "limit" (did you mean limits?)',
        ),
        ("listeners: {web: {}}", 'listeners.web.address: the key "address" is missing'),
        ("listeners: {web: {address: ':80', port: 80}}", 'listeners.web.port: unknown key "port"'),
        ("listeners: {web: {address: ':80', tls: true}}", 'listeners.web.tls: "tls" is in lb-ssl (pip install lb-ssl)'),
        ("listeners: {a b: ':80'}", '"a b" is not a name for a listener'),
        (
            "listeners: {a: ':80', b: ':80'}",
            'listeners.b: ":80" is the address of listener a too (keep one of the two)',
        ),
        ("listeners: {a: {address: ':80', timeouts: {header: 0s}}}", "listeners.a.timeouts.header: this cannot be 0"),
        ("access_log: jsn", 'access_log: "jsn" is not one of json, clf, off (did you mean json?)'),
        ("access_log: {formt: clf}", 'access_log.formt: unknown key "formt" (did you mean format?)'),
        ("access_log: [clf]", "access_log: a list is not one of json, clf, off"),
        ("trusted_proxies: [10.0.0.1/8]", 'trusted_proxies[0]: "10.0.0.1/8" has bits set to the right of its mask'),
        ("trusted_proxies: {a: b}", "trusted_proxies: a mapping is not a list"),
        ("no_route_status: abc", 'no_route_status: "abc" is not a whole number'),
        ("no_route_status: 1.5", "no_route_status: 1.5 is not a whole number"),
        ("no_route_status: true", "no_route_status: true is not a number"),
        ("no_route_status: 200", "no_route_status: 200 should be greater than or equal to 400"),
        ("log_level: loud", '"loud" is not one of debug, info, warning, error'),
        ("docker: {enabled: true}", 'docker: the section "docker" is in lb-docker (pip install lb-docker)'),
        ("admin: {}", 'the section "admin" is in lb-admin'),
        ("cluster: {redis: x}", 'the section "cluster" is in lb-redis'),
        ("defaults: {backends: [a:1]}", '"backends" belongs to a route (defaults may hold strategy,'),
        (
            "defaults: {timeouts: {conect: 1s}}",
            'defaults.timeouts.conect: unknown key "conect" (did you mean connect?)',
        ),
        ("defaults: {rate_limit: {}}", '"rate_limit" is in lb-ratelimit (pip install lb-ratelimit)'),
        ("defaults: {ejecton: off}", 'defaults.ejecton: unknown key "ejecton" (did you mean ejection?)'),
        (
            "defaults: {strategy: rr}",
            'defaults.strategy: strategy "rr" is in lb-strategies (pip install lb-strategies)',
        ),
        ("pools: {p: 3}", "pools.p: 3 is not a pool (write {backends: [host:port, …]})"),
        ("pools: {p: {}}", "pools.p: this pool has no backends"),
        ("pools: {p: {backends: [a:1], strategy: rr}}", 'pools.p.strategy: unknown key "strategy"'),
        ("pools: {p/q: [a:1]}", '"p/q" is not a name for a pool'),
    ],
)
def test_at_the_top(text: str, message: str, plugins: Plugins) -> None:
    (problem,) = told(text, plugins)
    assert message in problem
    assert problem.startswith("lb.yaml:1: ")


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ('"exa mple.com": [a:1]', '"exa mple" should be 1 to 63 letters'),
        ('"http://a.com": [a:1]', "is a URL: a route is a host"),
        ("a.com:", "this route is empty (write backends: [host:port, …] below it)"),
        ("a.com: 3", "3 is not a route"),
        ("a.com: {}", "this route has no backends (add backends: [host:port, …], or use: and the name of a pool)"),
        ("a.com: {backends: {}}", 'backends is empty: there is nobody to serve (write backends: ["host:port", …])'),
        ("a.com: {containers: }", "containers is empty"),
        ("a.com: []", "backends is empty"),
        ("a.com: {backends: 3}", "3 is not a set of backends (write {name: host:port, …} or a list)"),
        ("a.com: {backends: [a:1, a:1]}", 'routes.a.com.backends[1]: the backend "a:1" is given twice'),
        ("a.com: {backends: {a b: a:1}}", 'routes.a.com.backends.a b: "a b" is not a name for a backend'),
        ("a.com: {backends: [a]}", 'routes.a.com.backends[0]: "a" has no port: write "a:8080"'),
        ("a.com: {backends: {w: https://a}}", "TLS to backends comes with lb-ssl"),
        ("a.com: {backends: {w: {url: a:1, wieght: 3}}}", 'w.wieght: unknown key "wieght" (did you mean weight?)'),
        ("a.com: {backends: {w: {url: a:1, weight: 1001}}}", "w.weight: 1001 should be less than or equal to 1000"),
        ("a.com: {backends: {w: {url: a:1, weight: x}}}", 'w.weight: "x" is not a whole number'),
        ("a.com: {backends: {w: {url: a:1, backup: maybe}}}", 'w.backup: "maybe" is not true or false'),
        ("a.com: {backends: {w: {url: a:1, zone: 3}}}", 'w.zone: 3 is not text (put it in quotes: "3")'),
        ("a.com: {backends: {w: {url: a:1, name: v}}}", 'w.name: unknown key "name"'),
        ("a.com: {backends: {w: {url: a:1, host: v}}}", 'w.host: unknown key "host"'),
        ("a.com: {backends: {w: {url: a:1, tls: {}}}}", '"tls" is in lb-ssl'),
        ("a.com: {backends: {w: {weight: 1}}}", "the address is missing: write url:"),
        ("a.com: {backends: [a:1], containers: [b:1]}", "containers and backends are the same thing"),
        ("a.com: {use: p}", 'routes.a.com.use: there is no pool "p" (add it under pools:)'),
        ("a.com: {use: 3}", "there is no pool 3"),
    ],
)
def test_hosts_and_backends(host: str, message: str, plugins: Plugins) -> None:
    (problem,) = told(f"routes:\n  {host}", plugins)
    assert message in problem
    assert problem.startswith("lb.yaml:2: routes.")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("strategi: x", 'routes.example.com.strategi: unknown key "strategi" (did you mean strategy?)'),
        ("helth_check: /", 'unknown key "helth_check" (did you mean health_check?)'),
        ("rate_limt: {}", 'unknown key "rate_limt" (did you mean rate_limit?)'),
        ("xyzzy: {}", 'unknown key "xyzzy" (`lb plugins` lists the features that are installed)'),
        ("rate_limit: {}", '"rate_limit" is in lb-ratelimit (pip install lb-ratelimit)'),
        ("sticky_sessions: {}", '"sticky_sessions" is in lb-sessions (pip install lb-sessions)'),
        ("circuit_breaker: {}", '"circuit_breaker" is in lb-breaker (pip install lb-breaker)'),
        ("ssl_config: {}", '"ssl_config" is in lb-ssl'),
        (
            "strategy: p2c",
            'routes.example.com.strategy: strategy "p2c" is in lb-strategies (pip install lb-strategies)',
        ),
        ("strategy: {name: p2c, metric: ewma}", 'strategy "p2c" is in lb-strategies'),
        ("strategy: least_conections", 'unknown strategy "least_conections" (did you mean'),
        ("strategy: xyzzy", 'unknown strategy "xyzzy" (known are least_conn, least_connections,'),
        (
            "strategy: {name: least_conn, x: 1}",
            'strategy.x: unknown key "x" (strategy least_connections has no options)',
        ),
        ("strategy: 3", "3 is not a strategy (write its name, or {name: …, option: …})"),
        ("strategy: {metric: ewma}", "a mapping is not a strategy"),
        ("strategy: 'no such:x'", '"no such:x" is not a strategy (write a name, or "module:Class")'),
        ("strategy: no_such_module:X", "No module named 'no_such_module' (looked beside lb.yaml and on Python's path)"),
        ("strategy: lb_core.errors:ConfigEror", 'lb_core.errors has no "ConfigEror" (did you mean ConfigError?)'),
        ("strategy: lb_core.errors:zzz", 'lb_core.errors has no "zzz"'),
        (
            "strategy: lb_core.errors:ConfigError",
            "is not a strategy: it has no method select_backend(self, candidates)",
        ),
        ("strategy: lb_core.backend:NO_LIMIT", "is not a strategy: it is a int, not a class"),
        ("strategy: lb_core.hooks:TrafficHooks", "its select_backend lacks the mark @hookimpl"),
        ("timeouts: {idle: 5}", "timeouts.idle: a duration needs a unit: write 5s or 5ms instead of 5"),
        ("timeouts: {idle: soon}", '"soon" is not a duration: write 500ms, 10s, 5m or 1h'),
        ("timeouts: 5s", 'timeouts: "5s" is not a mapping (known keys are connect, response_header,'),
        ("timeouts: {connect: 0s}", "timeouts.connect: this cannot be 0: write 500ms, 10s, 5m or 1h"),
        ("retry: {attempts: 11}", "retry.attempts: 11 should be less than or equal to 10"),
        (
            "retry: {on: [conect]}",
            'retry.on[0]: "conect" is not one of connect, reset, timeout (did you mean connect?)',
        ),
        ("retry: {budget: 20}", "retry.budget: a share needs its unit: write 20% instead of 20"),
        ("max_body: 10", "max_body: a size needs a unit: write 10B, 10KiB or 10MiB instead of 10"),
        ("max_body: 10X", '"10X" is not a size: write 512B, 64KiB, 10MB or 1GiB'),
        ("host_header: keep", '"keep" is not one of preserve, backend'),
        ("priority: 1001", "priority: 1001 should be less than or equal to 1000"),
        ("strip_prefix: v2", '"v2" is not a path prefix'),
        ("strip_prefix: true", "strip_prefix: true needs a path_prefix to strip (write the prefix)"),
        ("health_check: health", 'health_check: "health" is not a path: begin it with /'),
        ("health_check: {path: x}", 'health_check.path: "x" is not a path'),
        ("health_check: {interval: 3}", "health_check.interval: a duration needs a unit"),
        ("health_check: {expects: 200}", 'health_check.expects: unknown key "expects" (did you mean expect?)'),
        ("ejection: {duration: 3}", "ejection.duration: a duration needs a unit"),
        ("ejection: {max_ejectd: 3%}", 'unknown key "max_ejectd" (did you mean max_ejected?)'),
        ("ejection:", "ejection: this section is empty (write `true` for its defaults, `off` to switch it off)"),
        ("kettle: {litres: lots}", 'kettle.litres: "lots" is not a number'),
        ("kettle: {litres: 1, inner: {a: x}}", 'kettle.inner.a: "x" is not a whole number'),
        ("kettle: true", 'kettle: the key "litres" is missing'),
        ("kettle: 3", "kettle: 3 is not a mapping (known keys are litres, inner, cups, colour)"),
        ("failing: true", "failing: Failing failed: ZeroDivisionError: by nothing"),
        ("match: 3", "match: 3 is not a list of rules"),
        ("match: [3]", "match[0]: 3 is not a rule (write {path_prefix: /v2, …})"),
        ("match: [{path_prefx: /a}]", 'match[0].path_prefx: unknown key "path_prefx" (did you mean path_prefix?)'),
        ("match: [{path: a}]", 'match[0].path: "a" is not a path: begin it with /'),
        ("match: [{headers: {X: '~['}}]", 'match[0].headers: X: "[" is not a regular expression'),
        ("match: [{methods: GET POST}]", '"GET POST" is not a method'),
        ("match: [{clients: [10.0.0.1/8]}]", "match[0].clients[0]: "),
        ("match: [{path: /a, name: 3}]", "match[0].name: 3 is not a name"),
        ("match: [{path: /a, match: []}]", 'match[0].match: unknown key "match"'),
        ("match: [{path: /a, use: p}]", 'match[0].use: there is no pool "p"'),
        (
            "match: [{path: /a, health_check: /x}]",
            "this rule shares the backends of its route (set health_check there,",
        ),
        ("match: [{methods: GET}, {methods: [get]}]", 'duplicate route "example.com GET", first given in line 4'),
        ("match: [{path_prefix: /a}, {path_prefix: /a/}]", 'duplicate route "example.com /a"'),
        ("match: [{path_prefix: /}]", "this rule has no condition: it takes the same requests as routes.example.com"),
        ("match: [{path: /a, name: x}, {path: /b, name: x}]", 'the name "x" is taken, first given in line 4'),
    ],
)
def test_in_a_route(section: str, message: str, plugins: Plugins) -> None:
    (problem,) = told(in_route(section), plugins)
    assert message in problem
    assert problem.startswith(("lb.yaml:4: routes.example.com", "lb.yaml:2: routes.example.com"))


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ("cups: []", ["cups: this list is empty (write one at least, or leave the key out)"]),
        ("cups: [0]", ["cups[0]: 0 should be greater than or equal to 1"]),
        ('colour: "a b"', ['colour: "a b" is not of a form that may stand here (the pattern is ^[a-z]+$)']),
    ],
)
def test_what_the_checks_of_types_find_is_worded_and_told_once(
    settings: str, messages: list[str], plugins: Plugins
) -> None:
    kettle = "lb.yaml:4: routes.example.com.kettle."
    assert told(in_route(f"kettle: {{litres: 1, {settings}}}"), plugins) == [kettle + each for each in messages]


def test_the_same_host_twice(plugins: Plugins) -> None:
    assert told("routes:\n  Example.com: [a:1]\n  example.com.: [b:1]\n", plugins) == [
        'lb.yaml:3: routes.example.com.: duplicate route "example.com", first given in line 2 as routes.Example.com '
        "(keep one of the two)"
    ]


def test_use_and_backends(plugins: Plugins) -> None:
    text = "pools: {p: [a:1]}\nroutes: {a: {use: p, backends: [b:1], health_check: /x}}"
    assert [each.message for each in problems(text, plugins)] == [
        "use and backends exclude each other",
        "the backends belong to another pool",
    ]


def test_a_misspelt_pool(plugins: Plugins) -> None:
    (problem,) = told("pools: {api-v2: [a:1]}\nroutes: {a: {use: api_v2}}", plugins)
    assert 'there is no pool "api_v2" (did you mean api-v2?)' in problem


def test_a_pool_and_a_host_of_one_name(plugins: Plugins) -> None:
    (problem,) = told("pools: {a: [a:1]}\nroutes: {a: [b:1]}", plugins)
    assert 'routes.a: the name "a" is taken by pools.a' in problem


def test_rules_without_anybody_to_serve(plugins: Plugins) -> None:
    (problem,) = told("routes:\n  a:\n    match:\n      - {path: /x}\n", plugins)
    assert "lb.yaml:4: routes.a.match[0]: this rule has no backends, and its route has none to share" in problem


def test_a_mistake_in_the_defaults_is_told_once(plugins: Plugins) -> None:
    text = """defaults:
  timeouts: {idle: 5}
  strategy: p2c
  kettle: {inner: {}}
  health_check: x
routes: {a: [a:1], b: {backends: [b:1], timeouts: {connect: 1s}}}
"""
    assert [(each.line, each.where) for each in problems(text, plugins)] == [
        (2, "defaults.timeouts.idle"),
        (3, "defaults.strategy"),
        (4, "defaults.kettle.litres"),
        (5, "defaults.health_check"),
    ]


def test_everything_at_once_in_the_order_of_the_lines(plugins: Plugins) -> None:
    text = """verion: 1
listeners: {web: ":99999"}
routes:
  a b: [a:1]
  c.com:
    backends: {x: "https://x", x: b:1}
    timeouts: {idle: 5}
    strategy: p2c
    tls: {}
docker: {}
a: ${NOPE}
"""
    document = parse(text, "lb.yaml")
    with pytest.raises(ConfigError) as error:
        build(document, plugins)
    assert [each.line for each in error.value.problems] == [1, 2, 4, 6, 6, 7, 8, 9, 10, 11]
    assert all(each.file == "lb.yaml" for each in error.value.problems)
    assert str(error.value).count("\n") == 9


def test_a_file_without_routes(tmp_path: Path, plugins: Plugins) -> None:
    path = tmp_path / "lb.yaml"
    path.write_text("access_log: off\n")
    with pytest.raises(ConfigError, match=r"there are no routes \(add routes: {\"\*\": \[host:port\]}\)"):
        load_config(path, plugins, {})


def test_a_package_that_is_there_but_not_in_use(plugins: Plugins) -> None:
    tree: dict[str, Any] = {"routes": {"a": {"backends": ["a:1"], "rate_limit": {}}}}
    plugins.broken.append(BrokenPlugin("ratelimit", "lb-ratelimit", "ImportError: no clock"))
    with pytest.raises(ConfigError, match=r"it is installed, but broken: ImportError: no clock"):
        config_from_tree(tree, plugins)
    plugins.broken.clear()
    plugins.loaded.append(LoadedPlugin("ratelimit", "lb-ratelimit", "0.0.1", (), object()))
    with pytest.raises(ConfigError, match="the installed lb-ratelimit does not have it yet"):
        config_from_tree(tree, plugins)


def test_a_module_that_fails(tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "fails_at_import.py").write_text("1 / 0")
    (tmp_path / "lb.yaml").write_text("routes: {a: {backends: [a:1], strategy: 'fails_at_import:X'}}")
    with pytest.raises(
        ConfigError, match=r'"fails_at_import:X" cannot be imported: ZeroDivisionError: division by zero$'
    ):
        load_config(tmp_path / "lb.yaml", plugins, {})


def test_a_class_that_is_no_strategy(plugins: Plugins) -> None:
    with pytest.raises(ConfigError, match='"Extra" is not a strategy: it has no method select_backend'):
        config_from_tree({"routes": {"a": {"backends": ["a:1"], "strategy": Extra}}}, plugins)


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["a:1", "/", "1s"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = [
    *("backends", "containers", "use", "strategy", "health_check", "match", "timeouts", "retry", "max_body"),
    *("strip_prefix", "host_header", "priority", "ejection", "kettle", "path", "path_prefix", "headers", "name"),
]
_ROUTE = st.dictionaries(st.sampled_from(_KEYS), _JUNK, max_size=5)
_TREE = st.fixed_dictionaries(
    {},
    optional={
        "listeners": _JUNK,
        "access_log": _JUNK,
        "plugins": _JUNK,
        "trusted_proxies": _JUNK,
        "defaults": _ROUTE | _JUNK,
        "pools": st.dictionaries(st.sampled_from(["a", "b"]), _ROUTE | _JUNK, max_size=2),
        "routes": st.dictionaries(
            st.sampled_from(["a", "*.b", "**.c", "*"]),
            _ROUTE | _JUNK | _ROUTE.map(lambda rule: {"backends": ["a:1"], "match": [rule]}),
            max_size=3,
        ),
    },
)


@given(_TREE)
@settings(max_examples=150, deadline=None)
def test_any_tree_is_a_config_or_a_config_error(tree: dict[str, Any]) -> None:
    plugins = Plugins()
    plugins.add(import_module("lb_core.defaults"), "defaults", "lb-core")
    plugins.add(Extra(), "extra")
    try:
        config = config_from_tree(tree, plugins)
    except ConfigError as error:
        assert all(problem.message for problem in error.problems)  # noqa: PT017 - either outcome is right
    else:
        assert {route.pool for route in config.routes} <= {pool.name for pool in config.pools}
        assert len({route.name for route in config.routes}) == len(config.routes)


def test_near_words() -> None:
    assert nearest("Least-Connections", ["least_connections", "x"]) == "least_connections"
    assert nearest("xyzzy", ["least_connections"]) == ""
    assert suggestion("x", [str(number) for number in range(40)]) == ""
    assert package_of("features", "mirror") == "lb-split"
    assert package_of("features", "nothing") == ""
