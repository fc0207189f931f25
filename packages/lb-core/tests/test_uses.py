"""Pools and routes that features name: found, missing, without backends, and leading back to themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lb_core import Exchange, Feature, Response, Route, Settings, Use, hookimpl
from lb_core.config import config_from_tree
from lb_core.errors import ConfigError
from lb_core.plugins import Plugins


class Names(Settings):
    """Another route, or another pool."""

    short = "route"

    route: str = ""
    pool: str = ""


class Nothing:
    @hookimpl
    def before_request(self, exchange: Exchange) -> Response | None:
        return None


def nothing(route: Route, settings: Settings) -> Nothing:
    return Nothing()


def uses(settings: Names) -> Iterator[Use]:
    if settings.route:
        yield Use("route", settings.route, ("route",), acyclic=True)
    if settings.pool:
        yield Use("pool", settings.pool, ("pool",))


class Using:
    @hookimpl
    def register_features(self) -> Iterator[Feature]:
        yield Feature("then", nothing, Names, uses=uses)
        yield Feature("answer", nothing, Names, answers=lambda settings: True)
        yield Feature("instead", nothing, Names, replaces=lambda settings: ("then", "ejection"))


PLUGINS = Plugins.discover(extra=[Using()])
BACKEND = ["127.0.0.1:9"]


def problems(routes: dict[str, Any], **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        config_from_tree({"routes": routes, **more}, PLUGINS, source="test")
    return [str(problem) for problem in refused.value.problems]


def test_what_is_named_is_found() -> None:
    routes = {
        "a.x": {"backends": BACKEND, "then": {"route": "b.x", "pool": "p"}},
        "b.x": {"use": "p"},
        "c.x": {"answer": True},
    }
    config = config_from_tree({"routes": routes, "pools": {"p": {"backends": BACKEND}}}, PLUGINS, source="test")
    used = {route.name: [(use.kind, use.name, use.pool) for use in route.uses] for route in config.routes}
    assert used == {"a.x": [("route", "b.x", "p"), ("pool", "p", "p")], "b.x": [], "c.x": []}
    assert next(pool for pool in config.pools if pool.name == "c.x").backends == ()


def test_a_name_that_leads_nowhere() -> None:
    (told,) = problems({"api.x": {"backends": BACKEND, "then": "ap.x"}})
    assert told == 'test: routes.api.x.then: there is no route "ap.x" (did you mean api.x?)'
    (told,) = problems({"a.x": {"backends": BACKEND, "then": {"pool": "q"}}})
    assert told == 'test: routes.a.x.then.pool: there is no pool "q" (known are a.x)'


def test_a_route_that_answers_by_itself_cannot_serve_for_another() -> None:
    (told,) = problems({"a.x": {"backends": BACKEND, "then": "b.x"}, "b.x": {"answer": True}})
    why = 'the route "b.x" has no backends that could serve (name a route with backends)'
    assert told == f"test: routes.a.x.then: {why}"


def test_each_loop_is_told_once() -> None:
    def leading(to: str) -> dict[str, Any]:
        return {"backends": BACKEND, "then": to}

    routes = {"a.x": leading("b.x"), "b.x": leading("c.x"), "c.x": leading("b.x"), "d.x": leading("d.x")}
    first, second = problems(routes)
    assert first.startswith("test: routes.b.x.then: this leads back to itself: b.x -> c.x -> b.x")
    assert second.startswith("test: routes.d.x.then: this leads back to itself: d.x -> d.x")


def test_what_is_replaced_is_left_out_and_written_beside_its_replacement_an_error() -> None:
    def chosen(tree: dict[str, Any]) -> list[str]:
        return [each.name for each in config_from_tree(tree, PLUGINS, source="test").routes[0].features]

    route = {"backends": BACKEND, "instead": True}
    assert not {"then", "ejection"} & {*chosen({"routes": {"a.x": route}})}
    assert not {"then"} & {*chosen({"defaults": {"then": {"pool": ""}}, "routes": {"a.x": route}})}
    assert "then" not in chosen({"routes": {"a.x": {**route, "then": False}}})
    (told,) = problems({"a.x": {**route, "then": {"pool": ""}}})
    why = "instead takes the place of then here, which would do nothing (leave it out, or write instead: off)"
    assert told == f"test: routes.a.x.then: {why}"


def test_without_backends_and_without_an_answer() -> None:
    (told,) = problems({"a.x": {"then": "a.x"}})
    assert "this route has no backends" in told
