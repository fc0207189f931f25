"""What routes use of each other: the pools and routes that the settings of a feature name.

Looked up when all of them are known. A name that leads nowhere is an error at its key; so is a loop of routes that are
used acyclically (a failover that leads back to itself).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import known
from lb_core.documents import dotted
from lb_core.route_sections import RouteConfig, UsedConfig
from lb_core.units import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lb_core.documents import KeyPath
    from lb_core.features import Use
    from lb_core.pool_sections import PoolConfig
    from lb_core.problems import Problems


class Uses:
    """Collects what each route uses, and looks it up."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._noted: dict[str, list[tuple[Use, KeyPath]]] = {}

    def note(self, route: str, use: Use, paths: Iterable[KeyPath]) -> None:
        """A route's feature names something; `paths` are where its section may stand, the nearest first."""
        paths = [*paths]
        document = self._problems.document
        keys = use.key, use.key[1:]  # a short form that is a list leaves the first out
        places = [(*path, *key) for path in paths for key in keys if key and document.value((*path, *key)) is not None]
        section = next((path for path in paths if document.has(path)), paths[0])
        self._noted.setdefault(route, []).append((use, places[0] if places else section))

    def resolve(self, routes: Iterable[RouteConfig], pools: Mapping[str, PoolConfig]) -> tuple[RouteConfig, ...]:
        """The routes with what they use; problems are noted."""
        by_name = {route.name: route for route in routes}
        resolved = tuple(self._resolved(route, by_name, pools) for route in by_name.values())
        self._refuse_loops()
        return resolved

    def checks(self, routes: Iterable[RouteConfig]) -> dict[str, str]:
        """Paths to check backends by, by the names of the pools, where a feature names one."""
        pools = {route.name: route.pool for route in routes}
        noted = [use for uses in self._noted.values() for use, _ in uses if use.health_check]
        return {pools.get(use.name, use.name) if use.kind == "route" else use.name: use.health_check for use in noted}

    def _resolved(
        self, route: RouteConfig, routes: Mapping[str, RouteConfig], pools: Mapping[str, PoolConfig]
    ) -> RouteConfig:
        found = []
        for use, path in self._noted.get(route.name, ()):
            if use.kind == "route" and use.name in routes:
                if not pools[routes[use.name].pool].backends:
                    hint = "name a route with backends"
                    self._problems.add(path, f"the route {show(use.name)} has no backends that could serve", hint)
                found.append(UsedConfig(kind="route", name=use.name, pool=routes[use.name].pool))
            elif use.kind == "pool" and use.name in pools:
                found.append(UsedConfig(kind="pool", name=use.name, pool=use.name))
            else:
                names = routes if use.kind == "route" else pools
                hint = known.suggestion(use.name, names) or f"add it under {use.kind}s:"
                self._problems.add(path, f"there is no {use.kind} {show(use.name)}", hint)
        return route.model_copy(update={"uses": tuple(found)}) if found else route

    def _refuse_loops(self) -> None:
        leads = {
            route: [(use.name, path) for use, path in noted if use.acyclic and use.kind == "route"]
            for route, noted in self._noted.items()
        }
        reported: set[frozenset[str]] = set()
        for route in leads:
            loop = _loop_from(route, leads)
            if loop and frozenset(loop) not in reported:
                reported.add(frozenset(loop))
                path = next(path for name, path in leads[route] if name == loop[1])
                message = f"this leads back to itself: {' -> '.join(loop)}"
                self._problems.add(path, message, f"take one of the steps away, as {dotted(path)}")


def _loop_from(start: str, leads: Mapping[str, list[tuple[str, KeyPath]]]) -> list[str]:
    """The way from a route back to itself, or nothing."""
    ways = [[start]]
    seen = {start}
    while ways:
        way = ways.pop()
        for name, _ in leads.get(way[-1], ()):
            if name == start:
                return [*way, name]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []
