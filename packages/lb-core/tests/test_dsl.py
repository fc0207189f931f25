"""The configuration in Python: the same tree as the file, with the line of every call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest

from lb_core import Feature, Strategy, hookimpl
from lb_core.config import Config, build, config_from_tree, load_config
from lb_core.dsl import MODULE, Tree, execute, tree_of, with_listener
from lb_core.errors import ConfigError
from lb_core.plugins import Plugins
from lb_core.settings import Duration, Settings


class TeapotSettings(Settings):
    """A feature's settings."""

    message: str = ""
    delay: Duration = 0.0


class First:
    """A strategy of one's own."""

    @hookimpl
    def select_backend(self, candidates: tuple[object, ...]) -> object:
        """The first one."""
        return candidates[0]


class Extra:
    """A plugin with a strategy and a feature."""

    @hookimpl
    def register_strategies(self) -> Iterator[Strategy]:
        """Offer it."""
        yield Strategy("first_one", First)

    @hookimpl
    def register_features(self) -> Iterator[Feature]:
        """Offer it."""
        yield Feature("teapot", lambda route, settings: None, TeapotSettings)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    """Core's own and Extra."""
    found = Plugins()
    found.add(import_module("lb_core.defaults"), "defaults", "lb-core")
    found.add(Extra(), "extra")
    return found


@pytest.fixture(autouse=True)
def _path_and_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, MODULE, raising=False)


def built(tree: Tree, plugins: Plugins) -> Config:
    return build(tree.document(), plugins)


def problems(tree: Tree, plugins: Plugins) -> list[str]:
    with pytest.raises(ConfigError) as error:
        built(tree, plugins)
    return [each.replace(f"{__file__}:", "") for each in str(error.value).split("\n")]


def here() -> int:
    return sys._getframe(1).f_lineno


def test_the_same_as_the_file(plugins: Plugins) -> None:
    tree = Tree()
    tree.set("access_log", "clf")
    tree.set("trusted_proxies", ["10.0.0.0/8"])
    tree.listener("web", ":8080")
    tree.listener("other", ":8081", limits={"fields": 9})
    tree.defaults(timeouts={"connect": timedelta(seconds=1)}, health_check="/health")
    with tree.pool("api-v2") as pool:
        pool.backend("api3:3000")
    with tree.route_domain("example.com") as route:
        route.container("web1", "web1:8080")
        route.container("web2", "web2:8080", weight=3)
        route.container("web3", url="http://web3", backup=True)
        route.strategy("first_one")
        route.health_check("/h", interval=timedelta(milliseconds=500))
        route.timeouts(idle="5s")
        route.max_body("1MiB")
        route.teapot(message="hello", delay=timedelta(minutes=1))
        route.match(path_prefix="/v2", use="api-v2")
        with route.match(path="/x", methods=["GET"]) as rule:
            rule.container("x1", "x1:80")
            rule.teapot(False)
    with tree.route_domain("*.example.com") as route:
        route.use("api-v2")
    text = {
        "access_log": "clf",
        "trusted_proxies": ["10.0.0.0/8"],
        "listeners": {"web": ":8080", "other": {"address": ":8081", "limits": {"fields": 9}}},
        "defaults": {"timeouts": {"connect": "1s"}, "health_check": "/health"},
        "pools": {"api-v2": {"backends": {"api3:3000": "api3:3000"}}},
        "routes": {
            "example.com": {
                "backends": {
                    "web1": "web1:8080",
                    "web2": {"url": "web2:8080", "weight": 3},
                    "web3": {"url": "http://web3", "backup": True},
                },
                "strategy": "first_one",
                "health_check": {"path": "/h", "interval": "500ms"},
                "timeouts": {"idle": "5s"},
                "max_body": "1MiB",
                "teapot": {"message": "hello", "delay": "1m"},
                "match": [
                    {"path_prefix": "/v2", "use": "api-v2"},
                    {"path": "/x", "methods": ["GET"], "backends": {"x1": "x1:80"}, "teapot": False},
                ],
            },
            "*.example.com": {"use": "api-v2"},
        },
    }
    assert built(tree, plugins) == config_from_tree(text, plugins)


def test_short_forms(plugins: Plugins) -> None:
    tree = Tree()
    with tree.route_domain("a") as route:
        route.container("a:1")
        route.health_check()
        route.teapot()
        route.ejection(False)
    config = built(tree, plugins)
    check = config.pools[0].health_check
    assert check is not None
    assert check.path == "/"
    assert [each.name for each in config.routes[0].features] == ["teapot"]


def test_a_check_without_a_path(plugins: Plugins) -> None:
    tree = Tree()
    with tree.route_domain("a") as route:
        route.container("a:1")
        route.health_check(type="tcp", interval="1s")
    check = built(tree, plugins).pools[0].health_check
    assert check is not None
    assert (check.type, check.interval) == ("tcp", 1.0)


def test_a_class_as_strategy(plugins: Plugins) -> None:
    tree = Tree()
    with tree.route_domain("a") as route:
        route.container("a:1")
        route.strategy(First)
    choice = built(tree, plugins).routes[0].strategy
    assert choice.custom is First
    assert choice.name.endswith(":First")


def test_problems_name_the_line_of_the_call(plugins: Plugins) -> None:
    tree = Tree()
    first = here()
    with tree.route_domain("a") as route:
        route.container("a", "a:1")
        route.container("a", "a:2")
        route.timeouts(idle=5)
        route.rate_limit(requests=3)
        route.helth_check("/")
        route.strategy("p2c")
        route.strategy("first_one")
    with tree.route_domain("a") as route:
        route.container("b:1")
    assert problems(tree, plugins) == [
        f"{first + 3}: routes.a.backends.a: a is given twice, first in line {first + 2} (keep one of the two)",
        f"{first + 4}: routes.a.timeouts.idle: a duration needs a unit: write 5s or 5ms instead of 5",
        f'{first + 5}: routes.a.rate_limit: "rate_limit" is in lb-ratelimit (pip install lb-ratelimit)',
        f'{first + 6}: routes.a.helth_check: unknown key "helth_check" (did you mean health_check?)',
        f'{first + 7}: routes.a.strategy: strategy "p2c" is in lb-strategies (pip install lb-strategies)',
        f"{first + 8}: routes.a.strategy: strategy is given twice, first in line {first + 7} (keep one of the two)",
        f"{first + 9}: routes.a: a is given twice, first in line {first + 1} (keep one of the two)",
    ]


def half_a_route(tree: Tree, host: str) -> None:
    with tree.route_domain(host) as route:
        route.container("b:1")
        route.container("b:1")
        raise KeyError(host)


def half_a_rule(tree: Tree, host: str) -> None:
    with tree.route_domain(host) as route, route.match(path="/x") as rule:
        rule.container("c:1")
        raise KeyError(host)


def test_a_block_that_raises_leaves_nothing(plugins: Plugins) -> None:
    tree = Tree()
    with tree.route_domain("a") as route:
        route.container("a:1")
    for half, host in ((half_a_route, "a"), (half_a_route, "b"), (half_a_rule, "c")):
        with pytest.raises(KeyError):
            half(tree, host)
    assert [each.name for each in built(tree, plugins).routes] == ["a"]


def test_a_section_takes_keywords_or_one_value() -> None:
    with Tree().route_domain("a") as route:
        with pytest.raises(TypeError, match=r"teapot\(\) takes keywords, or one value"):
            route.teapot("x", message="y")
        with pytest.raises(TypeError, match="takes keywords"):
            route.teapot("x", "y")
        assert not hasattr(route, "_private")


FILE = """\
from dataclasses import dataclass
from lb_core import hookimpl
from lb_core.dsl import Tree

@dataclass
class Mine:
    limit: "int" = 3

    @hookimpl
    def select_backend(self, candidates):
        return candidates[0]

balancer = Tree()
with balancer.route_domain("example.com") as route:
    route.container("web1", "${HOST:-web1}:8080")
    route.strategy(Mine)
if __name__ == "__main__":
    raise SystemExit("not when it is read")
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "balancer.py"
    path.write_text(text)
    return path


def test_a_file_in_python(tmp_path: Path, plugins: Plugins) -> None:
    path = written(tmp_path, FILE)
    for _ in range(2):  # as a reload does
        config = load_config(path, plugins, {"HOST": "w", "LB_PORT": "81"})
        assert (config.pools[0].backends[0].host, config.listeners[0].port) == ("w", 81)
        assert config.routes[0].strategy.name == f"{MODULE}:Mine"
        assert config.files == (str(path),)


def test_a_file_may_import_its_neighbours(tmp_path: Path, plugins: Plugins) -> None:
    (tmp_path / "neighbour_of_balancer.py").write_text("HOST = 'there:1'")
    path = written(tmp_path, FILE.replace('"${HOST:-web1}:8080"', "__import__('neighbour_of_balancer').HOST"))
    assert load_config(path, plugins, {}).pools[0].backends[0].host == "there"


def test_a_balancer_that_holds_a_tree() -> None:
    class Holder:
        def __init__(self) -> None:
            self.tree = Tree()

    holder = Holder()
    assert tree_of(holder, "balancer.py") is holder.tree


def test_the_real_balancer(tmp_path: Path, plugins: Plugins) -> None:
    text = FILE.replace("lb_core.dsl import Tree", "lb_core import LoadBalancer").replace("Tree()", "LoadBalancer()")
    assert load_config(written(tmp_path, text), plugins, {}).routes[0].host == "example.com"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = \n", 1, "this is not Python: invalid syntax"),
        ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("def f():\n    raise KeyError('a')\nf()\n", 2, "KeyError: 'a'"),
        ("import no_such_module\n", 1, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys\nsys.exit(3)\n", 2, "the file ended the program with exit status 3"),
        ("x = 1\n", 0, "the file defines no `balancer` (write balancer = LoadBalancer())"),
        ("balancr = 1\n", 0, "the file defines no `balancer` (did you mean balancr? Name it balancer)"),
        ("balancer = 3\n", 0, "`balancer` is a int, not a LoadBalancer"),
        ("balancer = Exception()\n", 0, "`balancer` is a Exception, not a LoadBalancer"),
        ("x = '\x00'", 0, "source code string cannot contain null bytes"),
    ],
)
def test_files_that_cannot_be_used(text: str, line: int, message: str, tmp_path: Path, plugins: Plugins) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(path, plugins, {})
    (problem,) = error.value.problems
    assert message in str(problem)
    assert (problem.file, problem.line) == (str(path), line)


def test_problems_of_a_file_are_told_with_its_lines(tmp_path: Path, plugins: Plugins) -> None:
    path = written(tmp_path, FILE.replace("route.strategy(Mine)", "route.strategy('p2c')\n    route.timeouts(idle=3)"))
    with pytest.raises(ConfigError) as error:
        load_config(path, plugins, {})
    assert [each.line for each in error.value.problems] == [16, 17]
    assert {each.file for each in error.value.problems} == {str(path)}


def test_an_error_of_ours_is_passed_on(tmp_path: Path) -> None:
    text = "from lb_core.config import read_file\nread_file('no-such.yaml')\n"
    with pytest.raises(ConfigError, match=r"no-such.yaml: there is no such file"):
        execute(written(tmp_path, text))


def test_another_listener() -> None:
    (only,) = with_listener(Config(), "::1", 81).listeners
    assert (only.address, only.host, only.port) == ("[::1]:81", "::1", 81)
    assert with_listener(Config(), "", 82).listeners[0].address == ":82"
