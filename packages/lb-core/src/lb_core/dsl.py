"""The configuration in Python: the words of the YAML file as calls.

    balancer = LoadBalancer()
    with balancer.route_domain("example.com") as route:
        route.container("web1", "web1:8080", weight=3)
        route.strategy("round_robin")
        route.health_check("/health", interval="10s")
        route.rate_limit(requests=1000, window="60s")

A call writes what the same key of a file would hold, and remembers its line; checking is left to `build`. Any section
may be called by its name, those of plugins too; one that is not installed is reported together with everything else.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from lb_core.choices import look_beside
from lb_core.documents import Document, KeyPath, Place, dotted, read_text
from lb_core.errors import ConfigError, Problem
from lb_core.known import nearest
from lb_core.listener_sections import ListenerConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.sections import Config

MODULE = "lb_balancer_file"
_OWN = ("lb_core.", "contextlib")


class Tree:
    """What has been written so far, shaped like a file."""

    def __init__(self) -> None:
        self._tree: dict[str, Any] = {}
        self._places: dict[KeyPath, Place] = {}
        self._problems: list[Problem] = []

    def route_domain(self, host: str) -> RouteBuilder:
        """The route of a host, as a context manager."""
        return RouteBuilder(self, ("routes", host), self._section("routes"))

    def pool(self, name: str) -> RouteBuilder:
        """A pool without a host, for `use`."""
        return RouteBuilder(self, ("pools", name), self._section("pools"))

    def defaults(self, **sections: Any) -> None:
        """What every route inherits."""
        for key, value in sections.items():
            self.write(("defaults", key), self._section("defaults"), key, value)

    def listener(self, name: str, address: str, **options: Any) -> None:
        """An address to listen on."""
        value = {"address": address, **options} if options else address
        self.write(("listeners", name), self._section("listeners"), name, value)

    def set(self, key: str, value: Any) -> None:
        """A key at the top of the file."""
        self.write((key,), self._tree, key, value)

    def document(self, source: str = "") -> Document:
        """Everything written, ready for `build`."""
        files = (source,) if source else ()
        return Document(self._tree, source, dict(self._places), {}, list(self._problems), files)

    def write(self, path: KeyPath, into: dict[str, Any], key: str, value: Any) -> None:
        """Put a value into a mapping; what is there already stays, and the second one is a problem."""
        place = _caller()
        if key in into:
            first = self._places.get(path, Place("", 0)).line
            message = f"{dotted(path[-1:])} is given twice, first in line {first}"
            self._problems.append(Problem(message, dotted(path), place.file, place.line, "keep one of the two"))
            return
        into[key] = value
        self._places[path] = place

    def forget(self, path: KeyPath, problems: int) -> None:
        """Take back a section that was begun when there were so many problems."""
        self._places = {each: place for each, place in self._places.items() if each[: len(path)] != path}
        del self._problems[problems:]

    @property
    def problem_count(self) -> int:
        """How many problems there are so far."""
        return len(self._problems)

    def _section(self, key: str) -> dict[str, Any]:
        section: dict[str, Any] = self._tree.setdefault(key, {})
        self._places.setdefault((key,), _caller())
        return section


class RouteBuilder:
    """The sections of one route, rule or pool. `route.NAME(…)` writes the section NAME.

    Keywords become the keys of the section, one plain argument its short form: `route.timeouts(connect="1s")`,
    `route.max_body("1GiB")`. A duration may be a timedelta.
    """

    def __init__(self, tree: Tree, path: KeyPath, into: dict[str, Any]) -> None:
        self._tree = tree
        self._into = into
        self._own: dict[str, Any] = {}
        self._first = str(path[-1]) not in into
        self._path = path if self._first else (*path, "(again)")
        self._problems = tree.problem_count
        tree.write(path, into, str(path[-1]), self._own)

    def __enter__(self) -> RouteBuilder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            return
        if self._first:  # half a route is none
            self._into.pop(str(self._path[-1]), None)
        self._tree.forget(self._path, self._problems)

    def container(self, name: str, address: str = "", **options: Any) -> None:
        """A backend: its name and `host:port`, or the address alone."""
        value: Any = {"url": address or name, **options} if options else address or name
        if "url" in options or "address" in options:
            value = options
        backends = self._own.setdefault("backends", {})
        self._tree.write((*self._path, "backends", name), backends, name, value)

    backend = container

    def strategy(self, name: str | type, **options: Any) -> None:
        """How a backend is chosen: a name, "module:Class", or a class."""
        self._write("strategy", {"name": name, **options} if options else name)

    def health_check(self, path: str | bool = True, **options: Any) -> None:
        """Active checks: the path and further keys; False for none."""
        self._write("health_check", {"path": path, **options} if isinstance(path, str) and options else options or path)

    def match(self, **conditions: Any) -> RouteBuilder:
        """A rule under the same host; returns its builder, for backends and sections of its own."""
        rules: list[Any] = self._own.setdefault("match", [])
        rule = _RuleBuilder(self._tree, (*self._path, "match", len(rules)), rules)
        for key, value in conditions.items():
            rule._write(key, value)
        return rule

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)

        def section(*short: Any, **keys: Any) -> None:
            if len(short) > 1 or (short and keys):
                raise TypeError(f"{name}() takes keywords, or one value for its short form")
            self._write(name, short[0] if short else keys or True)

        return section

    def _write(self, key: str, value: Any) -> None:
        self._tree.write((*self._path, key), self._own, key, value)


class _RuleBuilder(RouteBuilder):
    """The sections of a rule under `match`."""

    def __init__(self, tree: Tree, path: KeyPath, rules: list[Any]) -> None:
        super().__init__(tree, path, {})
        rules.append(self._own)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to take back: what is raised here ends the block of the route too."""


def execute(path: str | Path) -> object:
    """Run a Python file and return its `balancer`; ConfigError says what went wrong, and in which line."""
    source = str(path)
    text = read_text(path)
    module = ModuleType(MODULE)
    module.__file__ = str(Path(path).resolve())
    sys.modules[MODULE] = module  # dataclasses and pydantic look up the module of a class there
    look_beside(source)
    try:
        exec(compile(text, source, "exec"), module.__dict__)
    except ConfigError:
        raise
    except SyntaxError as error:
        raise _failed(source, f"this is not Python: {error.msg}", error.lineno or 0) from error
    except SystemExit as error:
        raise _failed(
            source, f"the file ended the program with exit status {error.code}", _line(error, source)
        ) from error
    except Exception as error:
        raise _failed(source, f"{type(error).__name__}: {error}", _line(error, source)) from error
    if "balancer" not in module.__dict__:
        names = [name for name in module.__dict__ if not name.startswith("_")]
        near = nearest("balancer", names)
        hint = f"did you mean {near}? Name it balancer" if near else "write balancer = LoadBalancer()"
        raise _failed(source, "the file defines no `balancer`", 0, hint)
    return module.__dict__["balancer"]


def tree_of(balancer: object, source: str | Path) -> Tree:
    """The Tree inside what a file calls `balancer`."""
    inside = vars(balancer).values() if hasattr(balancer, "__dict__") else ()
    found = next((each for each in (balancer, *inside) if isinstance(each, Tree)), None)
    if found is None:
        message = f"`balancer` is a {type(balancer).__name__}, not a LoadBalancer"
        raise _failed(str(source), message, 0, "write balancer = LoadBalancer()")
    return found


def with_listener(config: Config, host: str, port: int) -> Config:
    """The same configuration on one other address."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return config.model_copy(update={"listeners": (ListenerConfig(name="web", address=address),)})


def _failed(source: str, message: str, line: int, hint: str = "") -> ConfigError:
    return ConfigError([Problem(message, "", source, line, hint)])


def _line(error: BaseException, source: str) -> int:
    lines = [each.lineno or 0 for each in traceback.extract_tb(error.__traceback__) if each.filename == source]
    return lines[-1] if lines else 0


def _caller() -> Place:
    """The line outside this package that wrote something."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(_OWN):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)
