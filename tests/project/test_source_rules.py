"""Habits that the source keeps and no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.repository import PACKAGES, SOURCES, module, name, project, tracked, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "common", "base", "manager", "misc"}
USUAL_LINES = 350
ENGINE = "packages/lb-core/src/lb_core/engine"
LONG = {
    f"{ENGINE}/downstream.py": "one client connection: what it may send next, and how it ends, is one state machine",
    f"{ENGINE}/forwarding.py": "the life of one exchange, every phase in order",
    f"{ENGINE}/upstream.py": "one backend connection: what its response may be next is one state machine",
    "packages/lb-core/src/lb_core/balancer.py": "the composition root, and the face of it that embedders call",
}
"""Files past 350 lines, each with the one concept that fills it."""

READS_THE_ENVIRONMENT = "packages/lb-core/src/lb_core/environment.py"
CALLS_HOOKS = {"packages/lb-core/src/lb_core/plugins.py", "packages/lb-core/src/lb_core/route.py"}
HERE = Path(__file__)


def offenders(finds: Callable[[ast.AST], bool]) -> dict[str, list[int]]:
    """The source files in which a predicate holds for a node, with the lines."""
    found: dict[str, list[int]] = {}
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if finds(node):
                found.setdefault(name(path), []).append(getattr(node, "lineno", 0))
    return found


def test_there_is_source_to_check() -> None:
    assert len(SOURCES) > 20


def test_files_are_named_after_their_concept() -> None:
    assert not [name(path) for path in SOURCES if path.stem.strip("_") in NAMES_THAT_SAY_NOTHING]


def test_files_past_350_lines_are_listed_with_their_reason() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in SOURCES}
    long = {path: lines for path, lines in lengths.items() if lines > USUAL_LINES}
    unlisted = {path: lines for path, lines in long.items() if not LONG.get(path)}
    assert not unlisted, "split the second concept off, or list the file in LONG and say why not"
    assert LONG.keys() <= long.keys(), "shorter again, or gone: take it off the list"


def test_the_environment_is_read_in_one_module() -> None:
    def reads(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.environb", "os.getenv"}

    def imports(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.ImportFrom) and node.module == "os" and _names(node) & {"environ", "getenv"} != set()
        )

    found = offenders(lambda node: reads(node) or imports(node))
    assert found.keys() == {READS_THE_ENVIRONMENT}, found


def test_no_plugin_manager_is_made_at_import() -> None:
    """One per LoadBalancer, never a module global."""
    makes = re.compile(r"(PluginManager|HookManager|Plugins|Plugins\.discover)$")
    found = {
        name(path): node.lineno
        for path in SOURCES
        for statement in _run_at_import(tree(path))
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and makes.search(ast.unparse(node.func))
    }
    assert not found


def test_pluggy_is_called_in_two_files_at_most() -> None:
    """`manager.hook.NAME(…)` costs microseconds and is untyped; elsewhere there are typed methods and slots."""

    def calls(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and re.search(r"\.hook\.\w+$", ast.unparse(node.func)) is not None

    found = offenders(calls)
    assert found.keys() <= CALLS_HOOKS, found


def test_constructors_start_no_thread_and_no_task() -> None:
    """Only `lifespan` starts work."""
    starting = re.compile(r"(Thread|create_task|ensure_future|run_in_executor|to_thread)$")

    def starts(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.FunctionDef)
            and node.name in {"__init__", "__post_init__", "__new__"}
            and any(isinstance(each, ast.Call) and starting.search(ast.unparse(each.func)) for each in ast.walk(node))
        )

    assert not offenders(starts)


def test_a_plugin_imports_only_the_face_of_lb_core() -> None:
    """Plugins use `lb_core` and two parts of it with a face of their own; of each other, what they depend on."""
    allowed = {"lb_core", "lb_core.sharing", "lb_core.testing"}
    wrong = []
    for package in PACKAGES:
        if package.name == "lb-core":
            continue
        depends = {line.partition("==")[0].replace("-", "_") for line in project(package)["dependencies"]}
        for path in (package / "src").rglob("*.py"):
            for imported in _imports(tree(path)):
                top = imported.partition(".")[0]
                fine = imported in allowed or top == module(package) or (top in depends and top != "lb_core")
                if top.startswith("lb_") and not fine:
                    wrong.append(f"{name(path)}: {imported}")
    assert not wrong


def test_modules_and_their_public_parts_say_what_they_are() -> None:
    silent = [name(path) for path in SOURCES if not ast.get_docstring(tree(path))]
    assert not silent
    documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    missing = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in tree(path).body
        if isinstance(node, documented) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not missing


def test_no_registry_host_in_tracked_files() -> None:
    """Whoever clones the repository uses the registry that their own machine is set up for."""
    host = re.compile(
        r"https?://(?:[\w.-]*\.)?(?:pypi\.org/simple|pythonhosted\.org)|--(?:extra-)?index-url|index-url *="
    )
    assert not list(_files_with(host))


def test_no_path_of_one_machine_in_tracked_files() -> None:
    assert not list(_files_with(re.compile(r"(?<![\w.}])/(?:work|home|farm|root)/\w|bash_jobs")))


def _files_with(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in tracked():
        if path != HERE and pattern.search(path.read_bytes().decode("utf-8", errors="replace")):
            yield name(path)


def _imports(source: ast.Module) -> Iterator[str]:
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _names(node: ast.ImportFrom) -> set[str]:
    return {alias.name for alias in node.names}


def _run_at_import(source: ast.Module) -> list[ast.stmt]:
    """The statements that run when the module is imported: bodies of functions are left out."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found: list[ast.stmt] = []
    for statement in source.body:
        if isinstance(statement, ast.ClassDef):
            found += [each for each in statement.body if not isinstance(each, functions)]
        elif not isinstance(statement, functions):
            found.append(statement)
    return found
