"""Who may connect: counted for a listener, for all of them, and for a client."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, cast

import pytest

from lb_core.config import RouteConfig
from lb_core.engine import admission as module
from lb_core.engine.admission import Admission, ceiling, client_key
from lb_core.engine.engine import Engine
from lb_core.pool import Pool
from lb_core.route import Route
from lb_core.table import Table

if TYPE_CHECKING:
    from lb_core.engine.downstream import Downstream
    from lb_core.events import Event


class Transport(asyncio.Transport):
    """Remembers what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.protocol: asyncio.BaseProtocol | None = None
        self.eof = self.aborted = self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True


class State:
    """What uvicorn knows of a listener."""

    def __init__(self) -> None:
        self.connections: set[object] = set()


class Listener:
    """A listener's connections, as Downstream opens and ends them."""

    def __init__(self, engine: Engine, connections: int = 0, per_client: int = 0) -> None:
        self.engine = engine
        self.state = State()
        self.events: list[Event] = []
        self.admission = Admission(engine, "web", self.events.append)
        self.use(connections, per_client)

    def use(self, connections: int, per_client: int = 0) -> None:
        self.admission.use(connections, per_client, cast("set[Downstream]", self.state.connections))

    def connect(self, address: str = "192.0.2.1") -> Connection | None:
        connection = Connection(self, address)
        if not self.admission.admit(cast("Downstream", connection)):
            return None
        self.state.connections.add(connection)
        self.engine.deadlines.connections.add(cast("Downstream", connection))
        return connection


class Connection:
    """As much of a Downstream as is looked at."""

    def __init__(self, listener: Listener, address: str) -> None:
        self.listener = listener
        self.server_state = listener.state
        self.origin = listener.engine.origin(address, "http", 80)
        self.transport = Transport()
        self.client_key = ""

    def end(self) -> None:
        me = cast("Downstream", self)
        self.server_state.connections.discard(self)
        self.listener.engine.deadlines.connections.discard(me)
        if self.client_key:
            self.listener.admission.left(me)


@pytest.fixture
def engine() -> Engine:
    return Engine(Table(()), Route(RouteConfig(name="none", host="*", pool="none"), Pool("none", ())))


def test_half_of_the_descriptors_are_for_clients() -> None:
    assert [ceiling(limit) for limit in (8, 128, 1024, 20_000, 1_048_576)] == [3, 48, 384, 9872, 524160]
    assert ceiling(float("inf")) == float("inf")
    assert ceiling(1) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_one_client_is_an_address_or_a_64(one: str, other: str, same: bool) -> None:
    assert (client_key(one) == client_key(other)) is same


async def test_so_many_and_no_more_until_one_leaves(engine: Engine) -> None:
    listener = Listener(engine, connections=2)
    first, second, third = (listener.connect() for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is None
    first.end()
    assert listener.connect() is not None
    assert listener.connect() is None
    assert listener.admission.refused == {"connections": 2}


async def test_zero_is_no_limit(engine: Engine) -> None:
    engine.max_connections = 1
    listener = Listener(engine, connections=0)
    assert all(listener.connect() for _ in range(100))


async def test_auto_counts_every_listener(engine: Engine) -> None:
    engine.max_connections = 3
    one, other = Listener(engine, connections=-1), Listener(engine, connections=-1)
    assert all((one.connect(), one.connect(), other.connect()))
    assert one.connect() is None
    assert other.connect() is None


async def test_each_client_has_its_own_count(engine: Engine) -> None:
    listener = Listener(engine, per_client=2)
    first = listener.connect("192.0.2.1")
    assert listener.connect("192.0.2.1")
    assert listener.connect("192.0.2.1") is None
    assert listener.connect("192.0.2.2")
    assert first is not None
    first.end()
    assert listener.connect("192.0.2.1")
    assert listener.connect("192.0.2.1") is None


async def test_trusted_proxies_and_unix_sockets_are_not_counted(engine: Engine) -> None:
    engine.trusted_proxies = (ip_network("10.0.0.0/8"),)
    listener = Listener(engine, per_client=1)
    assert all(listener.connect("10.1.2.3") for _ in range(10))
    assert all(listener.connect("") for _ in range(10))
    assert listener.connect("192.0.2.1")
    assert listener.connect("192.0.2.1") is None


async def test_a_limit_that_is_switched_on_later_counts_who_is_there(engine: Engine) -> None:
    listener = Listener(engine)
    early = [listener.connect() for _ in range(3)]
    listener.use(0, per_client=3)
    assert listener.connect() is None
    for each in early:
        assert each is not None
        each.end()
    assert [listener.connect() is not None for _ in range(4)] == [True, True, True, False]


async def test_a_limit_that_is_switched_off_and_on_counts_right(engine: Engine) -> None:
    listener = Listener(engine, per_client=2)
    one, two = listener.connect(), listener.connect()
    assert one is not None
    assert two is not None
    listener.use(0, per_client=0)
    assert listener.connect()
    one.end()
    listener.use(0, per_client=2)
    assert listener.connect() is None
    two.end()
    assert listener.connect()


async def test_who_is_refused_is_told_so(engine: Engine) -> None:
    listener = Listener(engine, connections=1)
    listener.connect()
    refused = Connection(listener, "192.0.2.9")
    assert not listener.admission.admit(cast("Downstream", refused))
    transport = refused.transport
    head, _, body = transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nConnection: close" in head
    assert b"\r\nRetry-After: 5" in head
    assert body == b"too many connections are open\n"
    assert transport.eof
    assert listener.admission.lingering == 1
    protocol = cast("asyncio.Protocol", transport.protocol)
    protocol.data_received(b"GET / HTTP/1.1\r\n")
    assert not transport.aborted
    protocol.data_received(b"x" * module.LINGER_BYTES)
    assert transport.aborted
    protocol.connection_lost(None)
    assert listener.admission.lingering == 0


async def test_few_of_the_refused_are_waited_for(engine: Engine) -> None:
    listener = Listener(engine, connections=1)
    listener.connect()
    refused = [Connection(listener, "192.0.2.9") for _ in range(module.MAX_LINGERING + 5)]
    for each in refused:
        listener.admission.admit(cast("Downstream", each))
    assert sum(each.transport.closed for each in refused) == 5
    assert all(each.transport.written for each in refused)


async def test_who_is_refused_does_not_stay(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.02)
    listener = Listener(engine, connections=1)
    listener.connect()
    refused = Connection(listener, "192.0.2.9")
    listener.admission.admit(cast("Downstream", refused))
    await asyncio.sleep(0.1)
    assert refused.transport.aborted


async def test_it_is_said_at_once_and_then_in_sums(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_EVERY", 0.05)
    listener = Listener(engine, connections=1)
    for _ in range(11):
        listener.connect()
    assert [str(event) for event in listener.events] == [
        "connections_refused: listener web: 1 connection refused by limits.connections"
    ]
    await asyncio.sleep(0.15)
    assert [event.details["count"] for event in listener.events] == [1, 9]
    assert listener.events[1].details == {"listener": "web", "limit": "connections", "count": 9}
    listener.connect()
    assert [event.details["count"] for event in listener.events] == [1, 9, 1]
