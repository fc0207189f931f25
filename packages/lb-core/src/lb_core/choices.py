"""From the `strategy:` of a file to a strategy: a registered one by name, or a class of the user's own.

    strategy: p2c                                a name or an alias of an installed plugin
    strategy: {name: ewma, decay: 10s}           with options, validated by the strategy's settings
    strategy: "mymodule:MyStrategy"              a class, found on Python's path or beside the file

A class of one's own that takes options has them described by a pydantic model, as its attribute `Settings`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lb_core.known import nearest, package_of, suggestion
from lb_core.route_sections import StrategyChoice
from lb_core.units import show

if TYPE_CHECKING:
    from pydantic import BaseModel

    from lb_core.documents import KeyPath
    from lb_core.features import Feature, Section, Strategy
    from lb_core.problems import Problems

_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*").fullmatch


class Installed(Protocol):
    """What the configuration needs to know of the plugins."""

    @property
    def strategies(self) -> Mapping[str, Strategy]: ...

    @property
    def features(self) -> Mapping[str, Feature]: ...

    @property
    def sections(self) -> Mapping[str, Section]: ...


def build_strategy(choice: StrategyChoice, plugins: Installed) -> object:
    """The object whose `select_backend` serves one route."""
    build = choice.custom or plugins.strategies[choice.name].build
    return build(choice.settings) if choice.settings is not None else build()


def choose_strategy(value: object, plugins: Installed, problems: Problems, *paths: KeyPath) -> StrategyChoice | None:
    """What `strategy:` says, or None with the problem noted."""
    path = next((each for each in paths if problems.document.has(each)), paths[0])
    if isinstance(value, Mapping) and "name" in value:
        name, options = value["name"], {key: item for key, item in value.items() if key != "name"}
    else:
        name, options = value, {}
    if not isinstance(name, (str, type)) or not name:
        problems.add(path, f"{show(value)} is not a strategy", "write its name, or {name: …, option: …}")
        return None
    if isinstance(name, type):
        target, custom = f"{name.__module__}:{name.__qualname__}", _checked(name, name.__qualname__, problems, path)
    elif ":" in name:
        target, custom = name, _imported(name, problems, path)
    else:
        return _registered(name, options, plugins, problems, path)
    if custom is None:
        return None
    return _chosen(target, getattr(custom, "Settings", None), options, problems, path, custom)


def lacking(package: str, plugins: Installed) -> str:
    """What to do when the package that brings a name is not in use."""
    broken = next((each for each in getattr(plugins, "broken", ()) if each.distribution == package), None)
    if broken:
        return f"it is installed, but broken: {broken.error}"
    if any(each.distribution == package for each in getattr(plugins, "loaded", ())):
        return f"the installed {package} does not have it yet"
    return f"pip install {package}"


def _registered(
    name: str, options: dict[str, Any], plugins: Installed, problems: Problems, path: KeyPath
) -> StrategyChoice | None:
    strategy = plugins.strategies.get(name) or plugins.strategies.get(name.replace("-", "_"))
    if strategy:
        return _chosen(strategy.name, strategy.settings, options, problems, path)
    if package := package_of("strategies", name.replace("-", "_")):
        problems.add(path, f'strategy "{name}" is in {package}', lacking(package, plugins))
        return None
    problems.add(path, f'unknown strategy "{name}"', suggestion(name, plugins.strategies))
    return None


def _chosen(
    name: str,
    model: type[BaseModel] | None,
    options: dict[str, Any],
    problems: Problems,
    path: KeyPath,
    custom: object = None,
) -> StrategyChoice | None:
    if model is None:
        for key in options:
            problems.add((*path, key), f'unknown key "{key}"', f"strategy {name} has no options")
        return None if options else StrategyChoice(name=name, custom=custom)
    settings = problems.validate(model, options, path)
    return None if settings is None else StrategyChoice(name=name, settings=settings, custom=custom)


def _imported(target: str, problems: Problems, path: KeyPath) -> Any:
    if not _TARGET(target):
        problems.add(path, f'"{target}" is not a strategy', 'write a name, or "module:Class"')
        return None
    module_name, _, attribute = target.partition(":")
    look_beside(problems.document.source)
    try:
        found: Any = import_module(module_name)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name)
        hint = f"looked beside {problems.document.source} and on Python's path" if missing else ""
        problems.add(path, f'"{target}" cannot be imported: {type(error).__name__}: {error}', hint)
        return None
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = nearest(part, [each for each in dir(found) if not each.startswith("_")])
            problems.add(path, f'{module_name} has no "{attribute}"', f"did you mean {near}?" if near else "")
            return None
        found = getattr(found, part)
    return _checked(found, target, problems, path)


def _checked(found: Any, target: str, problems: Problems, path: KeyPath) -> Any:
    if fault := _fault(found):
        problems.add(path, f'"{target}" is not a strategy: {fault}')
        return None
    return found


def _fault(found: Any) -> str:
    if not callable(found):
        return f"it is a {type(found).__name__}, not a class"
    if isinstance(found, type):
        method = getattr(found, "select_backend", None)
        if method is None:
            return "it has no method select_backend(self, candidates)"
        if not hasattr(method, "lb_impl"):
            return "its select_backend lacks the mark @hookimpl"
    return ""


def look_beside(source: str) -> None:
    """Let modules beside the file be imported; last on the path, so that they hide nothing."""
    directory = str(Path(source).resolve().parent)
    if source and directory not in sys.path:
        sys.path.append(directory)
