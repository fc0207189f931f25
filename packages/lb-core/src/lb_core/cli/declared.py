"""Which commands the installed plugins offer, read from their sources where that suffices.

Importing a plugin may take a quarter of a second, and the command line needs three things of it: a command's name, its
help and its arguments. They nearly always stand in the source as they are:

    SHIFT = Command("shift", shift, "Change the shares of a split.", ("ROUTE", "SHARE..."))

Only where a plugin computes them, or has no source, is it imported and asked.
"""

from __future__ import annotations

import ast
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lb_core.commands import Command
from lb_core.hooks import GROUP

_PARAMETERS = ("name", "run", "help", "arguments", "data")
_BUILT_IN = EntryPoint("defaults", "lb_core.defaults", GROUP)


def offered() -> tuple[list[Command], list[str]]:
    """The commands of all plugins by entry-point name, and what is wrong with plugins that cannot be asked."""
    found: list[Command] = []
    problems: list[str] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            found += _of(point)
        except (Exception, SystemExit) as error:
            problems.append(f"plugin {point.name!r} is left out: {type(error).__name__}: {error}")
    return found, problems


def built_in() -> list[Command]:
    """The commands that need no plugin."""
    return _of(_BUILT_IN, _BUILT_IN.module)


def _of(point: EntryPoint, package: str = "") -> list[Command]:
    sources = _sources(package or point.module.partition(".")[0])
    if sources is not None:
        texts = [text for text in sources if "register_commands" in text or "Command(" in text]
        if not any("register_commands" in text for text in texts):
            return []
        declared = [each for text in texts for each in _declared(ast.parse(text))]
        if declared and None not in declared:
            return [Command(run=_elsewhere, **each) for each in declared if each is not None]
    register = getattr(point.load(), "register_commands", None)
    return list(register()) if callable(register) else []


def _sources(package: str) -> list[str] | None:
    """The sources of a package, or of a module alone; None where there are none to read."""
    spec = find_spec(package)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
    return [each.read_text(encoding="utf-8") for each in files]


def _declared(tree: ast.Module) -> list[dict[str, Any] | None]:
    """What a module's `Command(…)` say; None for one whose words are computed."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    if not any(each.module in ("lb_core", "lb_core.commands") and _names(each, "Command") for each in imports):
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [_words(call) for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Command"]


def _names(imported: ast.ImportFrom, wanted: str) -> bool:
    return any(alias.name == wanted and alias.asname is None for alias in imported.names)


def _words(call: ast.Call) -> dict[str, Any] | None:
    given = dict(zip(_PARAMETERS, call.args, strict=False))
    given |= {each.arg: each.value for each in call.keywords if each.arg}
    functions: dict[str, Any] = {"data": _elsewhere} if given.pop("data", None) else {}
    given.pop("run", None)
    try:
        return functions | {name: ast.literal_eval(value) for name, value in given.items()}
    except ValueError:
        return None


def _elsewhere() -> str:
    raise NotImplementedError("a command runs inside the running balancer")
