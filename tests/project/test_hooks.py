"""Every hook is documented in the same paragraphs, has an example that compiles, is consumed, and is tested."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap

import pytest

from lb_core.hooks import GROUP, SetupHooks, TrafficHooks
from tests.support.repository import PACKAGES, ROOT, SOURCES

HOOKS = [
    (specs, name)
    for specs in (TrafficHooks, SetupHooks)
    for name, spec in vars(specs).items()
    if hasattr(spec, f"{GROUP}_spec")
]
PARAGRAPHS = ("Result:", "Order:", "Failure:", "Example:")
each_hook = pytest.mark.parametrize(("specs", "hook"), HOOKS, ids=[name for _, name in HOOKS])


def test_there_are_hooks_of_both_kinds() -> None:
    assert {specs for specs, _ in HOOKS} == {TrafficHooks, SetupHooks}


def _doc(specs: type, hook: str) -> str:
    return inspect.getdoc(getattr(specs, hook)) or ""


@each_hook
def test_docstring_has_the_paragraphs_in_order(specs: type, hook: str) -> None:
    doc = _doc(specs, hook)
    places = [doc.find(f"\n{paragraph}") for paragraph in PARAGRAPHS]
    assert -1 not in places, f"missing of {PARAGRAPHS}: {places}"
    assert places == sorted(places)
    assert doc.splitlines()[0].endswith("."), "the first line is a sentence"


@each_hook
def test_example_implements_the_hook_with_arguments_it_has(specs: type, hook: str) -> None:
    code = textwrap.dedent(_doc(specs, hook).partition("\nExample:\n")[2])
    functions = [
        node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert [function.name for function in functions] == [hook]
    assert "hookimpl" in [ast.unparse(decorator) for decorator in functions[0].decorator_list]
    taken = {argument.arg for argument in functions[0].args.args} - {"self"}
    assert taken <= set(inspect.signature(getattr(specs, hook)).parameters)


@each_hook
def test_hook_has_a_consumer(specs: type, hook: str) -> None:
    """Somebody calls it: its name stands in the code of lb_core outside the specifications."""
    called = re.compile(rf"\b{hook}\b")
    users = [path for path in SOURCES if path.name != "hooks.py" and called.search(_code_only(path.read_text()))]
    assert users, f"nothing calls {hook}; a hook without a consumer is deleted"


@each_hook
def test_hook_is_implemented_in_a_test(specs: type, hook: str) -> None:
    implemented = re.compile(rf"def {hook}\(")
    folders = [*(package / "tests" for package in PACKAGES), ROOT / "tests", ROOT / "examples"]
    assert any(implemented.search(path.read_text()) for folder in folders for path in folder.rglob("*.py"))


def _code_only(source: str) -> str:
    return re.sub(r'""".*?"""|#[^\n]*', "", source, flags=re.DOTALL)
