"""Discovery of plugins: distributions are real ones, written to a directory on the import path."""

from __future__ import annotations

import asyncio
import logging
import sys
import textwrap
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import pytest
from pydantic import BaseModel

from lb_core import Backend, Event, Feature, PluginError, Response, Strategy, hookimpl
from lb_core.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from lb_core import LoadBalancer

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution with one module and one entry point where imports find it."""
    modules: list[str] = []

    def add(distribution: str, source: str, *, point: str = "", target: str = "", version: str = "1.0") -> None:
        module = distribution.replace("-", "_").lower()
        place = tmp_path / distribution
        info = place / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[lb]\n{point or module} = {target or module}\n")
        (place / f"{module}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(place))
        modules.append(module)

    yield add
    for module in modules:
        sys.modules.pop(module, None)


STRATEGY = """
from lb_core import Strategy, hookimpl

class Chooser:
    @hookimpl
    def select_backend(self, candidates):
        return candidates[-1]

@hookimpl
def register_strategies():
    yield Strategy({names}, aliases={aliases})
"""


def offering(name: str, *aliases: str) -> str:
    return STRATEGY.format(names=f"{name!r}, Chooser", aliases=aliases)


def discover(**options: Any) -> Plugins:
    return Plugins.discover(built_in=(), **options)


def named(plugins: Plugins, *names: str) -> list[str]:
    return [each.name for each in plugins.loaded if each.name in names]


# what is found


def test_an_installed_plugin_is_found_with_where_it_comes_from(install: Install) -> None:
    install("lb-last", offering("last", "l"), point="last", version="2.5")
    plugins = discover()
    (found,) = [each for each in plugins.loaded if each.name == "last"]
    assert (found.distribution, found.version, found.hooks) == ("lb-last", "2.5", ("register_strategies",))
    assert found.strategies == ("last",)
    assert found.origin == "plugin 'last' (lb-last 2.5)"
    assert plugins.strategies["l"] is plugins.strategies["last"]
    assert found.as_data() in plugins.provides()
    assert plugins.hook_order()["register_strategies"][-1] in {each.name for each in plugins.loaded}


def test_entry_points_are_taken_in_the_order_of_their_names(install: Install) -> None:
    for name in ("zeta", "alpha", "mid"):
        install(f"lb-{name}", offering(name), point=name)
    assert named(discover(), "alpha", "mid", "zeta") == ["alpha", "mid", "zeta"]


def test_built_ins_come_first() -> None:
    plugins = Plugins.discover()
    assert plugins.loaded[0].distribution == "lb-core"
    assert plugins.strategies["leastconn"].name == "least_connections"
    assert "ejection" in plugins.features


def test_an_entry_point_may_name_an_object_of_a_module(install: Install) -> None:
    source = "from lb_core import hookimpl\nclass P:\n    @hookimpl\n    def on_event(self, event): ...\nplugin = P()\n"
    install("lb-object", source, point="obj", target="lb_object:plugin")
    assert [each.hooks for each in discover().loaded if each.name == "obj"] == [("on_event",)]


def test_each_balancer_has_plugins_of_its_own() -> None:
    class Listener:
        @hookimpl
        def on_event(self, event: Event) -> None: ...

    listener = Listener()
    assert discover(extra=[listener]).manager is not discover(extra=[listener]).manager


def test_the_caller_s_own_objects_are_named_after_their_class() -> None:
    class Listener:
        @hookimpl
        def on_event(self, event: Event) -> None: ...

    assert named(discover(extra=[Listener(), Listener()]), "Listener", "Listener-2") == ["Listener", "Listener-2"]


# disable and require


@pytest.mark.parametrize("name", ["last", "lb-last", "LB_Last", "lb.last"])
def test_disable_takes_plugin_and_distribution_names(install: Install, name: str) -> None:
    install("lb-last", "raise AssertionError('a disabled plugin is not even imported')", point="last")
    plugins = discover(disable=[name])
    assert named(plugins, "last") == []
    assert plugins.broken == []


@pytest.mark.parametrize("name", ["last", "lb-last", "LB_Last"])
def test_require_is_met_by_plugin_and_distribution_names(install: Install, name: str) -> None:
    install("lb-last", offering("last"), point="last")
    assert named(discover(require=[name]), "last") == ["last"]


def test_everything_required_and_missing_is_named_with_what_to_do(install: Install) -> None:
    install("lb-broken", "import no_such_module_at_all", point="broken")
    with pytest.raises(PluginError) as caught:
        discover(require=["lb-nowhere", "lb-broken", "lb-off"], disable=["lb_off"])
    assert str(caught.value).splitlines() == [
        "required plugin 'lb-nowhere' is not installed: pip install lb-nowhere",
        "required plugin 'broken' of lb-broken is broken: ModuleNotFoundError: No module named 'no_such_module_at_all'",
        "plugin 'lb-off' is both required and disabled; remove one of the two",
    ]
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_what_is_built_in_cannot_be_disabled() -> None:
    with pytest.raises(PluginError, match=r"built in and cannot be disabled; remove it from plugins\.disable"):
        Plugins.discover(disable=["lb-core"])


# broken plugins


BROKEN = {
    "import error": ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "syntax error": ("def broken(:", "SyntaxError: "),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "misspelt hook": (
        "from lb_core import hookimpl\n@hookimpl\ndef before_requst(exchange): ...",
        "plugin 'bad' (lb-bad 1.0): there is no hook 'before_requst' (did you mean before_request?)",
    ),
    "no hook at all like it": (
        "from lb_core import hookimpl\n@hookimpl\ndef xyz(): ...",
        "plugin 'bad' (lb-bad 1.0): there is no hook 'xyz' (there are: before_request, lifespan, on_backend_error, ",
    ),
    "misspelt argument": (
        "from lb_core import hookimpl\n@hookimpl\ndef on_complete(exchang): ...",
        "plugin 'bad' (lb-bad 1.0): on_complete takes 'exchang', which the hook does not have (did you mean exchange?)",
    ),
    "strange argument": (
        "from lb_core import hookimpl\n@hookimpl\ndef on_complete(zzz): ...",
        "plugin 'bad' (lb-bad 1.0): on_complete takes 'zzz', which the hook does not have (it has: exchange)",
    ),
    "keyword only": (
        "from lb_core import hookimpl\n@hookimpl\ndef on_complete(*, exchange): ...",
        "plugin 'bad' (lb-bad 1.0): on_complete takes 'exchange' by keyword only; hooks are called by position, "
        "remove the `*`",
    ),
    "coroutine": (
        "from lb_core import hookimpl\n@hookimpl\nasync def select_backend(candidates): ...",
        "plugin 'bad' (lb-bad 1.0): select_backend is a coroutine function; only before_request may be one, "
        "write `def`",
    ),
    "generator": (
        "from lb_core import hookimpl\n@hookimpl\ndef select_backend(candidates): yield",
        "plugin 'bad' (lb-bad 1.0): select_backend is a generator; return the result, or mark it "
        "@hookimpl(wrapper=True)",
    ),
    "bare async generator": (
        "from lb_core import hookimpl\n@hookimpl\nasync def lifespan(balancer): yield",
        "plugin 'bad' (lb-bad 1.0): lifespan is an async generator; put @asynccontextmanager under @hookimpl, "
        "or return a value",
    ),
    "wrapper of a setup hook": (
        "from lb_core import hookimpl\n@hookimpl(wrapper=True)\ndef on_event(event): yield",
        "plugin 'bad' (lb-bad 1.0): on_event is marked wrapper=True; only traffic hooks take a wrapper, "
        "marked wrapper=True",
    ),
    "wrapper without yield": (
        "from lb_core import hookimpl\n@hookimpl(wrapper=True)\ndef on_complete(exchange): ...",
        "plugin 'bad' (lb-bad 1.0): on_complete is marked wrapper=True and never yields",
    ),
    "old wrapper": (
        "from lb_core import hookimpl\n@hookimpl(hookwrapper=True)\ndef on_complete(exchange): yield",
        "plugin 'bad' (lb-bad 1.0): on_complete is marked hookwrapper=True; only traffic hooks take a wrapper, "
        "marked wrapper=True",
    ),
    "strategies raise": (
        "from lb_core import hookimpl\n@hookimpl\ndef register_strategies(): raise OSError('disk')",
        "OSError: disk",
    ),
    "strategies of another kind": (
        "from lb_core import hookimpl\n@hookimpl\ndef register_strategies(): return ['p3c']",
        "plugin 'bad' (lb-bad 1.0): register_strategies gave 'p3c', which is no Strategy(…)",
    ),
    "strategies of no kind": (
        "from lb_core import hookimpl\n@hookimpl\ndef register_strategies(): pass",
        "plugin 'bad' (lb-bad 1.0): register_strategies gave NoneType; yield Strategy declarations",
    ),
    "bad name": (
        "from lb_core import Strategy, hookimpl\n@hookimpl\ndef register_strategies(): yield Strategy('A-B', list)",
        "strategy name 'A-B': use snake_case letters, digits and _, beginning with a letter",
    ),
    "same name twice": (
        "from lb_core import Strategy, hookimpl\n@hookimpl\ndef register_strategies():\n"
        "    yield Strategy('once', list)\n    yield Strategy('other', list, aliases=('once',))",
        "plugin 'bad' (lb-bad 1.0): strategy 'once' is declared twice",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_named_and_the_others_go_on(
    install: Install, caplog: pytest.LogCaptureFixture, source: str, reason: str
) -> None:
    install("lb-bad", source, point="bad")
    install("lb-good", offering("good"), point="good")
    with caplog.at_level(logging.WARNING, "lb.plugins"):
        plugins = discover()
    (broken,) = plugins.broken
    assert (broken.name, broken.distribution) == ("bad", "lb-bad")
    assert broken.error.startswith(reason)
    assert named(plugins, "good", "bad") == ["good"]
    assert not plugins.manager.has_plugin("bad")
    assert f"plugin 'bad' of lb-bad is left out: {broken.error}" in caplog.text
    assert broken.as_data() in plugins.provides()
    with pytest.raises(PluginError, match="required plugin 'bad' of lb-bad is broken"):
        discover(require=["bad"])


def test_a_class_is_refused_with_what_to_give_instead(install: Install) -> None:
    install("lb-class", "class Plugin: ...", point="cls", target="lb_class:Plugin")
    (broken,) = discover().broken
    assert broken.error == (
        "plugin 'cls' (lb-class 1.0): the class Plugin was given; give an instance, Plugin(), or a module"
    )


@pytest.mark.parametrize(("second", "taken"), [("one", "one"), ("other", "f"), ("f", "f")])
def test_a_name_that_is_taken_names_both_owners(install: Install, second: str, taken: str) -> None:
    install("lb-a", offering("one", "f"), point="a")
    aliases = (taken,) if second != taken else ()
    install("lb-b", offering(second, *aliases), point="b")
    plugins = discover()
    (broken,) = plugins.broken
    assert broken.error == f"plugin 'b' (lb-b 1.0): strategy {taken!r} is taken by plugin 'a' (lb-a 1.0)"
    assert plugins.strategies[taken].name == "one"
    assert "other" not in plugins.strategies


def test_an_entry_point_name_that_is_taken_is_refused(install: Install) -> None:
    install("lb-a", offering("a_one"), point="same")
    install("lb-b", offering("b_one"), point="same")
    plugins = discover()
    (broken,) = plugins.broken
    assert broken.distribution == "lb-b"
    assert "the name 'same' is taken" in broken.error
    assert "a_one" in plugins.strategies


def test_a_hook_of_another_plugin_may_be_optional(install: Install) -> None:
    install(
        "lb-opt", "from lb_core import hookimpl\n@hookimpl(optionalhook=True)\ndef register_panels(): ...", point="o"
    )
    assert named(discover(), "o") == ["o"]


def test_what_the_caller_passes_itself_raises_at_once() -> None:
    with pytest.raises(PluginError, match="the class Backend was given"):
        discover(extra=[Backend])


def test_features_of_two_plugins_may_not_share_a_name() -> None:
    class Settings(BaseModel): ...

    class One:
        @hookimpl
        def register_features(self) -> Iterable[Feature]:
            return [Feature("teapot", lambda *_: None, Settings)]

    class Two(One): ...

    with pytest.raises(PluginError, match="plugin 'Two': feature 'teapot' is taken by plugin 'One'"):
        discover(extra=[One(), Two()])


# events and lifespans


def test_events_reach_everybody_whatever_one_of_them_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Listener:
        def __init__(self, fail: bool = False) -> None:
            self.heard: list[str] = []
            self.fail = fail

        @hookimpl
        def on_event(self, event: Event) -> None:
            self.heard.append(event.kind)
            if self.fail:
                raise ValueError("no disk")

    listeners = [Listener(), Listener(fail=True), Listener()]
    plugins = discover(extra=listeners)
    plugins.notify(Event("backend_down", "refused"))
    assert [each.heard for each in listeners] == [["backend_down"]] * 3
    assert "plugin 'Listener-2' failed in on_event" in caplog.text
    assert "no disk" in caplog.text


def test_events_without_listeners_cost_nothing() -> None:
    Plugins().notify(Event("backend_down", "refused"))


class Working:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, balancer: LoadBalancer) -> AsyncIterator[None]:
        self.log.append(f"{self.name} of {balancer}")
        yield


class Resting:
    @hookimpl
    def lifespan(self) -> None:
        """Nothing to run."""


def test_lifespans_are_entered_in_the_order_of_registration() -> None:
    log: list[str] = []
    plugins = discover(extra=[Working(log, "first"), Resting(), Working(log, "second")])
    lifespans = plugins.lifespans(cast("LoadBalancer", "the balancer"))
    found = [each for each in lifespans if each[0].startswith("Working")]  # others are those of installed plugins
    assert [name for name, _ in found] == ["Working", "Working-2"]

    async def enter() -> None:
        for _, context in found:
            async with context:
                pass

    asyncio.run(enter())
    assert log == ["first of the balancer", "second of the balancer"]


@pytest.mark.parametrize(
    ("result", "reason"),
    [(7, "lifespan returned int, not an async context manager"), (OSError("disk"), "lifespan failed: OSError: disk")],
)
def test_a_lifespan_that_is_none_is_refused_by_name(result: object, reason: str) -> None:
    class Odd:
        @hookimpl
        def lifespan(self) -> object:
            if isinstance(result, Exception):
                raise result
            return result

    with pytest.raises(PluginError, match=f"plugin 'Odd': {reason}"):
        discover(extra=[Odd()]).lifespans(cast("LoadBalancer", None))


# a route's manager


class Last:
    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        return candidates[-1]


class Notes:
    """A feature that notes its name."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    @hookimpl
    def on_complete(self) -> None:
        self.log.append(self.name)


def called(plugins: Plugins, features: list[tuple[str, object]], strategy: object | None = None) -> list[str]:
    manager = plugins.traffic_manager(strategy or Last(), features, "last")
    manager.hook.on_complete(exchange=None)
    return [name for name, _ in reversed(manager.list_name_plugin())]


def test_features_come_as_configured_then_the_strategy_then_plugins_for_every_route() -> None:
    log: list[str] = []
    shared = ModuleType("shared")
    vars(shared)["log"] = log
    exec(
        "from lb_core import hookimpl\n@hookimpl\ndef on_complete(exchange): log.append('shared')\n"
        "@hookimpl\ndef register_strategies(): log.append('asked'); return ()\n"
        "@hookimpl\ndef on_event(event): ...\n",
        vars(shared),
    )
    plugins = discover(extra=[shared])
    assert log == ["asked"]
    order = called(plugins, [("one", Notes(log, "one")), ("two", Notes(log, "two"))])
    assert log == ["asked", "one", "two", "shared"]
    assert order == ["one", "two", "last", "shared"]
    manager = plugins.traffic_manager(Last(), [], "last")
    assert not hasattr(manager.hook, "register_strategies")
    assert log.count("asked") == 1


def test_a_plugin_without_traffic_hooks_is_no_part_of_a_route() -> None:
    class Listener:
        @hookimpl
        def on_event(self, event: Event) -> None: ...

    assert called(discover(extra=[Listener()], disable=["lb-strategies"]), []) == ["last"]


def test_a_feature_that_built_nothing_is_left_out() -> None:
    assert called(discover(), [("off", None), ("on", Notes([], "on"))])[:2] == ["on", "last"]


def test_a_name_shared_by_plugin_strategy_and_feature_stays_readable() -> None:
    log: list[str] = []
    plugins = Plugins()
    plugins.add(Notes(log, "plugin"), "last")
    assert called(plugins, [("last", Notes(log, "feature"))]) == ["last (feature)", "last (strategy)", "last"]
    assert log == ["feature", "plugin"]


def test_a_strategy_may_watch_too() -> None:
    log: list[str] = []

    class Learning(Last):
        @hookimpl
        def on_complete(self) -> None:
            log.append("learned")

    called(discover(), [], Learning())
    assert log == ["learned"]


class Unmarked:
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        return candidates[0]


class SetupInside(Last):
    @hookimpl
    def on_event(self, event: Event) -> None: ...


class Misspelt(Last):
    @hookimpl
    def on_respons(self) -> None: ...


BAD_STRATEGIES = [
    (Unmarked(), r"Unmarked implements no hook select_backend \(mark it with @hookimpl\)"),
    (object(), r"object implements no hook select_backend \(give it a method select_backend\(self, candidates\)\)"),
    (Last, r"the class Last was given; give an instance, Last\(\), or a module"),
    (SetupInside(), "on_event is a setup hook; it belongs in the plugin's module"),
    (Misspelt(), r"there is no hook 'on_respons' \(did you mean on_response\?\)"),
]


@pytest.mark.parametrize(("built", "reason"), BAD_STRATEGIES)
def test_a_strategy_that_breaks_the_contract_is_refused_by_name(built: object, reason: str) -> None:
    with pytest.raises(PluginError, match=f"strategy 'mine': {reason}"):
        discover().traffic_manager(built, [], "mine")


def test_one_object_for_two_features_is_refused() -> None:
    notes = Notes([], "twice")
    with pytest.raises(PluginError, match="feature 'two': this object, or its equal, is registered as 'three'"):
        discover().traffic_manager(Last(), [("two", notes), ("three", notes)], "last")


def test_a_wrapper_around_a_coroutine_is_refused() -> None:
    class Slow:
        @hookimpl
        async def before_request(self) -> Response | None:
            return None

    class Around:
        @hookimpl(wrapper=True)
        def before_request(self) -> Iterator[None]:
            return (yield)

    plugins = discover()
    plugins.traffic_manager(Last(), [("slow", Slow())], "last")
    plugins.traffic_manager(Last(), [("around", Around())], "last")
    with pytest.raises(PluginError, match="'around' wraps before_request, which is a coroutine function in 'slow'"):
        plugins.traffic_manager(Last(), [("slow", Slow()), ("around", Around())], "last")


def test_specname_and_private_names() -> None:
    class Named:
        @hookimpl(specname="select_backend")
        def choose(self, candidates: tuple[Backend, ...]) -> Backend:
            return candidates[0]

        @hookimpl
        def _on_complete(self) -> None:
            raise AssertionError("private methods are no hooks")

    manager = discover().traffic_manager(Named(), [], "named")
    one = Backend("one", "127.0.0.1", 1)
    assert manager.hook.select_backend(exchange=None, candidates=(one,)) is one


def test_strategy_declarations_build_what_routes_register() -> None:
    class Offering:
        @hookimpl
        def register_strategies(self) -> Iterable[Strategy]:
            yield Strategy("last_one", Last)

    plugins = discover(extra=[Offering()])
    assert plugins.traffic_manager(plugins.strategies["last_one"].build(), [], "last_one").has_plugin("last_one")
