"""The split of several processes and nodes: one set of weights, and a rollback on what all of them met."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import Event, Exchange, LbError, Pool, Route
from lb_core.backend import Backend
from lb_core.config import RouteConfig
from lb_core.sharing.slots import Slots
from lb_core.testing.together import Together, joined
from lb_split import build
from lb_split.mirror import Mirror, MirrorSettings
from lb_split.outcomes import Outcomes
from lb_split.recent_of_all import RecentOfAll
from lb_split.settings import SplitSettings

if TYPE_CHECKING:
    from lb_core.sharing import Sharing
    from lb_split import Split

POOLS = [{"use": "self", "weight": 75}, {"use": "canary", "weight": 25}]


class Process:
    """One process with the route `shop`; its requests end at `now`."""

    def __init__(self, sharing: Sharing, split: Any = POOLS) -> None:
        self.sharing = sharing
        self.events: list[Event] = []
        self.now = 1000.0
        self.pool = Pool("shop", [Backend("a", "127.0.0.1", 1)], notify=self.hear)
        self.canary = Pool("canary", [Backend("b", "127.0.0.1", 2)], notify=self.hear)
        self.split = self.build(split)
        self.split.start()

    def build(self, split: Any) -> Split:
        self.route = Route(RouteConfig(name="shop", host="shop", pool="shop"), self.pool, self.sharing)
        self.route.pools = {"canary": self.canary}
        settings = SplitSettings.model_validate(split if isinstance(split, dict) else {"pools": split})
        made = build(self.route, settings)
        made._clock = lambda: self.now
        return made

    def rebuild(self, split: Any) -> None:
        old, new = self.split, self.build(split)
        new.inherit(old)
        old.close()
        new.start()
        self.split = new

    def hear(self, event: Event) -> None:
        if not self.sharing.applying:
            self.events.append(event)

    def begin(self, head: str = "") -> Exchange:
        connection: Any = SimpleNamespace(peer="192.0.2.1", scheme="http", port=80)
        data = f"GET / HTTP/1.1\r\nHost: shop\r\n{head}\r\n".encode()
        exchange = Exchange(self.route, connection, "192.0.2.1", b"GET", b"/", b"shop", data)
        self.split.before_request(exchange)
        return exchange

    def serve(self, times: int = 1, *, bad: bool = False) -> None:
        """Requests of which those of the canary fail, where it is `bad`."""
        for _ in range(times):
            exchange = self.begin()
            exchange.attempts = 1
            exchange.status = 500 if bad and exchange.pool is self.canary else 200
            exchange.ended = self.now
            self.split.on_complete(exchange)

    @property
    def told(self) -> list[str]:
        return [event.kind for event in self.events]


class Node:
    def __init__(self, workers: int = 2, split: Any = POOLS) -> None:
        self.together = Together(workers)
        self.control = Process(self.together.control, split)
        self.workers = [Process(each, split) for each in self.together.workers]
        self.section = split

    @property
    def all(self) -> list[Process]:
        return [self.control, *self.workers]

    @property
    def weights(self) -> list[dict[str, float]]:
        """Those in use; one where all agree."""
        found: list[dict[str, float]] = []
        for each in self.all:
            if each.split.weights not in found:
                found.append(each.split.weights)
        return found

    def add(self) -> Process:
        new = Process(self.together.add(), self.section)
        self.together.welcome(new.sharing)
        self.workers.append(new)
        return new


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_shift_reaches_every_process_and_those_that_come_later(node: Node) -> None:
    node.control.split.shift({"canary": 0})
    assert node.weights == [{"self": 100, "canary": 0}]
    assert [each.begin().pool.name for each in node.all for _ in range(4)] == ["shop"] * 12
    node.add()
    assert node.weights == [{"self": 100, "canary": 0}]
    assert [event for each in node.all for event in each.told] == ["split_shifted"]


def test_a_shift_that_is_refused_is_told_to_nobody(node: Node) -> None:
    with pytest.raises(LbError):
        node.control.split.shift({"canary": 2000})
    assert node.weights == [{"self": 75, "canary": 25}]
    assert not node.together.control.snapshots()


def test_a_canary_is_rolled_back_on_the_sum_of_the_workers(node: Node) -> None:
    """It takes 20 requests of the canary, and each worker has 12."""
    first, second = node.workers
    first.serve(48, bad=True)
    assert node.weights == [{"self": 75, "canary": 25}]
    second.serve(48, bad=True)
    assert node.weights == [{"self": 75, "canary": 0}]
    (event,) = [event for each in node.all for event in each.events]
    assert (event.kind, event.details["requests"], event.details["failed"]) == ("canary_rolled_back", 20, 20)
    lines = node.control.split.describe()
    assert lines[1].startswith("canary 0 %: ")
    assert lines[1].endswith("rolled back")


def test_what_one_worker_meets_is_weighed_against_what_all_have(node: Node) -> None:
    """One worker's canary requests all fail, and those of the other are three times as many and fare well."""
    first, second = node.workers
    rollback = {"pools": POOLS, "rollback": {"margin": "30%", "min_requests": 20}}
    node = Node(split=rollback)
    first, second = node.workers
    second.serve(300)
    first.serve(80, bad=True)
    assert node.weights == [{"self": 75, "canary": 25}]
    first.serve(80, bad=True)
    assert node.weights == [{"self": 75, "canary": 0}]


def test_failures_elsewhere_are_seen_while_one_s_own_requests_fare_well(node: Node) -> None:
    first, second = node.workers
    first.serve(60, bad=True)
    assert node.weights == [{"self": 75, "canary": 25}], "15 requests are not enough"
    for _ in range(20):
        second.now += 0.1
        second.serve(3)
    assert node.weights == [{"self": 75, "canary": 0}], "15 of 20 have failed, and the second worker saw it"
    assert second.told == ["canary_rolled_back"]


def test_old_failures_are_forgotten_by_all(node: Node) -> None:
    first, second = node.workers
    first.serve(60, bad=True)
    first.now = second.now = 1070.0
    second.serve(60, bad=True)
    assert node.weights == [{"self": 75, "canary": 25}]


def test_a_shift_begins_the_count_anew_in_every_process(node: Node) -> None:
    first, second = node.workers
    first.serve(60, bad=True)
    node.control.split.shift({"canary": 25})
    second.serve(60, bad=True)
    assert node.weights == [{"self": 75, "canary": 25}]
    second.serve(20, bad=True)
    assert node.weights == [{"self": 75, "canary": 0}]


def test_the_control_process_describes_what_all_have_served_and_those_that_ended(node: Node) -> None:
    first, second = node.workers
    first.serve(40)
    second.serve(36, bad=True)
    lines = node.control.split.describe()
    assert lines == [
        "self 75 %: 57 requests, 0 failed, 0.0% of 57 in 60s",
        "canary 25 %: 19 requests, 9 failed, 47.4% of 19 in 60s",
    ]
    node.together.control.seat_gone(second.sharing.seat)
    lines = node.control.split.describe()
    assert lines[1] == "canary 25 %: 19 requests, 9 failed, 0.0% of 10 in 60s"
    again = Process(second.sharing)
    again.serve(4)
    assert node.control.split.describe()[0].startswith("self 75 %: 60 requests")


def test_the_newest_shift_holds_wherever_messages_cross(node: Node) -> None:
    other = Node()
    joined(node.together, other.together)
    with node.together.held(), other.together.held():
        node.control.split.shift({"canary": 10})
        other.control.split.shift({"canary": 50})
    assert node.weights == other.weights
    assert len(node.weights) == 1


def test_nodes_learn_shifts_and_rollbacks_and_who_joins_later_too() -> None:
    one, other = Node(), Node()
    one.control.split.shift({"canary": 50})
    joined(one.together, other.together)
    assert other.weights == [{"self": 50, "canary": 50}]
    other.workers[0].serve(60, bad=True)
    assert one.weights == other.weights == [{"self": 50, "canary": 0}]
    assert [part.rolled_back for part in one.workers[1].split.parts] == [False, True]
    assert [event for each in one.all for event in each.told] == ["split_shifted"]


def test_another_section_is_not_meant() -> None:
    one, other = Node(), Node(split=[{"use": "self", "weight": 60}, {"use": "canary", "weight": 40}])
    joined(one.together, other.together)
    one.control.split.shift({"canary": 1})
    assert other.weights == [{"self": 60, "canary": 40}]


@pytest.mark.parametrize(
    "weights", [{}, {"self": 1.0}, {"self": 0, "canary": 0}, {"self": -1, "canary": 5}, {"self": 5000, "canary": 1}]
)
def test_weights_that_cannot_be_are_not_taken(node: Node, weights: dict[str, float]) -> None:
    node.control.split.shift({"canary": 10})
    ((topic, message),) = node.together.control.snapshots()
    node.together.control.deliver(topic, {**message, "weights": weights, "stamp": message["stamp"] + 9})
    assert node.weights == [{"self": 90, "canary": 10}]


def test_a_reload_keeps_what_was_shifted_and_counted_and_a_new_section_begins_afresh(node: Node) -> None:
    first, second = node.workers
    node.control.split.shift({"canary": 50})
    first.serve(20, bad=True)
    for each in node.all:
        each.rebuild(POOLS)
    assert node.weights == [{"self": 50, "canary": 50}]
    assert ", 10 failed, 100.0% of 10" in node.control.split.describe()[1]
    second.serve(20, bad=True)
    assert node.weights == [{"self": 50, "canary": 0}]
    for each in node.all:
        each.rebuild({"pools": POOLS, "rollback": {"min_requests": 30}})
    assert node.weights == [{"self": 75, "canary": 25}]
    assert ", 20 failed, 0.0% of 0 in" in node.control.split.describe()[1]
    for each in node.all:
        each.split.close()
    assert not node.together.control.memory.areas  # type: ignore[union-attr]  # there is one


def test_clients_with_a_cookie_have_the_same_pool_in_every_process() -> None:
    node = Node(split={"pools": POOLS, "by": "cookie"})
    for point in range(0, 65536, 257):
        pools = {each.begin(f"Cookie: lb_split={point:04x}\r\n").pool.name for each in node.all}
        assert len(pools) == 1
    by_client = Node(split={"pools": POOLS, "by": "client"})
    assert len({each.begin().pool.name for each in by_client.all}) == 1


def test_the_sum_of_the_rows_is_what_one_window_would_hold() -> None:
    together = Together(2)
    rows = [RecentOfAll(Slots(each, "recent", 36), 0, 60.0) for each in together.workers]
    one = Outcomes(60.0)
    now = 5000.0
    for number in range(400):
        now += 0.37 if number % 50 else 40.0
        failed = number % 3 == 0
        rows[number % 2].add(now, failed)
        one.add(now, failed)
        for row in rows:
            found = row.sum(now)
            assert (found.requests, found.failed) == (one.requests, one.failed)


# mirror


def test_copies_are_counted_and_capped_in_the_sum_of_the_workers() -> None:
    together = Together(2)
    settings = MirrorSettings(use="shadow", percent=100, max_in_flight=3)
    mirrors = []
    for sharing in (together.control, *together.workers):
        route = Route(RouteConfig(name="shop", host="shop", pool="shop"), Pool("shop", ()), sharing)
        mirrors.append(Mirror(Pool("shadow", ()), settings, route))
        mirrors[-1].start()
    control, first, second = mirrors
    task: Any = object()
    assert first._place()
    first._tasks.add(task)
    assert [second._place() for _ in range(2)] == [True, True], "nothing was begun meanwhile"
    second._tasks |= {1, 2}  # type: ignore[arg-type]
    second._place()
    assert not first._place()
    assert not second._place()
    assert control.describe() == (
        "100 % to shadow: 0 copied, 0 failed, 3 in flight; left out: 0 for their body, 0 over the cap"
    )
    heir = Mirror(Pool("shadow", ()), settings, first._route)
    heir.inherit(first)
    first.close()
    heir.start()
    first._ended(task)
    assert second._place(), "a copy that the route before had begun has ended"
