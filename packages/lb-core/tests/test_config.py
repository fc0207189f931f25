"""From files to a Config: what is read, merged and inherited."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from ipaddress import ip_network
from pathlib import Path
from time import process_time

import pytest

from lb_core import Feature, Strategy, hookimpl
from lb_core.config import (
    Config,
    RouteConfig,
    build,
    build_strategy,
    config_from_tree,
    load_config,
    parse,
    plugins_section,
    read,
)
from lb_core.errors import ConfigError
from lb_core.merge import inherit, merge
from lb_core.plugins import Plugins
from lb_core.settings import Duration, Settings, Whole


class Latest:
    """A strategy with options."""

    class Settings(Settings):
        """The same options, for use as module:Class."""

        decay: Duration = 10.0

    def __init__(self, settings: Latest.Settings | None = None) -> None:
        self.settings = settings

    @hookimpl
    def select_backend(self, candidates: tuple[object, ...]) -> object:
        """The last one."""
        return candidates[-1]


class TeapotSettings(Settings):
    """A feature's settings."""

    short = "message"

    message: str
    delay: Duration = 0.0
    strength: Whole = 1


class Extra:
    """A plugin with a strategy and two features."""

    @hookimpl
    def register_strategies(self) -> Iterator[Strategy]:
        """Offer one with options."""
        yield Strategy("latest", Latest, Latest.Settings, aliases=("newest",))

    @hookimpl
    def register_features(self) -> Iterator[Feature]:
        """Offer two."""
        yield Feature("teapot", lambda route, settings: None, TeapotSettings)
        yield Feature("kettle", lambda route, settings: None, TeapotSettings)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    """Core's own and Extra; not what happens to be installed."""
    found = Plugins()
    found.add(import_module("lb_core.defaults"), "defaults", "lb-core")
    found.add(Extra(), "extra")
    return found


def loaded(text: str, plugins: Plugins) -> Config:
    return build(parse(text, "lb.yaml"), plugins)


def route(text: str, plugins: Plugins, number: int = 0) -> RouteConfig:
    return loaded(text, plugins).routes[number]


def test_the_smallest_file(plugins: Plugins) -> None:
    config = loaded("routes: {example.com: web1:8080}", plugins)
    (only,) = config.routes
    assert (only.name, only.host, only.pool, only.order) == ("example.com", "example.com", "example.com", 0)
    assert only.strategy.name == "least_connections"
    assert [each.name for each in only.features] == ["ejection"]
    (pool,) = config.pools
    assert [(each.name, each.host, each.port) for each in pool.backends] == [("web1:8080", "web1", 8080)]
    assert (pool.name, pool.health_check, pool.host) == ("example.com", None, "example.com")
    assert [(each.name, each.port) for each in config.listeners] == [("web", 8080)]


EVERYTHING = """
version: 1
x-common: &common {weight: 3, zone: b}
listeners:
  web: ":8080"
  other: {address: "127.0.0.1:8081", timeouts: {header: 5s}, limits: {head: 32KiB}}
access_log: off
trusted_proxies: [10.0.0.0/8, "::1"]
no_route_status: 421
log_level: debug
plugins: {require: [lb-core], disable: nobody}
defaults:
  timeouts: {connect: 1s, idle: 10s}
  health_check: /health
  host_header: backend
routes:
  Example.COM.:
    containers:
      web1: web1:8080
      web2: {<<: *common, url: "http://web2:8080", max_connections: 100, labels: {cost: 5}}
      web3: {address: "[::1]:80", backup: true}
    strategy: {name: newest, decay: 3s}
    timeouts: {connect: 2s}
    health_check: {interval: 5s}
    retry: {attempts: 2, on: [connect, timeout], budget: 10%}
    max_body: 1MiB
    match:
      - {path_prefix: /v2/, methods: get, strip_prefix: true, use: other, strategy: least_conn}
      - {path: /exact, name: exact, backends: [c:1], timeouts: {connect: 3s}, max_body: 0B}
  "*.bücher.example": [a:1, b:2]
  "*":
    use: other
pools:
  other: {backends: [d:1], health_check: {type: tcp}}
"""


def test_a_file_with_everything(plugins: Plugins) -> None:
    config = loaded(EVERYTHING, plugins)
    assert [(each.name, each.host, each.port) for each in config.listeners] == [
        ("web", "", 8080),
        ("other", "127.0.0.1", 8081),
    ]
    assert (config.listeners[1].timeouts.header, config.listeners[1].limits.head) == (5, 32768)
    assert (config.access_log.format, config.no_route_status, config.log_level) == ("off", 421, "debug")
    assert config.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert (config.plugins.require, config.plugins.disable) == (("lb-core",), ("nobody",))
    assert [(each.name, each.pool, each.order) for each in config.routes] == [
        ("example.com", "example.com", 0),
        ("example.com /v2 GET", "other", 1),
        ("exact", "exact", 2),
        ("*.xn--bcher-kva.example", "*.xn--bcher-kva.example", 0),
        ("*", "other", 0),
    ]


def test_backends_in_every_form(plugins: Plugins) -> None:
    config = loaded(EVERYTHING, plugins)
    pool = next(each for each in config.pools if each.name == "example.com")
    one, two, three = pool.backends
    assert (one.name, one.host, one.port, one.weight) == ("web1", "web1", 8080, 1)
    assert (two.weight, two.zone, two.max_connections, two.labels) == (3, "b", 100, {"cost": 5})
    assert (three.host, three.port, three.backup) == ("::1", 80, True)


def test_what_a_route_inherits(plugins: Plugins) -> None:
    config = loaded(EVERYTHING, plugins)
    main, rule, exact, wild, rest = config.routes
    assert (main.timeouts.connect, main.timeouts.idle, main.timeouts.queue) == (2, 10, 5)
    assert (rule.timeouts.connect, rule.retry.attempts, rule.max_body) == (2, 2, 1 << 20)
    assert (exact.timeouts.connect, exact.timeouts.idle, exact.max_body) == (3, 10, 0)
    assert (wild.timeouts.connect, wild.retry.attempts, wild.max_body) == (1, 1, 0)
    assert {each.host_header for each in config.routes} == {"backend"}
    assert rest.timeouts == wild.timeouts
    assert (rule.strip_prefix, rule.match.path_prefix, rule.match.methods) == ("/v2", "/v2", ("GET",))


def test_checks_are_inherited_key_by_key_whatever_their_form(plugins: Plugins) -> None:
    checks = {pool.name: pool.health_check for pool in loaded(EVERYTHING, plugins).pools}
    main, exact, other = checks["example.com"], checks["exact"], checks["other"]
    assert main is not None
    assert exact is not None
    assert other is not None
    assert (main.path, main.interval) == ("/health", 5)
    assert (exact.path, exact.interval) == ("/health", 5)
    assert (other.type, other.path) == ("tcp", "/health")


def test_the_host_of_probes_is_never_a_wildcard(plugins: Plugins) -> None:
    hosts = {pool.name: pool.host for pool in loaded(EVERYTHING, plugins).pools}
    assert hosts == {"other": "", "example.com": "example.com", "exact": "example.com", "*.xn--bcher-kva.example": ""}


def test_checks_can_be_switched_off(plugins: Plugins) -> None:
    text = "{defaults: {health_check: /h}, routes: {a: {backends: [a:1], health_check: off}, b: {backends: [b:1]}}}"
    checks = [pool.health_check for pool in loaded(text, plugins).pools]
    assert checks[0] is None
    assert checks[1] is not None


@pytest.mark.parametrize("written", ["latest", "newest", "{name: latest}", "{name: newest, decay: 10s}"])
def test_a_strategy_by_name_or_alias(written: str, plugins: Plugins) -> None:
    choice = route(f"routes: {{a: {{backends: [a:1], strategy: {written}}}}}", plugins).strategy
    assert (choice.name, choice.settings, choice.custom) == ("latest", Latest.Settings(decay=10.0), None)
    built = build_strategy(choice, plugins)
    assert isinstance(built, Latest)
    assert built.settings == choice.settings


def test_a_strategy_without_options_is_built_without_settings(plugins: Plugins) -> None:
    choice = route("routes: {a: {backends: [a:1], strategy: least-connections}}", plugins).strategy
    assert (choice.name, choice.settings) == ("least_connections", None)
    assert hasattr(build_strategy(choice, plugins), "select_backend")


def test_options_are_not_inherited_by_another_strategy(plugins: Plugins) -> None:
    text = "{defaults: {strategy: {name: latest, decay: 3s}}, routes: {a: {backends: [a:1], strategy: latest}, b: b:1}}"
    first, second = loaded(text, plugins).routes
    assert (first.strategy.settings, second.strategy.settings) == (Latest.Settings(), Latest.Settings(decay=3.0))


def test_a_class_beside_the_file(tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_strategy.py").write_text(
        "from lb_core import hookimpl\n"
        "class Outer:\n"
        "    class Mine:\n"
        "        @hookimpl\n"
        "        def select_backend(self, candidates):\n"
        "            return candidates[0]\n"
    )
    (tmp_path / "lb.yaml").write_text("routes: {a: {backends: [a:1], strategy: 'beside_strategy:Outer.Mine'}}")
    choice = load_config(tmp_path / "lb.yaml", plugins, {}).routes[0].strategy
    assert choice.name == "beside_strategy:Outer.Mine"
    assert type(build_strategy(choice, plugins)).__name__ == "Mine"


def test_a_class_with_options(plugins: Plugins) -> None:
    tree = {"routes": {"a": {"backends": ["a:1"], "strategy": {"name": Latest, "decay": "1s"}}}}
    choice = config_from_tree(tree, plugins).routes[0].strategy
    built = build_strategy(choice, plugins)
    assert isinstance(built, Latest)
    assert built.settings == Latest.Settings(decay=1.0)
    assert choice == config_from_tree(tree, plugins).routes[0].strategy


def features(text: str, plugins: Plugins, number: int = 0) -> list[tuple[str, str]]:
    chosen = route(text, plugins, number).features
    return [(each.name, getattr(each.settings, "message", "")) for each in chosen]


def test_features_run_in_the_order_of_the_file(plugins: Plugins) -> None:
    one = "routes: {a: {kettle: x, backends: [a:1], teapot: y}}"
    other = "routes: {a: {teapot: y, ejection: {duration: 1s}, kettle: x, backends: [a:1]}}"
    assert features(one, plugins) == [("ejection", ""), ("kettle", "x"), ("teapot", "y")]
    assert features(other, plugins) == [("teapot", "y"), ("ejection", ""), ("kettle", "x")]


def test_features_are_inherited_and_switched_off(plugins: Plugins) -> None:
    text = """
defaults: {teapot: {message: all, strength: 3}, ejection: off}
routes:
  a: {backends: [a:1], teapot: {delay: 2s}}
  b: {backends: [b:1], teapot: off}
  c: {backends: [c:1], teapot: own, match: [{path: /x, teapot: true, ejection: true}]}
"""
    assert features(text, plugins, 0) == [("teapot", "all")]
    assert features(text, plugins, 1) == []
    assert features(text, plugins, 2) == [("teapot", "own")]
    assert features(text, plugins, 3) == [("teapot", "own"), ("ejection", "")]
    settings = route(text, plugins).features[0].settings
    assert settings == TeapotSettings(message="all", strength=3, delay=2.0)


def test_a_built_in_feature_that_is_not_there_is_left_out() -> None:
    bare = Plugins()
    bare.add(Extra(), "extra")
    tree = {"defaults": {"strategy": "latest"}, "routes": {"a": "a:1"}}
    assert config_from_tree(tree, bare).routes[0].features == ()


def test_rules_with_pools_of_their_own_need_no_route(plugins: Plugins) -> None:
    config = loaded(
        "routes: {a: {match: [{path: /x, backends: [a:1]}, {path: /y, use: p}]}}\npools: {p: [b:1]}", plugins
    )
    assert [(each.name, each.pool) for each in config.routes] == [("a =/x", "a =/x"), ("a =/y", "p")]


def test_one_rule_needs_no_list(plugins: Plugins) -> None:
    assert loaded("routes: {a: {backends: [a:1], match: {path: /x}}}", plugins).routes[1].match.path == "/x"


def test_priority_is_inherited_by_rules(plugins: Plugins) -> None:
    config = loaded(
        "routes: {a: {backends: [a:1], priority: 5, match: [{path: /x}, {path: /y, priority: 9}]}}", plugins
    )
    assert [each.priority for each in config.routes] == [5, 5, 9]


def test_a_prefix_to_strip(plugins: Plugins) -> None:
    text = "routes: {a: {backends: [a:1], strip_prefix: /app/, match: [{path: /x}, {path: /y, strip_prefix: off}]}}"
    assert [each.strip_prefix for each in loaded(text, plugins).routes] == ["/app", "/app", ""]


def test_empty_sections_of_core_mean_nothing(plugins: Plugins) -> None:
    top = "access_log:\nlisteners:\ndefaults: {timeouts: }\ndocker:\npools:\n"
    text = "routes: {a: {backends: [a:1], timeouts: , retry: }}"
    assert loaded(top + text, plugins) == loaded("routes: {a: {backends: [a:1]}}", plugins)


def test_equal_files_make_equal_configurations(plugins: Plugins) -> None:
    assert loaded(EVERYTHING, plugins) == loaded(EVERYTHING, plugins)
    more = EVERYTHING.replace("routes:\n", "routes:\n  new.example: z:1\n")
    before = {each.name: each for each in loaded(EVERYTHING, plugins).routes}
    after = {each.name: each for each in loaded(more, plugins).routes}
    assert {name: after[name] for name in before} == before


def test_toml_is_the_same_tree(tmp_path: Path, plugins: Plugins) -> None:
    (tmp_path / "lb.toml").write_text("""
version = 1
[routes."example.com"]
strategy = "latest"
health_check = "/health"
[routes."example.com".backends]
web1 = "web1:8080"
web2 = { url = "http://web2:8080", weight = 3 }
""")
    (tmp_path / "lb.yaml").write_text("""
routes:
  example.com:
    strategy: latest
    health_check: /health
    backends: {web1: "web1:8080", web2: {url: "http://web2:8080", weight: 3}}
""")
    toml = load_config(tmp_path / "lb.toml", plugins, {})
    yaml = load_config(tmp_path / "lb.yaml", plugins, {})
    assert toml.files == (str(tmp_path / "lb.toml"),)
    assert toml.model_copy(update={"files": ()}) == yaml.model_copy(update={"files": ()})


def test_environment_and_command_line_over_a_file(tmp_path: Path, plugins: Plugins) -> None:
    path = tmp_path / "lb.yaml"
    path.write_text(
        "access_log: {format: clf}\nroutes: {a: {backends: {w: '${HOST:-w}:${PORT}', v: {url: v:1, weight: '${W}'}}}}"
    )
    environ = {"LB_ACCESS_LOG__FILE": "/log", "LB_PORT": "9000", "PORT": "81", "W": "7"}
    config = load_config(path, plugins, environ, {"port": 7000})
    assert (config.access_log.format, config.access_log.file) == ("clf", "/log")
    assert config.listeners[0].port == 7000
    assert [(each.host, each.port, each.weight) for each in config.pools[0].backends] == [("w", 81, 1), ("v", 1, 7)]


def test_the_process_environment_is_the_default(
    tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LB_LOG_LEVEL", "warning")
    (tmp_path / "lb.yaml").write_text("routes: {a: a:1}")
    assert load_config(tmp_path / "lb.yaml", plugins).log_level == "warning"


def test_the_plugins_that_a_file_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "lb.yaml"
    path.write_text("plugins: {require: [no-such-plugin]}\nroutes: {a: a:1}")
    assert plugins_section(read(path, {})).require == ("no-such-plugin",)
    with pytest.raises(Exception, match="required plugin 'no-such-plugin' is not installed"):
        load_config(path, environ={})
    path.write_text("plugins: {disable: [lb-strategies]}\nroutes: {a: a:1}")
    assert load_config(path, environ={}).plugins.disable == ("lb-strategies",)


def test_a_bad_plugins_section_is_reported_before_plugins_are_found(tmp_path: Path) -> None:
    path = tmp_path / "lb.yaml"
    path.write_text("plugins: {requires: [x]}\nroutes: {a: a:1}")
    with pytest.raises(
        ConfigError, match=r'lb.yaml:1: plugins.requires: unknown key "requires" \(did you mean require\?\)'
    ):
        load_config(path, environ={})


def test_plain_data_is_left_as_it_was(plugins: Plugins) -> None:
    tree = {"routes": {404: {"backends": ["a:1"]}}}
    assert config_from_tree(tree, plugins).routes[0].host == "404"
    assert tree == {"routes": {404: {"backends": ["a:1"]}}}


def test_five_hundred_routes_load_in_well_under_a_second(tmp_path: Path, plugins: Plugins) -> None:
    one = """
  site{0}.example.com:
    backends: {{web1: "web1:8080", web2: {{url: "http://web2:8080", weight: 3}}, web3: "web3:8080"}}
    strategy: latest
    health_check: {{path: /health, interval: 10s}}
    timeouts: {{connect: 1s}}
    match: [{{path_prefix: /v2, methods: [GET]}}]
"""
    path = tmp_path / "lb.yaml"
    path.write_text("routes:\n" + "".join(one.format(number) for number in range(500)))
    load_config(path, plugins, {})
    begin = process_time()
    config = load_config(path, plugins, {})
    assert len(config.routes) == 1000
    assert process_time() - begin < 1.0


def test_merging() -> None:
    assert merge({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}) == {"a": 1, "b": {"c": 2, "d": 3}}
    assert merge({"a": 1}, True) == {"a": 1}
    assert merge({"a": 1}, False) is False
    assert merge(False, {"a": 1}) == {"a": 1}
    assert merge([1], [2]) == [2]
    assert list(inherit({"a": 1, "b": 2, "c": 3}, {"d": 4, "b": 5})) == ["a", "c", "d", "b"]
