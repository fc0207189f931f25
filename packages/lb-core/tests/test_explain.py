"""What would happen to a request, told without sending it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lb_core import Backend, LbError, LoadBalancer, Strategy, hookimpl
from lb_core.config import config_from_tree
from lb_core.plugins import Plugins

TREE: dict[str, Any] = {
    "access_log": False,
    "routes": {
        "shop.example": {
            "backends": {"web1": "127.0.0.1:9001", "web2": {"url": "http://[::1]:9002", "weight": 3}},
            "match": [
                {"path_prefix": "/v2", "methods": ["GET", "HEAD"], "use": "v2"},
                {"path": "/exact", "use": "v2", "priority": 5},
                {"headers": {"X-Beta": "1"}, "query": {"a": "b"}, "use": "v2"},
                {"clients": ["10.0.0.0/8"], "use": "v2"},
            ],
        },
        "*.wild.example": {"backends": ["127.0.0.1:9004"]},
        "[::1]": {"backends": ["127.0.0.1:9005"]},
    },
    "pools": {"v2": {"backends": ["127.0.0.1:9003"]}},
}


SHOP = "127.0.0.1:9001 [::1]:9002"
"""Either of them: with nothing in flight the default strategy begins anywhere."""


def balanced(tree: dict[str, Any] = TREE, **more: Any) -> LoadBalancer:
    plugins = Plugins.discover(extra=more.pop("extra", ()))
    return LoadBalancer(config_from_tree({**tree, **more}, plugins), plugins=plugins)


BALANCER = balanced()


@pytest.mark.parametrize(
    ("asked", "why", "address"),
    [
        ({"url": "http://shop.example/"}, "host shop.example", SHOP),
        ({"url": "https://SHOP.example:8443/a?b=c"}, "host shop.example", SHOP),
        ({"url": "shop.example"}, "host shop.example", SHOP),
        ({"url": "shop.example/a//b"}, "host shop.example", SHOP),
        ({"url": "shop.example/?next=http://other.example/"}, "host shop.example", SHOP),
        ({"url": "http://user:word@shop.example/"}, "host shop.example", SHOP),
        (
            {"url": "http://shop.example/v2/x"},
            "host shop.example, path prefix /v2, method GET or HEAD",
            "127.0.0.1:9003",
        ),
        ({"url": "http://shop.example/v2", "method": "POST"}, "host shop.example", SHOP),
        ({"url": "http://shop.example/exact"}, "host shop.example, path /exact, priority 5", "127.0.0.1:9003"),
        (
            {"url": "http://shop.example/?a=b", "headers": {"X-Beta": "1"}},
            "host shop.example, header x-beta: 1, query a=b",
            "127.0.0.1:9003",
        ),
        (
            {"url": "http://shop.example/", "client": "10.1.2.3"},
            "host shop.example, client in 10.0.0.0/8",
            "127.0.0.1:9003",
        ),
        ({"url": "http://a.wild.example/"}, "host *.wild.example", "127.0.0.1:9004"),
        ({"url": "http://B\u00fccher.wild.example:80/"}, "host *.wild.example", "127.0.0.1:9004"),
        ({"url": "http://[::1]:8080/"}, "host [::1]", "127.0.0.1:9005"),
        ({"url": "http://ignored/", "headers": {"host": "a.wild.example"}}, "host *.wild.example", "127.0.0.1:9004"),
    ],
)
def test_the_route_and_why(asked: dict[str, Any], why: str, address: str) -> None:
    found = balanced().explain(**{"method": "GET", **asked})
    assert found.why == why
    assert found.outcome in [f"sent to {each}" for each in address.split()]
    assert found.choice
    assert found.strategy == "least_connections"
    assert found.plugins


@pytest.mark.parametrize("url", ["http://nowhere.example/x", "wild.example", "http://a.b.wild.example"])
def test_no_route(url: str) -> None:
    found = BALANCER.explain("GET", url)
    assert (found.route, found.choice, found.backends, found.plugins) == ("", "", (), ())
    assert "no route matches host" in found.why
    assert found.outcome == "answered with 404 (no_route)"


def test_no_route_names_the_configured_status() -> None:
    assert balanced(no_route_status=421).explain("GET", "nowhere.example").outcome == "answered with 421 (no_route)"


def test_a_weight_of_nothing_is_shown_as_a_drain() -> None:
    balancer = balanced()
    pool = balancer.pools["shop.example"]
    pool.set_weight(pool.find("web1"), 0)
    first = balancer.explain("GET", "shop.example").backends[0]
    assert (first.state, first.weight, first.candidate) == ("draining", 0, False)
    assert first.reason == "serves clients that are its own for 30s more"
    pool.set_weight(pool.find("web1"), 1)
    assert balancer.explain("GET", "shop.example").backends[0].state == "up"


@pytest.mark.parametrize(
    ("method", "url", "headers", "message"),
    [
        ("GET", "ftp://shop.example/", {}, "no URL to ask about"),
        ("GET", "http:///x", {}, "no URL to ask about"),
        ("GET", "", {}, "no URL to ask about"),
        ("GET", "//shop.example/", {}, "no URL to ask about"),
        ("GET", "http://[::1/", {}, "no URL to ask about"),
        ("GET", "http://shop.example:99999/", {}, "no URL to ask about"),
        ("GET", "http://shop.example:a/", {}, "no URL to ask about"),
        ("GET", "http://shop.example/a b", {}, "percent-encode"),
        ("GET", "http://shop.example/caf\u00e9", {}, "percent-encode"),
        ("GET", "http://shop.example/?a b", {}, "percent-encode"),
        ("G T", "http://shop.example/", {}, "no request method"),
        ("TRACE", "http://shop.example/", {}, "405 whatever the route"),
        ("GET", "http://\u2603.example/", {}, "not an international host name"),
        ("", "http://shop.example/", {}, "no request method"),
        ("GE\u00c9", "http://shop.example/", {}, "no request method"),
        ("GET", "http://shop.example/", {"a b": "c"}, "not a token"),
        ("GET", "http://shop.example/", {"A": "b\r\nC: d"}, "control characters"),
        ("GET", "http://shop.example/", {"Content-Length": "5"}, "message framing"),
        ("GET", "http://shop.example/", {"Host": "a b"}, "Host 'a b' is not valid"),
        ("GET", "http://sh op.example/", {}, "is not valid"),
    ],
)
def test_what_cannot_be_asked(method: str, url: str, headers: dict[str, str], message: str) -> None:
    with pytest.raises(LbError, match=message):
        BALANCER.explain(method, url, headers=headers)


def test_the_backends_and_their_states() -> None:
    balancer = balanced()
    pool = balancer.pools["shop.example"]
    pool.set_mode(pool.find("web1"), "draining", "for the night")
    pool.find("web2").in_flight = 4
    found = balancer.explain("GET", "shop.example")
    first, second = found.backends
    said = "for the night; serves clients that are its own for 30s more"
    assert (first.name, first.state, first.reason, first.candidate) == ("web1", "draining", said, False)
    assert (second.address, second.weight, second.in_flight, second.candidate) == ("[::1]:9002", 3, 4, True)
    assert found.choice == "web2"


def test_nobody_left() -> None:
    balancer = balanced()
    pool = balancer.pools["shop.example"]
    for backend in pool.backends:
        pool.set_health(backend, "down", "refused")
    assert balancer.explain("GET", "shop.example").outcome == "answered with 503 (no_backend)"
    balancer.routes["shop.example"].serving = balancer.pools["v2"]
    assert balancer.explain("GET", "shop.example").outcome == "sent to 127.0.0.1:9003"
    for backend in balancer.pools["v2"].backends:
        balancer.pools["v2"].set_health(backend, "down", "refused")
    assert balancer.explain("GET", "shop.example").outcome == "answered with 503 (no_backend)"


def test_who_answers_without_backends_and_who_may() -> None:
    balancer = balanced()
    route = balancer.routes["shop.example"]
    route.askers = ("redirect",)
    assert balancer.explain("GET", "shop.example").outcome.endswith(
        ", unless redirect decides otherwise: it is not asked here"
    )
    route.pool.replace([])
    assert balancer.explain("GET", "shop.example").outcome == "answered by redirect: the route has no backends"


def test_a_first_check_is_waited_for() -> None:
    tree = {"access_log": False, "routes": {"a.example": {"backends": ["127.0.0.1:1"], "health_check": "/"}}}
    assert "waits for a first health check" in balanced(tree).explain("GET", "a.example").outcome


class Picking:
    """A plugin that chooses for every route, or fails to."""

    def __init__(self, fails: bool) -> None:
        self._fails = fails

    @hookimpl(tryfirst=True)
    def select_backend(self, exchange: Any, candidates: tuple[Backend, ...]) -> Backend:
        if self._fails:
            raise RuntimeError("no idea")
        assert (exchange.scheme, exchange.connection.port) == ("https", 443)
        return candidates[-1]


def test_plugins_that_choose_are_asked() -> None:
    assert balanced(extra=[Picking(fails=False)]).explain("GET", "https://shop.example/").choice == "web2"


def test_a_plugin_that_fails_is_named() -> None:
    found = balanced(extra=[Picking(fails=True)]).explain("GET", "https://shop.example/")
    assert found.choice == ""
    assert "answered with 500" in found.outcome
    assert "'Picking' failed in select_backend" in found.outcome
    assert "no idea" in found.outcome


class Refusing:
    """A strategy that chooses nobody."""

    @hookimpl
    def select_backend(self) -> None:
        return None


def test_nobody_chooses() -> None:
    tree = {"access_log": False, "routes": {"a.example": {"backends": ["127.0.0.1:1"], "strategy": "refusing"}}}
    balancer = balanced(tree, extra=[Offering()])
    assert balancer.explain("GET", "a.example").outcome == "answered with 500: no plugin chose a backend"


class Offering:
    """A plugin with that strategy."""

    @hookimpl
    def register_strategies(self) -> list[Strategy]:
        return [Strategy("refusing", Refusing)]


def test_it_is_plain_data_for_json() -> None:
    data = BALANCER.explain("GET", "http://shop.example/v2").as_data()
    assert json.loads(json.dumps(data))["backends"][0]["name"] == "127.0.0.1:9003"
    assert (data["method"], data["url"], data["client"]) == ("GET", "http://shop.example/v2", "127.0.0.1")


def full(**route: Any) -> LoadBalancer:
    backends = {f"web{number}": {"url": f"127.0.0.1:{number}", "max_connections": 2} for number in (1, 2)}
    balancer = balanced({"access_log": False, "routes": {"a.example": {"backends": backends, **route}}})
    for backend in balancer.routes["a.example"].pool.backends:
        backend.in_flight = 2
    return balancer


def test_who_takes_the_place_of_one_that_is_full() -> None:
    balancer = balanced(
        {
            "access_log": False,
            "routes": {
                "a.example": {"backends": {"web1": {"url": "127.0.0.1:1", "max_connections": 1}, "web2": "127.0.0.1:2"}}
            },
        },
        extra=[PicksFirst()],
    )
    balancer.routes["a.example"].pool.find("web1").in_flight = 1
    found = balancer.explain("GET", "a.example")
    assert (found.choice, found.outcome) == ("web2", "sent to 127.0.0.1:2, since web1 is full")
    assert [(each.in_flight, each.limit) for each in found.backends] == [(1, 1), (0, 0)]


class PicksFirst:
    @hookimpl(tryfirst=True)
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        return candidates[0]


def test_what_happens_when_all_are_full() -> None:
    assert full().explain("GET", "a.example").outcome == "waits in the queue: all are full"
    assert full(queue=0).explain("GET", "a.example").outcome == "answered with 503 (queue_full)"


class Telling:
    """A feature that describes itself as it is told to."""

    def __init__(self, told: Any) -> None:
        self.describe = lambda: told() if callable(told) else told


def test_what_parts_say_about_their_state() -> None:
    balancer = balanced()
    route = balancer.routes["shop.example"]
    route.parts = (("one", Telling("fine")), ("none", object()), ("empty", Telling([])), ("two", Telling(["a", 7])))
    assert balancer.explain("GET", "shop.example").states == (("one", ("fine",)), ("two", ("a", "7")))
    route.parts = (("bad", Telling(lambda: 1 / 0)),)
    assert "describe failed: ZeroDivisionError" in balancer.explain("GET", "shop.example").states[0][1][0]


def test_the_pool_that_serves_instead_is_shown_too() -> None:
    balancer = balanced()
    route = balancer.routes["shop.example"]
    route.serving = balancer.pools["v2"]
    found = balancer.explain("GET", "http://shop.example/")
    assert [each.name for each in found.backends] == ["web1", "web2", "v2/127.0.0.1:9003"]
    assert [each.candidate for each in found.backends] == [False, False, True]
