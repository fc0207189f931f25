"""What the environment and the command line add to a document.

    ${VAR}  ${VAR:-default}           inside any text of the file; `$${` stands for a plain `${`
    LB_ACCESS_LOG__FORMAT=clf         a key of the file, `__` between the levels; `_` for signs a variable cannot hold
    LB_PORT=9000                      the port of the first listener
    LOAD_BALANCER_PORT, …             older names of the same

A variable is written over the file, the command line over both. A variable that begins with LB_ and names no section is
left alone, unless it looks like a misspelt one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from lb_core.documents import Document, Key, KeyPath, Place, Tree, dotted
from lb_core.errors import ConfigError, Problem
from lb_core.known import nearest, package_of
from lb_core.listener_sections import ListenerConfig
from lb_core.pool_building import long_route
from lb_core.pool_sections import BackendConfig, HealthCheckConfig
from lb_core.sections import AccessLogConfig, GlobalOptions, ReadinessConfig
from lb_core.units import parse_port
from lb_core.yaml_tree import read, scalar

HANDOVER = "LB_HANDOVER"
"""Set for the process that an upgrade in place starts, and for nobody else."""
LARGEST_TREE = 500_000
OLDER_NAMES = {
    "LOAD_BALANCER_PORT": "LB_PORT",
    "LOAD_BALANCER_WEB_PORT": "LB_WEB_PORT",
    "LOAD_BALANCER_LOG_LEVEL": "LB_LOG_LEVEL",
    "LOAD_BALANCER_SSL_CERTS_PATH": "LB_SSL_CERTS_PATH",
}
SECTIONS = ("listeners", *GlobalOptions.model_fields, "defaults", "routes", "pools")

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL).fullmatch


def process_environment() -> dict[str, str]:
    """The environment of this process: the one place where it is read."""
    return {name: value for name, value in os.environ.items() if name != HANDOVER}


def take_handover() -> int:
    """The descriptor over which another process hands its place over; -1 for none, and after it was asked for once."""
    value = os.environ.pop(HANDOVER, "")
    return int(value) if value.isascii() and value.isdigit() else -1


def apply(document: Document, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> None:
    """Fill in `${…}`, then write the environment and the overrides (a tree like the file's) over the document."""
    used = _Expansion(document, environ).used
    for name, value in _variables(environ).items():
        _variable(document, name, value, used)
    for path, value in _leaves(overrides or {}, ()):
        if path == ("port",):
            _set_port(document, value, Place("command line", 0))
        else:
            _put(document, path, value, Place("command line", 0))


class _Expansion:
    """Replaces the document's tree by a copy with `${…}` filled in; `used` are the variables it names."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self.used: set[str] = set()
        self._document = document
        self._environ = environ
        self._count = 0
        document.tree = self._copy(document.tree, ())

    def _copy(self, value: Any, path: KeyPath) -> Any:
        self._count += 1
        if self._count > LARGEST_TREE:
            message = f"this holds more than {LARGEST_TREE} values once its aliases are filled in"
            raise ConfigError([Problem(message, "", self._document.source)])
        if isinstance(value, dict):
            return {key: self._copy(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._copy(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return _VARIABLE.sub(lambda found: self._filled(found, path), value)
        return value

    def _filled(self, found: re.Match[str], path: KeyPath) -> str:
        if found[0] == "$${":
            return "${"
        inside = _INSIDE(found[1])
        if not inside or not found[0].endswith("}"):
            self._problem(
                path, f"{found[0]} is not a variable", "write ${NAME} or ${NAME:-default}, or $${ for a plain ${"
            )
            return ""
        name, default = inside[1], inside[2]
        self.used.add(name)
        value = self._environ.get(name, "")
        if value or (default is None and name in self._environ):
            return value
        if default is None:
            self._problem(path, f"the environment variable {name} is not set", f"set it, or write ${{{name}:-default}}")
        return default or ""

    def _problem(self, path: KeyPath, message: str, hint: str) -> None:
        self._document.problems.append(self._document.problem(path, message, hint))


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be ours, older names before the newer ones that win over them."""
    older = {name: environ[name] for name in OLDER_NAMES if name in environ and OLDER_NAMES[name] not in environ}
    return older | {name: environ[name] for name in sorted(environ) if name.startswith("LB_")}


def _variable(document: Document, name: str, text: str, used: set[str]) -> None:
    parts = OLDER_NAMES.get(name, name).removeprefix("LB_").split("__")
    place = Place(f"environment variable {name}", 0)
    top = parts[0].lower()
    if parts == ["PORT"]:
        _set_port(document, text, place)
    elif top in SECTIONS or (package_of("sections", top) and name not in used):
        try:
            _put(document, _resolve(document.tree, parts), _value(text), place)
        except ConfigError as error:
            _refuse(document, place, f"{text!r}: {error.problems[0].message}")
    elif name not in used and ((near := nearest(top, SECTIONS)) or len(parts) > 1):
        hint = (
            f"did you mean LB_{'__'.join([near.upper(), *parts[1:]])}?"
            if near
            else f"sections are {', '.join(SECTIONS)}"
        )
        _refuse(document, place, f'there is no section "{top}"', hint)


def _value(text: str) -> Any:
    if text.startswith(("[", "{")):
        return read(f"value: {text}", "").tree["value"]
    return scalar(text) if text else ""


def _resolve(tree: Tree, parts: list[str]) -> KeyPath:
    """The path a variable means: keys that exist are found whatever their case and signs."""
    path: list[Key] = []
    at: Any = tree
    for part in parts:
        key: Key = part.lower()
        if isinstance(at, list) and part.isdigit():
            key = int(part)
            at = at[key] if key < len(at) else None
        elif isinstance(at, dict):
            key = next((each for each in at if _folded(each) == _folded(part)), part.lower())
            at = at.get(key)
        path.append(key)
    return tuple(path)


def _folded(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", key.lower())


def _leaves(value: Mapping[str, Any], path: KeyPath) -> list[tuple[KeyPath, Any]]:
    found: list[tuple[KeyPath, Any]] = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found += _leaves(item, (*path, key))
        else:
            found.append(((*path, key), item))
    return found


def _put(document: Document, path: KeyPath, value: Any, place: Place) -> None:
    at: Any = document.tree
    for depth, key in enumerate(path):
        if isinstance(at, list) and not (isinstance(key, int) and key < len(at)):
            _refuse(document, place, f"the list {dotted(path[:depth])} has no item {key}", "count from 0")
            return
        if depth == len(path) - 1:
            at[key] = value
            break
        inner = at.get(key) if isinstance(at, dict) else at[key]
        if not isinstance(inner, (dict, list)):
            inner = long_form(path[: depth + 1], inner)
        if inner is None:
            here = dotted(path[: depth + 1])
            _refuse(document, place, f"the file has a short form in {here}, which has no keys", "replace it as a whole")
            return
        at[key] = inner
        at = inner
    document.places = {each: where for each, where in document.places.items() if each[: len(path)] != path}
    document.places[path] = place


def _refuse(document: Document, place: Place, message: str, hint: str = "") -> None:
    document.problems.append(Problem(message, "", place.file, place.line, hint))


def long_form(path: KeyPath, value: Any) -> dict[str, Any] | None:
    """The mapping that a short form stands for, so that one key of it can be set."""
    if value is None:
        return {}
    expand: Callable[[object], Any] | None = None
    match path:
        case ("access_log",):
            expand = AccessLogConfig.expand
        case ("readiness",):
            expand = ReadinessConfig.expand
        case ("listeners", _):
            expand = ListenerConfig.expand
        case (*_, "backends" | "containers", _):
            expand = BackendConfig.expand
        case (*_, "health_check"):
            expand = HealthCheckConfig.expand
        case (*_, "strategy"):
            return {"name": value}
        case ("routes" | "pools", _):
            expand = long_route if isinstance(value, (str, list)) else None
    return dict(expand(value)) if expand else {} if isinstance(value, bool) else None


def _set_port(document: Document, port: Any, place: Place) -> None:
    try:
        parse_port(port, lowest=0)
    except ValueError as error:
        hint = (
            "Kubernetes sets this variable for a service called lb: use enableServiceLinks: false"
            if "://" in str(port)
            else ""
        )
        _refuse(document, place, str(error), hint)
        return
    listeners = document.tree.get("listeners") or {}
    name = next(iter(listeners), "web") if isinstance(listeners, dict) else "web"
    now = listeners.get(name) if isinstance(listeners, dict) else None
    address = now.get("address") if isinstance(now, dict) else now
    host = address.rpartition(":")[0] if isinstance(address, str) else ""
    _put(document, ("listeners", name, "address"), f"{host}:{port}", place)
