"""Who may connect, counted in all workers together."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, cast

from lb_core.config import ListenerConfig, RouteConfig
from lb_core.engine.engine import Engine
from lb_core.engine.shared_admission import ListenerCounts, SharedAdmission
from lb_core.pool import Pool
from lb_core.route import Route
from lb_core.table import Table
from lb_core.testing.together import Together

if TYPE_CHECKING:
    import asyncio

    from lb_core.engine.downstream import Downstream
    from lb_core.sharing import Sharing


class Transport:
    """As much of a transport as a refusal needs."""

    def write(self, data: bytes) -> None:
        assert b"too many connections" in data

    def can_write_eof(self) -> bool:
        return False

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        """Nobody reads."""

    def close(self) -> None:
        """Nothing is open."""


class State:
    def __init__(self) -> None:
        self.connections: set[object] = set()


class Worker:
    """One worker's part of a listener."""

    def __init__(self, sharing: Sharing, listener: ListenerConfig) -> None:
        self.engine = Engine(Table(()), Route(RouteConfig(name="none", host="*", pool="none"), Pool("none", ())))
        self.engine.trusted_proxies = (ip_network("10.0.0.0/8"),)
        self.state = State()
        self.admission = SharedAdmission(self.engine, listener, lambda event: None, ListenerCounts(sharing))
        self.use(listener)

    def use(self, listener: ListenerConfig) -> None:
        limits, open_now = listener.limits, cast("set[Downstream]", self.state.connections)
        self.admission.use(limits.connections, limits.per_client, open_now)

    def connect(self, address: str = "192.0.2.1") -> Connection | None:
        connection = Connection(self, address)
        if not self.admission.admit(cast("Downstream", connection)):
            return None
        self.state.connections.add(connection)
        self.engine.deadlines.connections.add(cast("Downstream", connection))
        return connection


class Connection:
    """As much of a Downstream as is looked at."""

    def __init__(self, worker: Worker, address: str) -> None:
        self.worker = worker
        self.server_state = worker.state
        self.origin = worker.engine.origin(address, "http", 80)
        self.transport = Transport()
        self.client_key = ""

    def end(self) -> None:
        self.server_state.connections.discard(self)
        self.worker.engine.deadlines.connections.discard(cast("Downstream", self))
        if self.client_key:
            self.worker.admission.left(cast("Downstream", self))


class Node:
    """A listener in two workers."""

    def __init__(self, **limits: Any) -> None:
        self.together = Together(2)
        self.listener = listener(**limits)
        self.counts = ListenerCounts(self.together.control)
        self.counts.keep([self.listener])
        self.one, self.other = (Worker(each, self.listener) for each in self.together.workers)

    def use(self, **limits: Any) -> None:
        self.listener = listener(**limits)
        self.counts.keep([self.listener])
        for worker in (self.one, self.other):
            worker.use(self.listener)


def listener(**limits: Any) -> ListenerConfig:
    return ListenerConfig.model_validate({"name": "web", "address": "127.0.0.1:8080", "limits": limits})


def ends(*connections: Connection | None) -> Callable[[], None]:
    def end() -> None:
        for each in connections:
            assert each is not None
            each.end()

    return end


async def test_connections_in_all_workers() -> None:
    node = Node(connections=3)
    first, second, third = node.one.connect(), node.other.connect(), node.one.connect()
    assert None not in (first, second, third)
    assert node.one.connect() is None
    assert node.other.connect() is None
    ends(second)()
    assert node.one.connect()
    assert node.other.connect() is None
    assert node.other.admission.refused == {"connections": 2}


async def test_connections_of_one_client_in_all_workers() -> None:
    node = Node(per_client=2)
    first = node.one.connect()
    assert first
    assert node.other.connect()
    assert node.one.connect() is None
    assert node.other.connect() is None
    assert node.other.connect("192.0.2.2")
    ends(first)()
    assert node.other.connect()
    assert node.one.connect() is None
    assert all(worker.connect("10.0.0.1") for worker in (node.one, node.other) for _ in range(5))


async def test_a_client_that_is_refused_takes_no_place_of_the_listener() -> None:
    node = Node(per_client=1, connections=2)
    assert node.one.connect()
    assert [node.one.connect(), node.other.connect()] == [None, None]
    assert node.other.connect("192.0.2.2")
    assert node.other.connect("192.0.2.3") is None


async def test_a_worker_that_dies_frees_its_places() -> None:
    node = Node(connections=2, per_client=2)
    assert node.other.connect()
    assert node.other.connect()
    assert node.one.connect() is None
    node.together.control.seat_gone(2)
    assert node.one.connect()
    assert node.one.connect()


async def test_a_limit_switched_on_later_counts_who_is_there() -> None:
    node = Node()
    early = [node.one.connect(), node.one.connect(), node.other.connect()]
    node.use(connections=3, per_client=3)
    assert node.other.connect() is None
    ends(*early)()
    assert all(node.other.connect() for _ in range(3))
    assert node.one.connect() is None


async def test_per_client_off_and_on_again_counts_once() -> None:
    node = Node(per_client=3)
    early = [node.one.connect(), node.other.connect()]
    node.use()
    early.append(node.one.connect())
    node.use(per_client=4)
    assert node.one.connect()
    assert node.other.connect() is None
    ends(*early)()
    assert [bool(node.other.connect()) for _ in range(4)] == [True, True, True, False]


async def test_auto_is_each_workers_own() -> None:
    node = Node(connections="auto")
    node.one.engine.max_connections = node.other.engine.max_connections = 2
    assert all(worker.connect() for worker in (node.one, node.other) for _ in range(2))
    assert [node.one.connect(), node.other.connect()] == [None, None]


async def test_a_listener_that_control_does_not_know_is_limited_in_each_worker() -> None:
    together = Together(2)
    ListenerCounts(together.control).keep([])
    workers = [Worker(each, listener(connections=1)) for each in together.workers]
    early = [worker.connect() for worker in workers]
    assert all(early)
    assert [worker.connect() for worker in workers] == [None, None]
    ends(*early)()
    assert all(worker.connect() for worker in workers)


async def test_a_listener_that_is_gone_makes_room_for_others() -> None:
    together = Together(1)
    counts = ListenerCounts(together.control)
    counts.keep([listener(per_client=3)])
    assert counts.find(listener()) is not None
    other = ListenerConfig.model_validate({"name": "other", "address": "127.0.0.1:8081"})
    counts.keep([other])
    assert counts.find(other) not in (None, counts.find(listener()))
