"""The feature: which requests pass, what the others are told, and what is carried over."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import lb_ratelimit
from lb_core.sharing import Sharing
from lb_core.testing import exchange
from lb_core.testing.fakes import route_over
from lb_core.testing.together import Together
from lb_ratelimit import RateLimit, RateLimitSettings
from lb_ratelimit.limiter import build

if TYPE_CHECKING:
    from lb_core import Event, Exchange, Feature, Response, Route


@pytest.fixture(params=["alone", "a worker"], autouse=True)
def sharing(request: pytest.FixtureRequest) -> Iterator[Sharing]:
    """Everything here holds for a process alone, and for a worker among others."""
    World.sharing = Sharing() if request.param == "alone" else Together(workers=2).workers[0]
    yield World.sharing
    World.sharing = Sharing()


class World:
    """A route with limits, and a clock that stands until it is moved."""

    sharing = Sharing()

    def __init__(self, *limits: dict[str, Any], route: Route | None = None) -> None:
        self.now = 60_000.0
        self.events: list[Event] = []
        self.route = route or route_over(())
        self.route.pool.notify = self.events.append
        self.route.sharing = self.sharing
        if limits:
            self.feature = self.made(*limits)
            self.feature.start()

    def made(self, *limits: dict[str, Any]) -> RateLimit:
        feature = build(self.route, RateLimitSettings.model_validate(list(limits)))
        for limit in feature.limits:
            if hasattr(limit.algorithm, "_phase"):
                limit.algorithm._phase = 0.0
                if limit.algorithm._align is not None:
                    limit.algorithm._align = lambda: 0.0
            if limit._shared is not None:
                limit._shared.counts.clock = lambda: self.now
                limit._shared.counts.node._numbers[0] = 0.0
        return feature

    def ask(self, path: str = "/", **options: Any) -> tuple[Exchange, Response | None]:
        it = exchange(path, **options)
        it.started = self.now
        return it, self.feature.before_request(it)

    def passes(self, **options: Any) -> bool:
        return self.ask(**options)[1] is None

    def passing(self, count: int, **options: Any) -> int:
        return sum(self.passes(**options) for _ in range(count))

    def respond(self, it: Exchange) -> dict[str, str]:
        """What is added to a backend's answer."""
        it.response_head = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"
        it.first_byte = self.now
        hear = getattr(self.feature, "on_response", None)
        if hear is not None:
            hear(it)
        return {name: value for name, value in it.response_headers.fields() if name != "Server"}

    def complete(self, it: Exchange) -> None:
        self.feature.on_complete(it)  # type: ignore[attr-defined]  # only some have it


def fields(answer: Response | None) -> dict[str, str]:
    assert answer is not None
    lines = answer.encode().partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


ALGORITHMS = pytest.mark.parametrize("algorithm", ["sliding_window", "fixed_window", "token_bucket"])


@ALGORITHMS
def test_so_many_pass_for_each_client(algorithm: str) -> None:
    world = World({"requests": 5, "window": 60.0, "algorithm": algorithm})
    assert world.passing(20) == 5
    assert world.passing(20, client="192.0.2.2") == 5
    world.now += 121
    assert world.passing(20) == 5


def test_what_a_refusal_says_as_text() -> None:
    world = World({"requests": 2, "window": 60.0})
    world.passing(2)
    world.now += 20
    it, answer = world.ask()
    assert answer is not None
    assert answer.status == 429
    assert answer.body == b"too many requests: try again in 70 s\n"
    assert fields(answer) == {
        "Retry-After": "70",
        "RateLimit-Policy": '"default";q=2;w=60',
        "RateLimit": '"default";r=0;t=70',
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": "37",
    }
    assert it.flags == ("rate_limited",)


def test_what_a_refusal_says_as_json() -> None:
    world = World({"requests": 1})
    world.passing(1)
    _, answer = world.ask(headers={"Accept": "application/json"})
    assert answer is not None
    assert fields(answer)["Content-Type"] == "application/json"
    assert json.loads(answer.body) == {"error": "rate_limited", "detail": "too many requests: try again in 120 s"}
    assert world.ask(headers={"Accept": "application/json"})[1] is answer, "made once"
    assert world.ask()[1] is not answer


def test_the_answers_that_are_kept_are_bounded() -> None:
    world = World({"requests": 1, "window": 3600.0, "algorithm": "fixed_window"})
    for _ in range(600):
        world.now += 1
        world.ask()
    assert len(world.feature.limits[0]._answers) <= 256


def test_after_retry_after_the_next_request_passes() -> None:
    world = World({"requests": 3, "window": 60.0})
    world.now += 13.7
    world.passing(5)
    world.now += int(fields(world.ask()[1])["Retry-After"])
    assert world.passing(5) == 1


# fields on ordinary answers


def test_ordinary_answers_say_nothing_by_default() -> None:
    world = World({"requests": 5})
    it, _ = world.ask()
    assert world.respond(it) == {}
    assert not hasattr(world.feature, "on_response"), "it costs nothing"
    assert not hasattr(world.feature, "on_complete")


def test_draft_on_every_answer() -> None:
    world = World({"requests": 5, "window": 60.0, "headers": "draft"})
    policy = {"RateLimit-Policy": '"default";q=5;w=60'}
    told = []
    for _ in range(5):
        world.now += 1
        told.append(world.respond(world.ask()[0]))
    assert told[:2] == [policy | {"RateLimit": '"default";r=4;t=59'}, policy | {"RateLimit": '"default";r=3;t=58'}]
    assert told[4] == policy | {"RateLimit": '"default";r=0;t=67'}, "when there is one again"
    assert fields(world.ask()[1])["RateLimit"] == '"default";r=0;t=67'


def test_legacy_on_every_answer() -> None:
    world = World({"requests": 5, "headers": "legacy"})
    said = {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4", "X-RateLimit-Reset": "60"}
    assert world.respond(world.ask()[0]) == said
    world.passing(9)
    refused = fields(world.ask()[1])
    assert {name for name in refused if "Rate" in name} == set(said)
    assert refused["X-RateLimit-Remaining"] == "0"


def test_off_says_when_to_come_back_and_nothing_else() -> None:
    world = World({"requests": 1, "headers": "off"})
    assert world.respond(world.ask()[0]) == {}
    assert fields(world.ask()[1]).keys() == {"Retry-After", "Content-Type", "Content-Length"}


def test_who_is_not_limited_is_told_nothing() -> None:
    world = World({"requests": 1, "headers": "draft", "exempt": ["192.0.2.0/24"]})
    it, answer = world.ask()
    assert answer is None
    assert world.respond(it) == {}


def test_several_policies_and_the_tightest() -> None:
    world = World(
        {"requests": 10, "window": 1.0, "headers": "draft", "name": "burst"},
        {"requests": 12, "window": 60.0, "headers": "draft"},
        {"requests": 7, "window": 60.0, "key": "path", "headers": "refused", "name": "path"},
    )
    policy = '"burst";q=10;w=1, "limit2";q=12;w=60, "path";q=7;w=60'
    assert world.respond(world.ask()[0]) == {"RateLimit-Policy": policy, "RateLimit": '"burst";r=9;t=1'}
    world.passing(4, path="/2")
    world.now += 2
    assert world.respond(world.ask()[0])["RateLimit"] == '"limit2";r=6;t=58'


# several limits


def test_all_limits_must_let_a_request_pass_and_a_refused_one_counts_nowhere() -> None:
    world = World(
        {"requests": 100, "algorithm": "fixed_window", "key": "route"},
        {"requests": 50, "algorithm": "token_bucket", "key": "route"},
        {"requests": 30, "key": "route"},
        {"requests": 3, "key": "client_ip"},
    )
    assert world.passing(10) == 3
    left = [limit.algorithm.remaining("", world.now) for limit in world.feature.limits[:3]]
    assert left == [97, 47, 27]
    assert sum(world.passes(client=f"198.51.100.{number}") for number in range(60)) == 27
    left = [limit.algorithm.remaining("", world.now) for limit in world.feature.limits[:3]]
    assert left == [70, 20, 0]
    assert world.feature.limits[3].algorithm.remaining("198.51.100.50", world.now) == 3, "never asked"


# dry run


def test_a_dry_run_counts_and_flags_and_refuses_nobody() -> None:
    world = World({"requests": 2, "dry_run": True, "headers": "draft"})
    asked = [world.ask() for _ in range(5)]
    assert [answer for _, answer in asked] == [None] * 5
    assert [it.flags for it, _ in asked] == [(), ()] + [("rate_limited",)] * 3
    assert world.respond(asked[0][0]) == {}, "clients are not told what would be"
    assert world.feature.limits[0].refused == 3
    assert [event.details["dry_run"] for event in world.events] == [True]
    assert "would refuse requests (dry run)" in world.events[0].message


def test_a_dry_run_beside_a_limit() -> None:
    world = World({"requests": 1, "dry_run": True}, {"requests": 3})
    assert world.passing(9) == 3
    assert fields(world.ask()[1])["RateLimit-Policy"] == '"limit2";q=3;w=60'


# events


def test_an_event_when_it_begins_and_none_for_each_request() -> None:
    world = World({"requests": 1, "window": 3600.0}, {"requests": 2, "window": 3600.0, "key": "route", "name": "all"})
    for _ in range(300):
        world.ask()
        world.now += 0.1
    (event,) = world.events
    assert (event.kind, event.route) == ("rate_limited", "testing")
    assert event.details == {"limit": "default", "client": "192.0.2.1", "dry_run": False}
    assert event.message == "limit default (1/3600s by client_ip) refuses requests, the first of 192.0.2.1"
    world.now += 10
    world.ask(client="")
    assert len(world.events) == 1, "it passed"
    world.ask(client="")
    assert [each.details["limit"] for each in world.events] == ["default", "default"]
    assert world.events[1].message.endswith("the first of a client over a unix socket")
    world.passes(client="192.0.2.3")
    assert [each.details["limit"] for each in world.events] == ["default", "default", "all"]


# keys and exemptions


def test_exempt_clients_are_neither_refused_nor_counted() -> None:
    world = World({"requests": 2, "key": "route", "exempt": ["10.0.0.0/8", "2001:db8::/32"]})
    assert world.passing(10, client="10.1.2.3") == 10
    assert world.passing(10, client="2001:db8::1") == 10
    assert world.passing(10) == 2


def test_v6_clients_of_one_64_share_a_limit() -> None:
    world = World({"requests": 3})
    assert sum(world.passes(client=f"2001:db8::{number:x}") for number in range(10)) == 3
    assert world.passes(client="2001:db8:0:1::1")


@ALGORITHMS
def test_a_request_that_is_not_limited_is_not_looked_at(algorithm: str) -> None:
    world = World({"requests": 1, "algorithm": algorithm, "exempt": ["192.0.2.1"]})
    assert world.passing(3) == 3
    assert len(world.feature.limits[0].algorithm.counters) == 0


# requests under way


def test_concurrency_counts_until_a_request_has_ended() -> None:
    world = World({"requests": 2, "algorithm": "concurrency", "headers": "draft"})
    under_way = [world.ask()[0] for _ in range(2)]
    assert world.respond(under_way[0]) == {
        "RateLimit-Policy": '"default";q=2;qu="concurrent-requests"',
        "RateLimit": '"default";r=0',
    }
    refused, answer = world.ask()
    assert fields(answer)["Retry-After"] == "1"
    assert fields(answer)["RateLimit"] == '"default";r=0'
    world.complete(refused)
    assert not world.passes(), "a refused one was never under way"
    world.complete(under_way[0])
    world.complete(under_way[0])
    assert world.passing(3) == 1


def test_a_limit_after_it_that_refuses_ends_what_it_counted() -> None:
    world = World({"requests": 1, "algorithm": "concurrency"}, {"requests": 1, "window": 60.0})
    first = world.ask()[0]
    world.complete(first)
    refused, answer = world.ask()
    assert answer is not None
    assert len(world.feature.limits[0].algorithm.counters) == 0
    world.complete(refused)
    assert len(world.feature.limits[0].algorithm.counters) == 0


def test_a_request_that_never_came_so_far_ends_without_a_trace() -> None:
    world = World({"requests": 1, "algorithm": "concurrency"})
    world.complete(exchange())
    assert world.passes()


# reloads


def inherited(world: World, *limits: dict[str, Any]) -> World:
    new = World(route=world.route)
    new.now = world.now
    new.feature = new.made(*limits)
    new.feature.inherit(world.feature)
    world.feature.close()
    new.feature.start()
    return new


@pytest.mark.parametrize("algorithm", ["sliding_window", "fixed_window", "token_bucket", "concurrency"])
def test_counts_survive_a_reload_and_a_changed_limit_applies_at_once(algorithm: str) -> None:
    limit = {"requests": 5, "algorithm": algorithm, "key": "client_ip"}
    world = World(limit)
    under_way = world.ask()[0]
    assert world.passing(3) == 3
    again = inherited(world, limit | {"max_keys": 50, "dry_run": False})
    assert again.passing(9) == 1
    assert again.feature.limits[0].refused == 8
    wider = inherited(again, limit | {"requests": 10})
    if algorithm != "token_bucket":
        assert wider.passing(20) == 5
    tighter = inherited(wider, limit | {"requests": 2})
    assert tighter.passing(3) == 0
    if algorithm == "concurrency":
        world.complete(under_way)
        assert tighter.feature.limits[0].algorithm.remaining("192.0.2.1", 0.0) == 0
        assert inherited(tighter, limit | {"requests": 10}).passing(9) == 1, "ended on the route it began with"


def test_a_bucket_keeps_how_full_it_is() -> None:
    world = World({"requests": 10, "algorithm": "token_bucket"})
    world.passing(5)
    again = inherited(world, {"requests": 10, "algorithm": "token_bucket", "burst": 7})
    assert again.passing(9) == 2


@pytest.mark.parametrize("other", [{"window": 30.0}, {"key": "route"}, {"algorithm": "fixed_window"}])
def test_another_kind_of_limit_begins_anew(other: dict[str, Any]) -> None:
    world = World({"requests": 5})
    world.passing(5)
    assert inherited(world, {"requests": 5} | other).passing(9) == 5


def test_each_limit_of_a_list_finds_its_own_count() -> None:
    a, b = {"requests": 5}, {"requests": 50, "window": 3600.0}
    world = World(a, b)
    world.passing(3)
    again = inherited(world, {"requests": 2, "key": "path"}, b, a)
    assert [limit.algorithm.remaining("192.0.2.1", world.now) for limit in again.feature.limits] == [2, 47, 2]


# what it says about itself


def test_it_describes_itself() -> None:
    world = World(
        {"requests": 1, "window": 0.5},
        {"requests": 9, "key": "route", "algorithm": "concurrency", "name": "all", "dry_run": True},
    )
    world.passing(3)
    assert world.feature.describe() == [
        "limit default: 1/0.5s by client_ip, sliding_window: 1 keys, 2 refused",
        "limit all: 9 at once by route, concurrency, dry run: 1 keys, 0 refused",
    ]


def test_windows_begin_with_those_of_the_clock() -> None:
    limit = build(route_over(()), RateLimitSettings.model_validate({"requests": 1})).limits[0]
    it = exchange()
    assert limit.ask(it) is None
    ends = limit.algorithm.reset("192.0.2.1", it.started)
    assert ends is not None
    assert (time.time() + ends - (time.monotonic() - it.started)) % 60 == pytest.approx(60, abs=0.1) or (
        time.time() + ends
    ) % 60 == pytest.approx(0, abs=0.1)


def test_the_plugin_offers_the_feature() -> None:
    offered: Iterable[Feature] = lb_ratelimit.register_features()
    assert [feature.name for feature in offered] == ["rate_limit"]
    assert re.fullmatch(r"Rate limits for lb: .*", (lb_ratelimit.__doc__ or "").splitlines()[0])
