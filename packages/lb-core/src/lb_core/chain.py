"""Hook calls without pluggy's per-call cost, for the path every request takes.

A chain is compiled once, when a route is built, from the implementations that pluggy has already collected, checked
and put in order. It calls the same functions in the same order and stops where pluggy would stop. Where pluggy would
do more than that (wrappers, tracing), the chain is pluggy's own caller, so those rules stand in one place only.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pluggy import HookCaller, HookImpl

Call = Callable[..., Any]
Contain = Callable[["HookImpl", Exception], None]


def compile_chain(caller: HookCaller, *, contain: Contain | None = None, traced: bool = False) -> Call | None:
    """Return a function that does what `caller` does, taking the hook's arguments by position.

    None where nothing implements the hook, so that the engine can skip the call altogether. `contain(impl,
    error)` is given what an implementation of a hook without a result raises; the others are still called. With an
    implementation that is a coroutine function the chain is a coroutine function too; `is_async` tells.
    """
    impls = caller.get_hookimpls()
    if not impls:
        return None
    if caller.spec is None:
        raise LookupError(f"hook {caller.name!r} has no specification")
    argnames = caller.spec.argnames
    if traced or any(impl.wrapper or impl.hookwrapper for impl in impls):
        # What an inner implementation raises passes through the wrappers, so it is contained around them all.
        whole = _through_pluggy(caller, argnames)
        return _every_contained([(impls[-1], whole)], contain, 0) if contain else whole
    called = [(impl, _positional(impl, argnames)) for impl in reversed(impls)]
    functions = [function for _, function in called]
    if not caller.spec.opts["firstresult"]:
        return _every_contained(called, contain, len(argnames)) if contain else _every(functions)
    if any(iscoroutinefunction(impl.function) for impl in impls):
        return _first_awaited(functions)
    return _first_result(functions, len(argnames))


def each_by_itself(caller: HookCaller) -> tuple[tuple[str, Call, object], ...]:
    """What a chain would call, in order: the plugin's name, a function of the hook's arguments, and the plugin.

    Where wrappers stand around the implementations, the whole chain is one, under the names of all.
    """
    impls = list(reversed(caller.get_hookimpls()))
    chain = compile_chain(caller)
    if any(impl.wrapper or impl.hookwrapper for impl in impls) and chain is not None:
        return ((", ".join(impl.plugin_name for impl in impls), chain, None),)
    argnames = caller.spec.argnames if caller.spec is not None else ()
    return tuple((impl.plugin_name, _positional(impl, argnames), impl.plugin) for impl in impls)


def is_async(chain: Call | None) -> bool:
    """Whether the chain must be awaited."""
    return chain is not None and iscoroutinefunction(chain)


def _through_pluggy(caller: HookCaller, argnames: tuple[str, ...]) -> Call:
    return lambda *args: caller(**dict(zip(argnames, args, strict=True)))


def _first_result(functions: list[Call], count: int) -> Call:
    if len(functions) == 1:
        return functions[0]
    if len(functions) == 2 and count <= 2:
        return _first_of_two(functions[0], functions[1], count)

    def call(*args: object) -> object:
        for function in functions:
            result = function(*args)
            if result is not None:
                return result
        return None

    return call


def _first_of_two(one: Call, two: Call, count: int) -> Call:
    """The commonest chain, without a loop: a feature and the strategy, or two features; `count` of arguments."""

    def of_exchange(exchange: object) -> object:
        result = one(exchange)
        return two(exchange) if result is None else result

    def of_choice(exchange: object, candidates: object) -> object:
        result = one(exchange, candidates)
        return two(exchange, candidates) if result is None else result

    return of_exchange if count == 1 else of_choice


def _first_awaited(functions: list[Call]) -> Call:
    async def call(*args: object) -> object:
        for function in functions:
            result = function(*args)
            if hasattr(result, "__await__"):
                result = await result
            if result is not None:
                return result
        return None

    return call


def _every(functions: list[Call]) -> Call:
    if len(functions) == 1:
        return functions[0]

    def call(*args: object) -> None:
        for function in functions:
            function(*args)

    return call


def _every_contained(called: list[tuple[HookImpl, Call]], contain: Contain, count: int) -> Call:
    if len(called) == 2 and count == 1:
        return _two_contained(called[0], called[1], contain)

    def call(*args: object) -> None:
        for impl, function in called:
            try:
                function(*args)
            except Exception as error:
                contain(impl, error)

    return call


def _two_contained(first: tuple[HookImpl, Call], second: tuple[HookImpl, Call], contain: Contain) -> Call:
    """The commonest chain of these: a feature and the access log."""
    one, two = first[1], second[1]

    def call(exchange: object) -> None:
        try:
            one(exchange)
        except Exception as error:
            contain(first[0], error)
        try:
            two(exchange)
        except Exception as error:
            contain(second[0], error)

    return call


def _positional(impl: HookImpl, argnames: tuple[str, ...]) -> Call:
    """Adapt an implementation that takes only some of the hook's arguments, or in another order."""
    function = impl.function
    if tuple(impl.argnames) == tuple(argnames):
        return function
    wanted = [argnames.index(name) for name in impl.argnames]
    match wanted:
        case []:
            return lambda *_: function()
        case [only]:
            return lambda *args: function(args[only])
        case _:
            pick = itemgetter(*wanted)
            return lambda *args: function(*pick(args))
