"""From `backends:` and `health_check:` to pools: those of routes and those under `pools:`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lb_core import known
from lb_core.documents import dotted
from lb_core.merge import Scope
from lb_core.pool_sections import BackendConfig, HealthCheckConfig, PoolConfig
from lb_core.section import Section, name_fault
from lb_core.units import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.documents import KeyPath
    from lb_core.keys import Keys
    from lb_core.problems import Problems

POOL_KEYS = ("backends", "containers", "health_check")


class PoolBuilder:
    """Collects the pools of a configuration."""

    def __init__(self, problems: Problems, keys: Keys, expanded: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.pools: dict[str, PoolConfig] = {}
        self._problems = problems
        self._keys = keys
        self._expanded = expanded
        self._named: dict[str, KeyPath] = {}

    def add_named(self, name: str, value: object, defaults: Scope) -> None:
        """A pool under `pools:`."""
        path: KeyPath = ("pools", name)
        self._named[name] = path
        if fault := name_fault(name, "pool"):
            self._problems.add(path, fault)
        own = long_route(value)
        if not isinstance(own, dict):
            self._problems.add(path, f"{show(value)} is not a pool", "write {backends: [host:port, …]}")
            return
        self._keys.check("sections", path, own, POOL_KEYS)
        if not self._key(path, own):
            self._problems.add(path, "this pool has no backends", "add backends: [host:port, …]")
        self._add(name, Scope(path, self._expanded(own), defaults), "")

    def of(self, scope: Scope, name: str, host: str) -> str:
        """The pool of a route: its own under the route's name, or the one it uses; empty when it has neither.

        `host` is the Host of the probes.
        """
        key = self._key(scope.path, scope.own)
        if "use" in scope.own:
            if key:
                self._problems.add((*scope.path, "use"), f"use and {key} exclude each other", "keep one of them")
            return self._used(scope)
        if not key:
            return ""
        if name in self._named:
            self._problems.add(scope.path, f'the name "{name}" is taken by {dotted(self._named[name])}', "rename it")
        else:
            self._add(name, scope, host)
        return name

    def without_backends(self, name: str) -> str:
        """The pool of a route that a feature answers."""
        self.pools[name] = PoolConfig(name=name, backends=())
        return name

    def health_check(self, scope: Scope) -> HealthCheckConfig | None:
        """The checks of a pool, where they are not off."""
        value = scope.merged.get("health_check")
        if value is None or value is False:
            return None
        return self._problems.validate(HealthCheckConfig, value, *scope.paths("health_check"))

    def _add(self, name: str, scope: Scope, host: str) -> None:
        backends = self._backends(scope)
        check = self.health_check(scope)
        if check is not None and check.port and any(backend.path for backend in backends):
            message = "a backend on a unix socket has no port to check"
            self._problems.add((*scope.path, "health_check", "port"), message, "leave it out")
        if backends:
            self.pools[name] = PoolConfig(name=name, backends=backends, health_check=check, host=host)

    def _key(self, path: KeyPath, own: dict[str, Any]) -> str:
        keys = [key for key in ("backends", "containers") if key in own]
        if len(keys) == 2:
            message = "containers and backends are the same thing"
            self._problems.add((*path, "containers"), message, "put all of them under backends")
        return keys[0] if keys else ""

    def _used(self, scope: Scope) -> str:
        used = scope.own["use"]
        if not isinstance(used, str) or used not in self._named:
            hint = known.suggestion(str(used), self._named) or "add it under pools:"
            self._problems.add((*scope.path, "use"), f"there is no pool {show(used)}", hint)
        elif "health_check" in scope.own:
            hint = f"set health_check in pools.{used}"
            self._problems.add((*scope.path, "health_check"), "the backends belong to another pool", hint)
        return str(used)

    def _backends(self, scope: Scope) -> tuple[BackendConfig, ...]:
        key = "backends" if "backends" in scope.own else "containers"
        path = (*scope.path, key)
        value = scope.own.get(key)
        if isinstance(value, str):
            value = [value]
        if key in scope.own and not value:
            self._problems.add(path, f"{key} is empty: there is nobody to serve", f'write {key}: ["host:port", …]')
        elif key in scope.own and not isinstance(value, (dict, list)):
            hint = "write {name: host:port, …} or a list"
            self._problems.add(path, f"{show(value)} is not a set of backends", hint)
            value = None
        found: dict[str, BackendConfig] = {}
        for at, item in value.items() if isinstance(value, dict) else enumerate(value or ()):
            backend = self._backend((*path, at), item, "" if isinstance(at, int) else at)
            if backend is not None and backend.name in found:
                message = f'the backend "{backend.name}" is given twice'
                self._problems.add((*path, at), message, "keep one, or give them names")
            elif backend is not None:
                found[backend.name] = backend
        return tuple(found.values())

    def _backend(self, path: KeyPath, value: object, name: str) -> BackendConfig | None:
        keys = [key for key in BackendConfig.keys() if not name or key != "name"]  # noqa: SIM118 - keys() of a class
        self._keys.check("backends", path, value, keys)
        backend = self._problems.validate(BackendConfig, with_name(name, BackendConfig, value), path)
        if backend is None:
            return None
        if not backend.name:
            backend = backend.model_copy(update={"name": _usual_name(backend)})
        if fault := name_fault(backend.name, "backend"):
            self._problems.add(path, fault)
        return backend


def _usual_name(backend: BackendConfig) -> str:
    """The address, without what a name cannot hold: `web1:8080`, `unix:run:app.sock`."""
    if backend.path:
        return "unix" + backend.path.replace("/", ":")
    return f"[{backend.host}]:{backend.port}" if ":" in backend.host else f"{backend.host}:{backend.port}"


def long_route(value: object) -> object:
    """`example.com: web1:8080` and `example.com: [web1:8080, …]` stand for their backends."""
    return {"backends": value} if isinstance(value, (str, list)) else value


def with_name(name: str, model: type[Section], value: object) -> object:
    """The long form of a value with its name in it, and without the keys that are noted already."""
    value = model.expand(value)
    if not isinstance(value, dict):
        return value
    allowed = model.keys()
    kept = {key: item for key, item in value.items() if key in allowed}
    return {**kept, "name": name} if name else kept
