"""The decision record: what it holds of a choice, how long, and what it costs the ordinary request."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, cast

import pytest

from lb_core import Backend, LoadBalancer, decisions, hookimpl
from lb_core.config import config_from_tree
from lb_core.decisions import LARGEST, LONGEST_PAUSE, LONGEST_TARGET, RECORDED, SHORTEST_PAUSE, Decisions
from lb_core.engine.forwarding import Forwarding
from lb_core.errors import ConnectFailed
from lb_core.features import Strategy
from lb_core.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lb_core.engine.downstream import Downstream
    from lb_core.exchange import Exchange
    from lb_core.route import Route


class Last:
    """A strategy with scores and reasons of its own."""

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        return candidates[-1]

    def scores(self, candidates: tuple[Backend, ...]) -> list[float]:
        return [float(len(candidates) - index) for index in range(len(candidates))]

    def why(self, exchange: Exchange, candidates: tuple[Backend, ...], backend: Backend) -> str:
        return f"{backend.name} is the last of {len(candidates)}"


class Bad(Last):
    def scores(self, candidates: tuple[Backend, ...]) -> list[float]:
        return [1.0]


class Fails(Last):
    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        raise ZeroDivisionError("by zero")


class Sometimes:
    """A plugin for every route that knows better now and then."""

    def __init__(self) -> None:
        self.wanted = ""

    @hookimpl(tryfirst=True)
    def select_backend(self, exchange: Exchange, candidates: tuple[Backend, ...]) -> Backend | None:
        if self.wanted == "gone":
            exchange.note("cookie lb_sticky names web9, which is gone")
        return next((each for each in candidates if each.name == self.wanted), None)


class Wrapping:
    @hookimpl(wrapper=True)
    def select_backend(self, exchange: Exchange, candidates: tuple[Backend, ...]) -> Iterator[None]:
        return (yield)


class Offered:
    @hookimpl
    def register_strategies(self) -> Iterator[Strategy]:
        yield Strategy("last", Last)
        yield Strategy("bad", Bad)
        yield Strategy("fails", Fails)


def routed(*plugins: object, count: int = 3, **route: Any) -> tuple[LoadBalancer, Route]:
    found = Plugins.discover(extra=[Offered(), *plugins])
    backends = {f"web{index}": f"127.0.0.1:{9000 + index}" for index in range(count)}
    tree = {"access_log": False, "routes": {"*": {"backends": backends, **route}}}
    balancer = LoadBalancer(config_from_tree(tree, found), plugins=found)
    return balancer, balancer.routes["*"]


class Client:
    """What an exchange needs of a connection before it is sent."""

    def __init__(self, balancer: LoadBalancer) -> None:
        self.engine = balancer.engine


def asked(balancer: LoadBalancer, route: Route, target: bytes = b"/", request_id: bytes = b"") -> Forwarding:
    head = (b"GET", target, b" shop.example", b"GET / HTTP/1.1\r\n", None, 0)
    exchange = Forwarding(route, cast("Downstream", Client(balancer)), "192.0.2.7", head, b"shop.example")
    exchange.raw_request_id = request_id or exchange.raw_request_id
    return exchange


def recorded(balancer: LoadBalancer, exchange: Exchange) -> dict[str, Any]:
    (found,) = balancer.engine.decisions.find(exchange.request_id)
    return found


def choose(balancer: LoadBalancer, route: Route, **about: Any) -> dict[str, Any]:
    exchange = asked(balancer, route, **about)
    balancer.engine.decisions.choose(exchange, route.pool.candidates)
    return recorded(balancer, exchange)


def test_a_choice_is_recorded_with_candidates_and_reason() -> None:
    balancer, route = routed()
    for backend, count in zip(route.pool.candidates, (2, 0, 1), strict=True):
        backend.in_flight = count
    exchange = asked(balancer, route, b"/cart?x=1")
    chosen = balancer.engine.decisions.choose(exchange, route.pool.candidates)
    assert chosen is route.pool.find("web1")
    found = recorded(balancer, exchange)
    assert found["begun"] <= found["time"]
    assert {key: found[key] for key in ("client", "method", "host", "target", "route", "pool", "attempt")} == {
        "client": "192.0.2.7",
        "method": "GET",
        "host": "shop.example",
        "target": "/cart?x=1",
        "route": "*",
        "pool": "*",
        "attempt": 1,
    }
    assert (found["who"], found["choice"]) == ("least_connections", "web1")
    assert found["why"] == "fewest requests in flight: 0 of 2, 0, 1"
    assert found["candidates"][0] == {"name": "web0", "in_flight": 2, "score": None, "state": None}


def test_weights_are_part_of_the_reason() -> None:
    balancer, route = routed(count=20)
    assert choose(balancer, route)["why"].endswith("0, 0, …")
    route.pool.set_weight(route.pool.backends[0], 3)
    assert choose(balancer, route)["why"].startswith("fewest requests in flight for its weight: 0 of 0/3, 0/1, ")


def test_a_strategy_may_say_its_scores_and_reasons() -> None:
    balancer, route = routed(strategy="last")
    found = choose(balancer, route)
    assert (found["who"], found["why"]) == ("last", "web2 is the last of 3")
    assert [each["score"] for each in found["candidates"]] == [3.0, 2.0, 1.0]


def test_what_it_says_wrong_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    balancer, route = routed(strategy="bad")
    found = choose(balancer, route)
    assert (found["choice"], found["why"]) == ("web2", "web2 is the last of 3")
    assert found["candidates"][0]["score"] is None
    assert "1 scores for 3 candidates" in caplog.text


def test_who_chose_where_several_may() -> None:
    knows = Sometimes()
    balancer, route = routed(knows)
    assert [name for name, *_ in route.choosers] == ["Sometimes", "least_connections"]
    assert choose(balancer, route)["who"] == "least_connections"
    knows.wanted = "web2"
    found = choose(balancer, route)
    assert (found["who"], found["choice"], found["why"]) == ("Sometimes", "web2", "")
    knows.wanted = "gone"
    found = choose(balancer, route)
    assert found["who"] == "least_connections"
    assert found["why"].endswith("; cookie lb_sticky names web9, which is gone")


def test_wrapped_choices_are_made_by_all_together() -> None:
    balancer, route = routed(Wrapping(), strategy="last")
    found = choose(balancer, route)
    assert set(found["who"].split(", ")) == {"Wrapping", "last"}
    assert found["choice"] == "web2"


def test_a_plugin_that_fails_is_named() -> None:
    balancer, route = routed(strategy="fails")
    exchange = asked(balancer, route)
    with pytest.raises(ZeroDivisionError):
        balancer.engine.decisions.choose(exchange, route.pool.candidates)
    found = recorded(balancer, exchange)
    assert (found["who"], found["choice"]) == ("fails", "")
    assert found["why"] == "it failed: ZeroDivisionError('by zero')"


def test_of_many_candidates_a_few_are_kept_and_always_the_chosen_one() -> None:
    balancer, route = routed(strategy="last", count=100)
    found = choose(balancer, route)
    names = [each["name"] for each in found["candidates"]]
    assert (len(names), names[0], names[-1]) == (LARGEST, "web0", "web99")
    assert found["other_candidates"] == 100 - LARGEST
    assert found["candidates"][0]["score"] is None


def test_long_targets_are_cut_and_signs_for_a_terminal_are_spelt_out() -> None:
    balancer, route = routed()
    found = choose(balancer, route, target=b"/" + b"x" * 5000)
    assert len(found["target"]) == LONGEST_TARGET
    assert choose(balancer, route, target=b"/\x9b31m")["target"] == "/\\x9b31m"


def test_attempts_are_told_in_order_with_their_errors_and_the_end() -> None:
    balancer, route = routed()
    record = balancer.engine.decisions
    exchange = asked(balancer, route)
    exchange.backend = record.choose(exchange, route.pool.candidates)
    exchange.attempts = 1
    record.failed(exchange, ConnectFailed("refused"))
    assert route.due == 0.0, "the next choice is recorded"
    exchange.backend = record.choose(exchange, route.pool.candidates)
    exchange.attempts = 2
    exchange.status, exchange.flags, exchange.ended = 200, ("retried",), exchange.started + 0.5
    record.end(exchange)
    first, second = record.find(exchange.request_id)
    assert (first["attempt"], first["error"], first["status"]) == (1, "refused", 0)
    assert (second["attempt"], second["error"], second["status"]) == (2, "", 200)
    assert (second["duration"], second["flags"]) == (pytest.approx(0.5), ["retried"])


def test_an_attempt_that_failed_is_recorded_although_its_choice_was_not() -> None:
    balancer, route = routed()
    exchange = asked(balancer, route)
    exchange.backend, exchange.attempts = route.pool.find("web1"), 1
    balancer.engine.decisions.failed(exchange, ConnectFailed(""))
    found = recorded(balancer, exchange)
    assert (found["who"], found["choice"], found["error"]) == ("", "web1", "ConnectFailed")
    assert [each["name"] for each in found["candidates"]] == ["web0", "web1", "web2"]


def test_nothing_is_expected_of_an_exchange_that_is_not_recorded() -> None:
    balancer, route = routed()
    exchange = asked(balancer, route)
    balancer.engine.decisions.end(exchange)
    assert len(balancer.engine.decisions) == 0
    assert not exchange.unusual & RECORDED


def test_a_thousand_are_kept_and_it_is_known_how_far_they_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    balancer, route = routed()
    now = [100.0]
    monkeypatch.setattr(decisions, "monotonic", lambda: now[0])
    record = Decisions(kept=3)
    now[0] = 110.0
    assert record.reach == 10.0, "nothing has been lost"
    ids = []
    for _ in range(5):
        now[0] += 1
        exchange = asked(balancer, route)
        record.choose(exchange, route.pool.candidates)
        ids.append(exchange.request_id)
    assert [len(record.find(each)) for each in ids] == [0, 0, 1, 1, 1]
    assert (len(record), record.reach) == (3, 2.0)
    assert record.find("ünknown") == []
    assert Decisions()._ring.maxlen == 1000


@pytest.mark.parametrize(
    ("took", "pause"),
    [(0.0, SHORTEST_PAUSE), (0.000_001, SHORTEST_PAUSE), (0.000_1, 0.03), (1.0, LONGEST_PAUSE)],
)
def test_the_next_ordinary_one_is_due_after_a_pause(monkeypatch: pytest.MonkeyPatch, took: float, pause: float) -> None:
    balancer, route = routed()
    times = iter([100.0, 100.0 + took])
    monkeypatch.setattr(decisions, "monotonic", lambda: next(times))
    balancer.engine.decisions.choose(asked(balancer, route), route.pool.candidates)
    assert route.due - (100.0 + took) == pytest.approx(pause)


def test_a_record_keeps_no_exchange_and_no_backend_alive() -> None:
    balancer, route = routed()
    exchange = asked(balancer, route)
    balancer.engine.decisions.choose(exchange, route.pool.candidates)
    record = exchange.decision
    assert record is not None
    del exchange
    gc.collect()
    assert not any(isinstance(each, (Forwarding, Backend)) for each in _reachable(record))


def _reachable(start: object) -> list[object]:
    """Everything a record holds, at any depth, short of types and modules."""
    seen: dict[int, object] = {}
    waiting = [start]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, (type, type(gc))):
            seen[id(each)] = each
            waiting += gc.get_referents(each)
    return list(seen.values())


def test_notes_mark_what_is_unusual() -> None:
    balancer, route = routed()
    exchange = asked(balancer, route)
    exchange.note("one")
    exchange.note("two")
    exchange.backend, exchange.attempts = route.pool.find("web0"), 1
    made = balancer.engine.decisions.made(exchange)
    exchange.note("three")
    assert balancer.engine.decisions.made(exchange) is made
    assert recorded(balancer, exchange)["why"] == "one; two; three"


class Refuses:
    @hookimpl
    def select_backend(self) -> None:
        """Has no opinion."""


class OfferedToo:
    @hookimpl
    def register_strategies(self) -> Iterator[Strategy]:
        yield Strategy("refuses", Refuses)


class Scored(Last):
    why = None  # type: ignore[assignment]


class OfferedThree:
    @hookimpl
    def register_strategies(self) -> Iterator[Strategy]:
        yield Strategy("scored", Scored)


def test_nobody_chose() -> None:
    balancer, route = routed(OfferedToo(), strategy="refuses")
    found = choose(balancer, route)
    assert (found["who"], found["choice"], len(found["candidates"])) == ("", "", 3)


def test_scores_without_a_reason() -> None:
    balancer, route = routed(OfferedThree(), strategy="scored")
    found = choose(balancer, route)
    assert (found["why"], found["candidates"][2]["score"]) == ("", 1.0)
    balancer, route = routed(OfferedThree(), strategy="scored", count=100)
    found = choose(balancer, route)
    assert {each["score"] for each in found["candidates"]} == {None}


def test_who_waits_for_a_first_check_sees_the_states() -> None:
    balancer, route = routed(health_check="/health")
    exchange = asked(balancer, route)
    balancer.engine.decisions.waits(exchange, "no candidate has passed its first check yet")
    found = recorded(balancer, exchange)
    assert [each["state"] for each in found["candidates"]] == ["starting"] * 3
