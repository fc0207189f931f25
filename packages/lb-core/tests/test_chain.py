"""Every chain does what pluggy does: the same calls in the same order, the same result, the same exception."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

import pluggy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_core.chain import compile_chain, is_async

spec = pluggy.HookspecMarker("t")
impl = pluggy.HookimplMarker("t")


class Specs:
    @spec(firstresult=True)
    def first(self, a: int, b: int, c: int) -> object: ...

    @spec
    def every(self, a: int, b: int, c: int) -> object: ...


@dataclass(frozen=True)
class Plan:
    """What one generated plugin does."""

    arguments: tuple[str, ...]
    order: str
    wrapper: bool
    result: object
    raises: bool


PLANS = st.builds(
    Plan,
    arguments=st.sampled_from([(), ("a",), ("c",), ("a", "b", "c"), ("c", "a"), ("b", "c"), ("c", "b", "a")]),
    order=st.sampled_from(["", "tryfirst", "trylast"]),
    wrapper=st.sampled_from([False] * 4 + [True]),
    result=st.sampled_from([None, None, 0, "x"]),
    raises=st.sampled_from([False] * 5 + [True]),
)

# pluggy looks at every name that dir() gives: without __dir__, 30 of `object`, which takes most of the time
BEGIN = """
class Plugin:
    def __dir__(self):
        return ["{hook}"]
"""
PLAIN = """
    @impl({options})
    def {hook}(self, {arguments}):
        log.append((name, ({values})))
        if raises:
            raise KeyError(name)
        return result
"""
WRAPPER = """
    @impl({options})
    def {hook}(self, {arguments}):
        log.append((name, "before", ({values})))
        try:
            got = yield
        except KeyError as error:
            log.append((name, "failed", error.args))
            raise
        log.append((name, "after", got))
        return got
"""


def build(plan: Plan, name: str, hook: str, log: list[object]) -> object:
    """A plugin with exactly that signature, which only source text can give."""
    options = [f"{plan.order}=True"] if plan.order else []
    if plan.wrapper:
        options.append("wrapper=True")
    source = (BEGIN + (WRAPPER if plan.wrapper else PLAIN)).format(
        options=", ".join(options),
        hook=hook,
        arguments=", ".join(plan.arguments),
        values="".join(f"{each}, " for each in plan.arguments),
    )
    namespace: dict[str, Any] = {
        "impl": impl,
        "log": log,
        "name": name,
        "raises": plan.raises,
        "result": plan.result,
    }
    exec(_compiled(source), namespace)
    return namespace["Plugin"]()


@cache
def _compiled(source: str) -> CodeType:
    return compile(source, "plugin", "exec")


def caller_of(hook: str, *plugins: object) -> pluggy.HookCaller:
    manager = pluggy.PluginManager("t")
    manager.add_hookspecs(Specs)
    for place, plugin in enumerate(plugins):
        manager.register(plugin, f"p{place}")
    caller: pluggy.HookCaller = getattr(manager.hook, hook)
    return caller


def outcome(call: Callable[[], object], log: list[object]) -> tuple[tuple[str, object], list[object]]:
    log.clear()
    try:
        return ("returned", call()), list(log)
    except KeyError as error:
        return ("raised", error.args), list(log)


@settings(max_examples=1500, deadline=None)
@given(st.lists(PLANS, max_size=7), st.sampled_from(["first", "every"]))
def test_a_chain_does_what_pluggy_does(plans: list[Plan], hook: str) -> None:
    log: list[object] = []
    caller = caller_of(hook, *(build(plan, f"p{place}", hook, log) for place, plan in enumerate(plans)))
    expected = outcome(lambda: caller(a=1, b=2, c=3), log)
    chain = compile_chain(caller)
    if chain is None:
        assert not plans
        return
    got = outcome(lambda: chain(1, 2, 3), log)
    assert got[1] == expected[1]
    collected = hook == "every" and not any(plan.wrapper for plan in plans)
    if not collected or expected[0][0] == "raised":  # a chain of watchers does not collect what nobody reads
        assert got[0] == expected[0]


def test_nobody_there_is_none() -> None:
    assert compile_chain(caller_of("first")) is None
    assert not is_async(None)


def test_one_implementation_with_the_whole_signature_is_that_function() -> None:
    class Plugin:
        @impl
        def first(self, a: int, b: int, c: int) -> int:
            return a + b + c

    plugin = Plugin()
    assert compile_chain(caller_of("first", plugin)) == plugin.first


def test_a_hook_without_a_specification_is_refused() -> None:
    class Plugin:
        @impl
        def unknown(self) -> None: ...

    with pytest.raises(LookupError, match="'unknown'"):
        compile_chain(caller_of("unknown", Plugin()))


def test_tracing_goes_through_pluggy() -> None:
    class Plugin:
        @impl
        def first(self, b: int) -> int:
            return b

    caller = caller_of("first", Plugin())
    chain = compile_chain(caller, traced=True)
    assert chain is not None
    assert chain(1, 2, 3) == 2


# coroutines


class Now:
    def __init__(self, log: list[str], name: str, result: object = None) -> None:
        self.log, self.name, self.result = log, name, result

    @impl
    def first(self) -> object:
        self.log.append(self.name)
        return self.result


class Later(Now):
    @impl
    async def first(self) -> object:
        await asyncio.sleep(0)
        self.log.append(self.name)
        return self.result


async def test_a_coroutine_takes_its_place_in_the_order() -> None:
    log: list[str] = []
    chain = compile_chain(caller_of("first", Now(log, "last", 7), Later(log, "middle"), Now(log, "start")))
    assert is_async(chain)
    assert chain is not None
    assert await chain(1, 2, 3) == 7
    assert log == ["start", "middle", "last"]


async def test_the_first_awaited_result_ends_the_chain() -> None:
    log: list[str] = []
    chain = compile_chain(caller_of("first", Now(log, "never", 7), Later(log, "answers", 0)))
    assert chain is not None
    assert await chain(1, 2, 3) == 0
    assert log == ["answers"]


async def test_coroutines_without_an_opinion_come_to_none() -> None:
    chain = compile_chain(caller_of("first", Later([], "one"), Now([], "two")))
    assert chain is not None
    assert await chain(1, 2, 3) is None


async def test_a_single_coroutine_with_fewer_arguments_is_awaited_too() -> None:
    chain = compile_chain(caller_of("first", Later([], "only", "x")))
    assert is_async(chain)
    assert chain is not None
    assert await chain(1, 2, 3) == "x"


def test_plain_functions_need_no_await() -> None:
    assert not is_async(compile_chain(caller_of("first", Now([], "a"), Now([], "b"))))


# what implementations raise


@pytest.mark.parametrize("failing", [(True,), (True, False), (False, True), (True, True), (False, True, False)])
def test_what_one_raises_is_contained_with_its_name_and_the_others_are_called(failing: tuple[bool, ...]) -> None:
    failed: list[tuple[str, str]] = []

    def contain(implementation: pluggy.HookImpl, error: Exception) -> None:
        failed.append((implementation.plugin_name, type(error).__name__))

    log: list[object] = []
    plans = [Plan(("b",), "", False, None, raises) for raises in failing]
    caller = caller_of("every", *(build(plan, f"p{place}", "every", log) for place, plan in enumerate(plans)))
    chain = compile_chain(caller, contain=contain)
    assert chain is not None
    chain(1, 2, 3)
    assert sorted(failed) == [(f"p{place}", "KeyError") for place, raises in enumerate(failing) if raises]
    assert log == [(f"p{place}", (2,)) for place in reversed(range(len(failing)))]


def test_with_wrappers_what_passes_through_them_is_contained() -> None:
    """What an implementation raises passes through the wrappers first, as it does in pluggy."""
    log: list[object] = []
    caller = caller_of(
        "every",
        build(Plan((), "", False, None, True), "fails", "every", log),
        build(Plan((), "", True, None, False), "wraps", "every", log),
    )
    contained: list[tuple[str, type[Exception]]] = []
    chain = compile_chain(caller, contain=lambda impl, error: contained.append((impl.plugin_name, type(error))))
    assert chain is not None
    chain(1, 2, 3)
    assert contained == [("p1", KeyError)]
    assert ("wraps", "failed", ("fails",)) in log
