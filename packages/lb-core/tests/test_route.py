"""A route, compiled: which slots are filled, in what order plugins are called, and what they raise is contained."""

from __future__ import annotations

import logging
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lb_core import Backend, Pool, Response, Route, hookimpl
from lb_core.config import RouteConfig
from lb_core.exchange import Exchange
from lb_core.plugins import Plugins
from lb_core.route_sections import Retry

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, TWO = Backend("one", "127.0.0.1", 1), Backend("two", "127.0.0.1", 2)
HOOKS = ("before_request", "on_backend_error", "on_response", "on_complete", "on_health_result")


class First:
    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        return candidates[0]


def route_with(*features: object, strategy: object | None = None, **options: Any) -> Route:
    route = Route(RouteConfig(name="example.com", host="example.com", pool="p", **options), Pool("p", (ONE, TWO)))
    named = [(f"f{place}", feature) for place, feature in enumerate(features)]
    route.attach(Plugins().traffic_manager(strategy or First(), named, "first"))
    return route


def exchange_of(route: Route) -> Exchange:
    where: Any = SimpleNamespace(peer="192.0.2.1", scheme="http", port=80)
    return Exchange(route, where, "192.0.2.1", b"GET", b"/", b"example.com", b"")


def test_a_hook_nobody_implements_is_an_empty_slot() -> None:
    route = route_with()
    assert [getattr(route, hook) for hook in HOOKS] == [None] * 5
    assert route.select_backend(exchange_of(route), (TWO, ONE)) is TWO
    assert not route.before_is_async


def test_settings_are_one_attribute_away() -> None:
    route = route_with(retry=Retry(attempts=2, on=("connect",)), strip_prefix="/v2", host_header="backend", max_body=7)
    assert (route.retry_attempts, route.retry_connect, route.retry_reset, route.retry_timeout) == (
        2,
        True,
        False,
        False,
    )
    assert (route.strip_prefix, route.send_backend_host, route.max_body) == (b"/v2", True, 7)
    assert (route.connect_timeout, route.header_timeout, route.request_timeout) == (3.0, 60.0, inf)


def test_plugins_are_named_in_the_order_of_calls() -> None:
    log: list[str] = []

    class Noting:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl
        def before_request(self) -> Response | None:
            log.append(self.name)
            return Response(418, "short and stout") if self.name == "b" else None

    route = route_with(Noting("a"), Noting("b"), Noting("c"))
    assert route.plugins == ("f0", "f1", "f2", "first")
    assert route.before_request is not None
    answer = route.before_request(exchange_of(route))
    assert answer.status == 418
    assert log == ["a", "b"]


def test_a_feature_chooses_before_the_strategy_or_leaves_it_to_it() -> None:
    class Sticky:
        wanted: Backend | None = None

        @hookimpl
        def select_backend(self) -> Backend | None:
            return self.wanted

    sticky = Sticky()
    route = route_with(sticky)
    assert route.select_backend(exchange_of(route), (ONE, TWO)) is ONE
    sticky.wanted = TWO
    assert route.select_backend(exchange_of(route), (ONE, TWO)) is TWO


class Quiet:
    @hookimpl
    def before_request(self) -> None:
        """Let it pass."""


class Raising:
    @hookimpl
    def before_request(self) -> None:
        raise ZeroDivisionError("boom")

    @hookimpl
    def on_response(self) -> None:
        raise ZeroDivisionError("boom")

    @hookimpl
    def on_complete(self) -> None:
        raise ZeroDivisionError("boom")


def test_who_could_not_decide_is_read_from_the_error() -> None:
    """The engine answers 500 and names the plugin; a hook that decides is called bare, so success pays nothing."""
    route = route_with(Quiet(), Raising(), Quiet())
    assert route.before_request is not None
    with pytest.raises(ZeroDivisionError) as caught:
        route.before_request(exchange_of(route))
    assert route.culprit(caught.value) == "f1"


async def test_who_could_not_decide_is_found_among_coroutines_too() -> None:
    class Slow:
        @hookimpl
        async def before_request(self) -> None:
            raise ZeroDivisionError("boom")

    route = route_with(Quiet(), Slow())
    assert route.before_is_async
    assert route.before_request is not None
    with pytest.raises(ZeroDivisionError) as caught:
        await route.before_request(exchange_of(route))
    assert route.culprit(caught.value) == "f1"


async def test_a_coroutine_among_plain_functions_answers_in_its_place() -> None:
    class Slow:
        @hookimpl
        async def before_request(self) -> Response | None:
            return Response(429, "slow down")

    class Plain:
        @hookimpl
        def before_request(self) -> Response | None:
            return None

    route = route_with(Plain(), Slow(), Raising())
    assert route.before_request is not None
    assert (await route.before_request(exchange_of(route))).status == 429
    assert route.plugin_errors == 0


def test_a_strategy_that_raises_is_named() -> None:
    class Lost:
        @hookimpl
        def select_backend(self) -> Backend:
            raise IndexError("empty")

    route = route_with(strategy=Lost())
    with pytest.raises(IndexError) as caught:
        route.select_backend(exchange_of(route), (ONE,))
    assert route.culprit(caught.value) == "first"


def test_an_error_from_nowhere_names_all_who_decide() -> None:
    assert route_with(Raising()).culprit(ValueError()) == "f0, first"


@pytest.mark.parametrize("hook", ["on_response", "on_complete"])
def test_a_watcher_that_raises_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture, hook: str) -> None:
    seen: list[str] = []

    class Watching:
        @hookimpl
        def on_response(self) -> None:
            seen.append("on_response")

        @hookimpl
        def on_complete(self) -> None:
            seen.append("on_complete")

    route = route_with(Watching(), Raising(), Watching())
    with caplog.at_level(logging.ERROR, "lb.plugins"):
        getattr(route, hook)(exchange_of(route))
    assert seen == [hook, hook]
    assert route.plugin_errors == 1
    assert f"plugin 'f1' failed in {hook}" in caplog.text
    assert "ZeroDivisionError: boom" in caplog.text


def test_a_plugin_that_always_fails_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    route = route_with(Raising())
    assert route.on_complete is not None
    for _ in range(100):
        try:
            route.on_complete(exchange_of(route))
        except ZeroDivisionError as error:  # of a single watcher it is the engine that contains what it raises
            route.contain(error, "on_complete")
    assert route.plugin_errors == 100
    assert caplog.text.count("ZeroDivisionError: boom") == 1


def test_what_a_wrapped_watcher_raises_is_contained_too(caplog: pytest.LogCaptureFixture) -> None:
    class Around:
        @hookimpl(wrapper=True)
        def on_complete(self) -> Iterator[None]:
            return (yield)

    route = route_with(Around(), Raising())
    assert route.on_complete is not None
    route.on_complete(exchange_of(route))
    assert "ZeroDivisionError: boom" in caplog.text
    assert route.plugin_errors == 1


def test_a_watcher_may_have_another_name_than_its_hook(caplog: pytest.LogCaptureFixture) -> None:
    class Named:
        @hookimpl(specname="on_backend_error")
        def note(self, error: Exception) -> None:
            raise ZeroDivisionError(f"boom after {error}")

    route = route_with(Named())
    assert route.on_backend_error is not None
    route.on_backend_error(exchange_of(route), cast("Any", "refused"))
    assert "plugin 'f0' failed in on_backend_error" in caplog.text
    assert "boom after refused" in caplog.text


def test_health_results_reach_the_features_of_the_route() -> None:
    seen: list[tuple[Backend, object]] = []

    class Watching:
        @hookimpl
        def on_health_result(self, result: object, backend: Backend) -> None:
            seen.append((backend, result))

    route = route_with(Watching())
    assert route.on_health_result is not None
    route.on_health_result(ONE, cast("Any", "fine"))
    assert seen == [(ONE, "fine")]


def test_failed_attempts_reach_those_who_count_them() -> None:
    seen: list[object] = []

    class Counting:
        @hookimpl
        def on_backend_error(self, exchange: Exchange, error: Exception) -> None:
            seen.extend((exchange.backend, error))

    route = route_with(Counting())
    exchange = exchange_of(route)
    exchange.backend = TWO
    assert route.on_backend_error is not None
    route.on_backend_error(exchange, cast("Any", "refused"))
    assert seen == [TWO, "refused"]
