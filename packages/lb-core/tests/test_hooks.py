"""Every hook is documented in the same paragraphs, and what its example shows is accepted."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable

import pytest

from lb_core.contract import SETUP, TRAFFIC, HookManager
from lb_core.hooks import SetupHooks, TrafficHooks, hookimpl

HOOKS = [
    pytest.param(specs, getattr(specs, name), id=name)
    for specs, names in ((TrafficHooks, TRAFFIC), (SetupHooks, SETUP))
    for name in names
]


@pytest.mark.parametrize(("specs", "hook"), HOOKS)
def test_every_hook_has_the_same_paragraphs(specs: type, hook: Callable[..., object]) -> None:
    text = inspect.getdoc(hook) or ""
    assert re.match(r"[A-Z].*[.]\n", text), "one sentence first"
    places = [text.find(f"\n{word}:") for word in ("Result", "Order", "Failure", "Example")]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize(("specs", "hook"), HOOKS)
def test_every_hook_is_fully_annotated(specs: type, hook: Callable[..., object]) -> None:
    signature = inspect.signature(hook)
    assert signature.return_annotation is not signature.empty
    assert all(p.annotation is not p.empty for name, p in signature.parameters.items() if name != "self")


@pytest.mark.parametrize(("specs", "hook"), HOOKS)
def test_the_example_keeps_the_contract(specs: type, hook: Callable[..., object]) -> None:
    """It compiles, implements this very hook, and is admitted by the manager that checks plugins."""
    example = textwrap.dedent((inspect.getdoc(hook) or "").partition("Example:\n")[2])
    (function,) = ast.parse(example).body
    assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    assert function.name == hook.__name__
    indented = textwrap.indent(example, "    ")
    if not function.args.args or function.args.args[0].arg != "self":
        indented = indented.replace("@hookimpl", "@staticmethod\n    @hookimpl", 1)
    namespace: dict[str, object] = {"hookimpl": hookimpl, "asynccontextmanager": _kept}
    exec(f"class Plugin:\n{indented}", namespace)
    plugin = namespace["Plugin"]()  # type: ignore[operator]
    assert hook.__name__ in HookManager(SetupHooks, TrafficHooks).admit(plugin, "example", "the example").values()


def _kept(function: Callable[..., object]) -> Callable[..., object]:
    from contextlib import asynccontextmanager

    return asynccontextmanager(function)  # type: ignore[arg-type]


def test_hooks_are_told_apart() -> None:
    assert not TRAFFIC.keys() & SETUP.keys()
    assert TRAFFIC["select_backend"] == ("exchange", "candidates")
    assert SETUP["register_features"] == ()
