"""The breakers of several processes that have the same pool or route: they open, try and close as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from lb_breaker.backends import BackendBreaker
from lb_breaker.guard import Guards
from lb_breaker.route_of_workers import RouteBreakerOfWorkers
from lb_breaker.settings import BreakerSettings
from lb_breaker.whole_route import RouteBreaker
from lb_core import Backend, Event, Exchange, Pool, Route
from lb_core.config import RouteConfig
from lb_core.errors import ConnectFailed
from lb_core.locality import Locality, locality_of
from lb_core.sharing import Sharing
from lb_core.testing.together import Together, joined

if TYPE_CHECKING:
    from lb_breaker.guard import Guard


class Timer:
    def __init__(self, moment: float, call: Callable[[], None]) -> None:
        self.moment, self.call, self.cancelled = moment, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The time of all processes, and their timers."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + seconds, call))
        return self.timers[-1]

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = [each for each in self.timers if not each.cancelled and each.moment <= end]
            if not due:
                break
            first = min(due, key=lambda each: each.moment)
            self.timers.remove(first)
            self.now = max(self.now, first.moment)
            first.call()
        self.now = end


class Process:
    """One process with the pool `shop` and a breaker on the route of that name."""

    def __init__(self, clock: Clock, sharing: Sharing, **settings: Any) -> None:
        self.clock = clock
        self.sharing = sharing
        self.events: list[str] = []
        self.one, self.two = Backend("one", "127.0.0.1", 1), Backend("two", "127.0.0.1", 2)
        self.pool = Pool("shop", (self.one, self.two), notify=self.hear)
        self.guards: dict[Pool, Guard] = {}
        self.settings = settings
        self.breaker = self.build()

    def build(self, **others: Any) -> Any:
        settings = BreakerSettings(**{"threshold": 2, "timeout": 30, **self.settings, **others})
        self.route = Route(RouteConfig(name="shop", host="shop", pool="shop"), self.pool, self.sharing)
        self.route.pools = self.other_pools()
        if settings.scope == "route":
            made: Any = RouteBreakerOfWorkers(
                self.route, settings, later=self.clock.later, clock=self.clock, wall=self.clock
            )
        else:
            made = BackendBreaker(self.route, settings, self.guard_of)
        return made

    def other_pools(self) -> dict[str, Pool]:
        return {}

    def guard_of(self, pool: Pool) -> Guard:
        if pool not in self.guards:
            guard = Guards().of(pool, self.sharing)
            self.guards[pool] = type(guard)(
                pool, self.sharing, later=self.clock.later, clock=self.clock, wall=self.clock
            )
        return self.guards[pool]

    def hear(self, event: Event) -> None:
        if not self.sharing.applying:
            self.events.append(f"{event.kind} {event.backend}".strip())

    @property
    def told(self) -> list[str]:
        return [each for each in self.events if each.startswith("breaker_")]

    def exchange(self, backend: Backend | None, status: int = 200, pool: Pool | None = None) -> Exchange:
        where: Any = object()
        exchange = Exchange(self.route, where, "192.0.2.1", b"GET", b"/", b"shop", b"")
        exchange.pool = pool or self.pool
        exchange.backend, exchange.status = backend, status
        exchange.started = exchange.first_byte = self.clock.now
        return exchange

    def fail(self, backend: Backend, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.on_backend_error(self.exchange(backend), ConnectFailed("refused"))

    def answer(self, backend: Backend, status: int = 200) -> None:
        self.breaker.on_response(self.exchange(backend, status))

    def probe(self) -> Exchange | None:
        """A request that the gate of the route lets through."""
        exchange = self.exchange(self.one)
        gate = self.route.gate
        return exchange if gate is not None and gate.admits(exchange) else None

    def end(self, exchange: Exchange, status: int = 200) -> None:
        exchange.status = status
        self.breaker.on_response(exchange)
        exchange.ended = self.clock.now
        self.breaker.on_complete(exchange)

    @property
    def states(self) -> list[int]:
        return [*self.breaker.states().values()]


class Node:
    """A control process and its workers."""

    def __init__(
        self, clock: Clock | None = None, workers: int = 2, locality: Locality | None = None, **settings: Any
    ) -> None:
        self.clock = clock or Clock()
        self.settings = settings
        self.together = Together(workers, locality)
        self.control = Process(self.clock, self.together.control, **settings)
        self.workers = [Process(self.clock, each, **settings) for each in self.together.workers]
        for each in self.all:
            each.breaker.start()

    def add(self) -> Process:
        new = Process(self.clock, self.together.add(), **self.settings)
        new.breaker.start()
        self.together.welcome(new.sharing)
        self.workers.append(new)
        return new

    @property
    def all(self) -> list[Process]:
        return [self.control, *self.workers]

    @property
    def states(self) -> set[tuple[int, ...]]:
        """The states of the circuits; one where all processes agree."""
        return {tuple(each.states) for each in self.all}

    @property
    def told(self) -> list[str]:
        return [event for each in self.all for event in each.told]


@pytest.fixture
def node() -> Node:
    return Node()


# scope backend


def test_what_one_worker_opens_all_leave_alone_and_try_at_the_same_time(node: Node) -> None:
    first, second = node.workers
    first.fail(first.one, 2)
    assert node.states == {(2, 0)}
    assert [each.pool.candidates for each in node.all] == [(each.two,) for each in node.all]
    assert "2 failures in a row" in node.control.breaker.describe()[0]
    node.clock.sleep(30)
    assert node.states == {(1, 0)}
    assert [each.one.restricted for each in node.all] == [1, 1, 1]
    second.answer(second.one)
    first.answer(first.one)
    assert node.states == {(0, 0)}, "probes count wherever they pass"
    assert [each.pool.candidates for each in node.all] == [(each.one, each.two) for each in node.all]
    assert node.told == ["breaker_opened one", "breaker_half_open one", "breaker_closed one"]
    assert all(event != "backend_restored one" for event in second.events), "told where it was opened"


def test_a_probe_that_fails_opens_for_all(node: Node) -> None:
    first, second = node.workers
    first.fail(first.one, 2)
    node.clock.sleep(30)
    second.fail(second.one)
    assert node.states == {(2, 0)}
    node.clock.sleep(29)
    assert node.states == {(2, 0)}
    node.clock.sleep(1)
    assert node.states == {(1, 0)}
    assert node.told.count("breaker_opened one") == 2


def test_of_two_that_decide_at_once_the_one_that_opens_is_right(node: Node) -> None:
    first, second = node.workers
    first.fail(first.one, 2)
    node.clock.sleep(30)
    first.answer(first.one)
    with node.together.held():
        first.answer(first.one)
        second.fail(second.one)
    assert node.states == {(2, 0)}


def test_both_may_open_at_once(node: Node) -> None:
    with node.together.held():
        for worker in node.workers:
            worker.fail(worker.one, 2)
    assert node.states == {(2, 0)}
    node.clock.sleep(30)
    assert node.states == {(1, 0)}


def test_a_pass_that_is_told_a_little_early_counts(node: Node) -> None:
    first, second = node.workers
    first.fail(first.one, 2)
    timer = node.clock.timers[0]  # of the process that opened: the first is its own
    node.clock.now += 30
    timer.cancel()
    timer.call()
    assert first.states == [1, 0]
    first.answer(first.one)
    assert second.states == [1, 0], "its own timer was late"
    second.answer(second.one)
    assert node.states == {(0, 0)}


def test_a_new_worker_learns_what_is_open_and_for_how_long(node: Node) -> None:
    first = node.workers[0]
    first.fail(first.one, 2)
    node.clock.sleep(20)
    late = node.add()
    assert late.states == [2, 0]
    assert late.breaker.retry_after() == pytest.approx(10)
    node.clock.sleep(10)
    first.answer(first.one)
    later = node.add()
    assert node.states == {(1, 0)}
    later.answer(later.one)
    assert node.states == {(0, 0)}, "it knew of the pass before it came"
    last = node.add()
    last.fail(last.two, 2)
    assert node.states == {(0, 2)}


def test_what_a_process_says_that_knew_less_is_no_news(node: Node) -> None:
    """Its clock may have been set back before it came."""
    first = node.workers[0]
    first.fail(first.one, 2)
    node.clock.sleep(30)
    first.answer(first.one)
    first.answer(first.one)
    message = {"backend": "one", "state": "open", "stamp": 5, "remaining": 9.0, "timeout": 9.0}
    node.together.control.deliver("circuit_breaker/shop", message)
    assert node.states == {(0, 0)}
    node.clock.now -= 500
    late = node.add()
    late.fail(late.one, 2)
    assert node.states == {(2, 0)}, "what it decides is newer than all it was told"


def test_a_process_alone_goes_on_with_what_its_predecessor_knew() -> None:
    clock = Clock()
    before, after = Process(clock, Sharing()), Process(clock, Sharing())
    for each in (before, after):
        each.breaker.start()
    before.fail(before.one, 2)
    clock.sleep(10)
    for topic, message in before.sharing.snapshots(nodes=False):
        after.sharing.deliver(topic, message)
    assert after.states == [2, 0]
    assert after.breaker.retry_after() == 20
    clock.sleep(20)
    for _ in range(2):
        after.answer(after.one)
    assert after.told == ["breaker_closed one"]


@pytest.mark.parametrize(
    "message",
    [
        {"backend": "gone", "state": "open", "stamp": 1 << 60, "remaining": 1.0},
        {"backend": "one", "state": "else", "stamp": 1 << 60},
        {"backend": "one", "state": "passed", "stamp": 1 << 60},
        {"state": "open"},
        {},
    ],
)
def test_what_nobody_understands_changes_nothing(node: Node, message: dict[str, Any]) -> None:
    node.together.control.deliver("circuit_breaker/shop", message)
    assert node.states == {(0, 0)}


def test_told_twice_is_told_once(node: Node) -> None:
    first = node.workers[0]
    first.fail(first.one, 2)
    node.clock.sleep(10)
    for topic, message in node.together.control.snapshots():
        node.together.control.deliver(topic, {**message, "remaining": 30.0})
    node.clock.sleep(20)
    assert node.states == {(1, 0)}


def test_requests_of_routes_without_a_breaker_are_judged_where_all_are_known(node: Node) -> None:
    first = node.workers[0]
    first.fail(first.one, 2)
    node.clock.sleep(30)
    first.one.requests += 10
    node.clock.sleep(30)
    assert node.states == {(1, 0)}, "one worker knows its own only"
    node.control.one.requests += 10
    node.clock.sleep(30)
    assert node.states == {(0, 0)}
    assert node.control.told == ["breaker_closed one"]


def test_nodes_follow_each_other() -> None:
    clock = Clock()
    one, other = Node(clock), Node(clock)
    early = one.workers[0]
    early.fail(early.one, 2)
    joined(one.together, other.together)
    assert one.states == other.states == {(2, 0)}
    clock.sleep(30)
    prober = other.workers[1]
    prober.answer(prober.one)
    prober.answer(prober.one)
    assert one.states == other.states == {(0, 0)}
    assert other.told == ["breaker_closed one"], "the opening was told by the other node"


@pytest.mark.parametrize("scope", ["backend", "route"])
def test_a_node_elsewhere_has_other_backends_on_loopback(scope: str) -> None:
    clock = Clock()
    one, elsewhere = (Node(clock, locality=locality_of("boot", network, 1), scope=scope) for network in (1, 2))
    joined(one.together, elsewhere.together)
    well = elsewhere.states
    first = one.workers[0]
    first.fail(first.one, 2)
    assert one.states != well
    assert elsewhere.states == well
    beside, late = (Node(clock, locality=locality_of("boot", network, 1), scope=scope) for network in (1, 2))
    joined(one.together, late.together)
    assert late.states == well
    joined(one.together, beside.together)
    assert beside.states == one.states
    assert beside.add().states == first.states


def test_a_node_elsewhere_has_the_same_backends_elsewhere() -> None:
    clock = Clock()
    one, elsewhere = (Node(clock, locality=locality_of("boot", network, 1)) for network in (1, 2))
    for each in (*one.all, *elsewhere.all):
        each.one.host = "10.0.0.1"
    joined(one.together, elsewhere.together)
    first = one.workers[0]
    first.fail(first.one, 2)
    first.fail(first.two, 2)
    assert one.states == {(2, 2)}
    assert elsewhere.states == {(2, 0)}


class WithCanary(Process):
    def other_pools(self) -> dict[str, Pool]:
        if not hasattr(self, "canary"):
            self.sick = Backend("sick", "127.0.0.1", 3, id="canary/sick")
            self.canary = Pool("canary", (self.sick, Backend("well", "127.0.0.1", 4)), notify=self.hear)
        return {"canary": self.canary}


def test_pools_that_a_route_only_uses_are_followed_and_probes_there_count() -> None:
    clock, together = Clock(), Together(2)
    control, first, second = (WithCanary(clock, each, timeout=30) for each in (together.control, *together.workers))
    for each in (control, first, second):
        each.breaker.start()
    for _ in range(2):
        first.breaker.on_backend_error(first.exchange(first.sick, pool=first.canary), ConnectFailed("refused"))
    assert [len(each.canary.candidates) for each in (control, first, second)] == [1, 1, 1]
    clock.sleep(30)
    for each in (second, first):
        each.breaker.on_response(each.exchange(each.sick, pool=each.canary))
    assert [len(each.canary.candidates) for each in (control, first, second)] == [2, 2, 2]
    assert [each.sick.restricted for each in (control, first)] == [each.one.restricted for each in (control, first)]
    new = second.build()
    new.inherit(second.breaker)
    second.breaker.close()
    new.start()
    assert not new._elsewhere, "nothing is looked at there while all is well"
    for _ in range(2):
        first.breaker.on_backend_error(first.exchange(first.sick, pool=first.canary), ConnectFailed("refused"))
    assert len(second.canary.candidates) == 1


def test_a_reload_keeps_what_all_know(node: Node) -> None:
    first, second = node.workers
    first.fail(first.one, 2)
    for each in node.all:
        old, new = each.breaker, each.build(threshold=1)
        new.inherit(old)
        old.close()
        new.start()
        each.breaker = new
    assert node.states == {(2, 0)}
    second.fail(second.two)
    assert node.states == {(2, 2)}
    for each in node.all:
        each.breaker.close()
    assert [each.pool.candidates for each in node.all] == [(each.one, each.two) for each in node.all]


# what is counted together


def counted(node: Node) -> int:
    """How many messages about counts the workers have sent."""
    return sum(topic.startswith("circuit_breaker_counts") for topic, _ in node.together.sent)


@pytest.mark.parametrize("scope", ["backend", "route"])
def test_failures_in_a_row_are_counted_over_all_workers(scope: str) -> None:
    node = Node(workers=3, threshold=5, scope=scope)
    for number in range(4):
        worker = node.workers[number % 3]
        worker.fail(worker.one)
        node.clock.sleep(0.1)
    assert {0} == {state for states in node.states for state in states}
    assert "4 of 5 failures" in str(node.control.breaker.describe())
    node.workers[2].fail(node.workers[2].one)
    assert 2 in next(iter(node.states))
    assert "5 failures in a row" in str(node.control.breaker.describe())


@pytest.mark.parametrize("scope", ["backend", "route"])
@pytest.mark.parametrize("ratio", [{}, {"error_ratio": 0.99, "min_requests": 1000}])
def test_a_success_in_any_worker_breaks_the_row(scope: str, ratio: dict[str, Any]) -> None:
    node = Node(threshold=3, scope=scope, **ratio)
    first, second = node.workers
    for _ in range(4):
        for worker in (first, second):
            worker.fail(worker.one)
            node.clock.sleep(0.1)
        second.answer(second.one)
        node.clock.sleep(0.1)
    assert node.told == []
    assert "failures" not in str(first.breaker.describe())
    for worker in (first, second, first):
        worker.fail(worker.one)
        node.clock.sleep(0.1)
    assert node.told == [f"breaker_opened {'one' if scope == 'backend' else ''}".strip()]


@pytest.mark.parametrize("scope", ["backend", "route"])
def test_shares_are_taken_over_all_workers(scope: str) -> None:
    node = Node(error_ratio=0.5, min_requests=20, threshold=1000, scope=scope)
    first, second = node.workers
    for worker in (first, second):
        for number in range(10):
            assert node.told == []
            if number % 2:
                worker.fail(worker.one)
            else:
                worker.answer(worker.one)
            node.clock.sleep(0.1)
    assert len(node.told) == 1
    assert "10 of 20 requests failed" in str(node.control.breaker.describe())


def test_what_goes_well_elsewhere_counts_though_it_was_before_the_first_failure() -> None:
    node = Node(threshold=1000, error_ratio=0.5, min_requests=10)
    first, second = node.workers
    for _ in range(40):
        second.answer(second.one)
    assert counted(node) == 0, "nothing is told while nothing fails"
    for _ in range(20):
        first.fail(first.one)
        node.clock.sleep(0.06)
    assert node.told == [], "20 of 60"
    for _ in range(20):
        first.fail(first.one)
        node.clock.sleep(0.06)
    assert node.told == ["breaker_opened one"]


def test_slow_answers_are_counted_over_all_workers() -> None:
    node = Node(slow_call=2.0, min_requests=4)
    for number in range(4):
        worker = node.workers[number % 2]
        exchange = worker.exchange(worker.one)
        exchange.started -= 3.0
        worker.breaker.on_response(exchange)
        node.clock.sleep(0.1)
    assert node.told == ["breaker_opened one"]


def test_counts_are_told_every_so_often_however_many_requests_there_are() -> None:
    node = Node(threshold=100_000, error_ratio=0.9, min_requests=100_000)
    first, second = node.workers
    for _ in range(1000):
        first.fail(first.one)
        second.answer(second.one)
        node.clock.sleep(0.001)
    assert 20 <= counted(node) <= 2 * 21
    node.clock.sleep(11)
    before = counted(node)
    for _ in range(1000):
        second.answer(second.one)
        node.clock.sleep(0.001)
    assert counted(node) == before, "all is well again"


def test_a_reload_goes_on_counting_together() -> None:
    for scope in ("backend", "route"):
        node = Node(threshold=4, scope=scope)
        first, second = node.workers
        for worker in (first, second):
            worker.fail(worker.one)
            node.clock.sleep(0.1)
        for each in node.all:
            old, new = each.breaker, each.build()
            new.inherit(old)
            old.close()
            new.start()
            each.breaker = new
        for worker in (first, second):
            worker.fail(worker.one)
            node.clock.sleep(0.1)
        assert len(node.told) == 1


@pytest.mark.parametrize("name", ["gone", "one", ""])
def test_counts_under_other_settings_are_not_ours(node: Node, name: str) -> None:
    node.together.control.deliver("circuit_breaker_counts/shop", {"00000000": {name: [0, 9, 9, 9, 0]}})
    assert "failures" not in str(node.control.breaker.describe())


# scope route


@pytest.fixture
def whole() -> Node:
    return Node(scope="route")


def test_the_route_opens_in_all_processes_and_its_probes_are_counted_together(whole: Node) -> None:
    first, second = whole.workers
    first.fail(first.one, 2)
    assert whole.states == {(2,)}
    assert all(each.route.gate is each.breaker for each in whole.all)
    assert second.probe() is None
    whole.clock.sleep(30)
    assert whole.states == {(1,)}
    probe = second.probe()
    assert probe is not None
    assert first.probe() is None, "one at a time in the sum"
    second.end(probe)
    probe = first.probe()
    assert probe is not None
    assert second.probe() is None
    first.end(probe)
    assert whole.states == {(0,)}
    assert all(each.route.gate is None for each in whole.all)
    assert whole.told == ["breaker_opened", "breaker_half_open", "breaker_closed"]


def test_the_probe_of_a_worker_that_died_keeps_nobody_out(whole: Node) -> None:
    first, second = whole.workers
    first.fail(first.one, 2)
    whole.clock.sleep(30)
    assert second.probe() is not None
    assert first.probe() is None
    for gone in whole.together.control.on_seat_gone:
        gone(second.sharing.seat)
    assert first.probe() is not None


def test_a_probe_that_gets_no_answer_makes_room(whole: Node) -> None:
    first, second = whole.workers
    first.fail(first.one, 2)
    whole.clock.sleep(30)
    probe = second.probe()
    assert probe is not None
    probe.ended = whole.clock.now
    second.breaker.on_complete(probe)
    second.breaker.on_complete(second.exchange(None))
    assert first.probe() is not None


def test_a_tunnel_takes_no_probe_s_place_in_any_process(whole: Node) -> None:
    first, second = whole.workers
    first.fail(first.one, 2)
    whole.clock.sleep(30)
    tunnel = second.probe()
    assert tunnel is not None
    tunnel.status = 101
    second.breaker.on_response(tunnel)
    assert first.probe() is not None


def test_a_probe_of_the_route_that_fails_opens_it_for_all(whole: Node) -> None:
    first, second = whole.workers
    first.fail(first.one, 2)
    whole.clock.sleep(30)
    probe = second.probe()
    assert probe is not None
    probe.status = 503
    second.breaker.on_response(probe)
    assert whole.states == {(2,)}
    whole.clock.sleep(30)
    assert first.probe() is not None, "the place of the one that failed is free"


def test_a_new_worker_has_the_gate_of_the_others(whole: Node) -> None:
    first = whole.workers[0]
    first.fail(first.one, 2)
    late = whole.add()
    assert late.route.gate is late.breaker
    whole.clock.sleep(30)
    first.end(first.probe() or first.exchange(None))
    later = whole.add()
    later.end(later.probe() or later.exchange(None))
    assert whole.states == {(0,)}
    late.fail(late.one, 2)
    assert whole.states == {(2,)}


def test_a_reload_of_the_route_keeps_circuit_and_counts(whole: Node) -> None:
    first, second = whole.workers
    first.fail(first.one, 2)
    whole.clock.sleep(30)
    for each in whole.all:
        old, new = each.breaker, each.build(passes=1)
        new.inherit(old)
        old.close()
        new.start()
        each.breaker = new
    assert whole.states == {(1,)}
    probe = second.probe()
    assert probe is not None
    assert first.probe() is None
    second.end(probe)
    assert whole.states == {(0,)}
    assert isinstance(first.breaker, RouteBreaker)
    for each in whole.all:
        each.breaker.close()
    assert not whole.together.control.memory.areas  # type: ignore[union-attr]  # there is one
