"""The addresses of names: when they are looked up, in which order they are tried, what is said of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.backend import Backend
from lb_core.names import AVOIDED_FOR, Name, Names, addresses_of, alternating, is_name
from lb_core.resolving import Resolution
from lb_core.units import parse_backend

if TYPE_CHECKING:
    from lb_core.events import Event


class Table:
    """A resolver that answers from a table: addresses, an error, or whatever a function returns."""

    def __init__(self, **hosts: tuple[str, ...]) -> None:
        self.hosts: dict[str, tuple[str, ...] | Exception] = dict(hosts)
        self.ttl = 60.0
        self.asked: list[tuple[str, float]] = []
        self.held = asyncio.Event()
        self.held.set()

    async def resolve(self, host: str) -> Resolution:
        self.asked.append((host, asyncio.get_running_loop().time()))
        await self.held.wait()
        found = self.hosts.get(host, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        if isinstance(found, Exception):
            raise found
        return Resolution(found, self.ttl)


class Watched:
    """Names under watch, with what was told about them."""

    def __init__(self, names: Names, backends: list[Backend]) -> None:
        self.names = names
        self.backends = backends
        self.events: list[Event] = []
        self.moved: list[Name] = []

    @property
    def name(self) -> Name:
        lookup = self.backends[0].lookup
        assert lookup is not None
        return lookup

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@asynccontextmanager
async def watching(
    resolver: Table, *hosts: str, shortest: float = 0.05, longest: float = 1.5, limit: float = 5.0
) -> AsyncIterator[Watched]:
    backends = [Backend(f"web{number}", host, 80) for number, host in enumerate(hosts)]
    names = Names(
        resolver,
        notify=lambda event: watched.events.append(event),
        moved=lambda name: watched.moved.append(name),
        shortest=shortest,
        longest=longest,
        limit=limit,
    )
    watched = Watched(names, backends)
    names.watch(backends)
    try:
        yield watched
    finally:
        await names.stop()


async def until(condition: Callable[[], object], seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


# addresses and names


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2001:db8::1", "fe80::1%eth0", "", "/run/app.sock"])
async def test_an_address_costs_nothing(host: str) -> None:
    resolver = Table()
    before = asyncio.all_tasks()
    async with watching(resolver, host) as watched:
        assert watched.backends[0].lookup is None
        assert asyncio.all_tasks() == before
        assert await addresses_of(watched.backends[0]) == [host]
        await asyncio.sleep(0.02)
    assert resolver.asked == []
    assert not is_name(host)


@pytest.mark.parametrize("host", ["web1", "web1.example", "localhost", "web1.example.", "xn--bcher-kva.example", "1e3"])
def test_a_name_is_no_address(host: str) -> None:
    assert is_name(host)


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("bücher.example:80", "xn--bcher-kva.example"),
        ("http://BÜCHER.example", "xn--bcher-kva.example"),
        ("例え.テスト:8080", "xn--r8jz45g.xn--zckzah"),
        ("１２７.0.0.1:80", "127.0.0.1"),
    ],
)
def test_international_names_are_looked_up_as_dns_knows_them(written: str, host: str) -> None:
    assert parse_backend(written).host == host


# the order in which addresses are tried


async def test_new_connections_begin_at_each_address_in_turn() -> None:
    async with watching(Table(web=("10.0.0.1", "10.0.0.2", "10.0.0.3")), "web") as watched:
        orders = [await watched.name.order() for _ in range(4)]
    assert orders == [
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
        ["10.0.0.2", "10.0.0.3", "10.0.0.1"],
        ["10.0.0.3", "10.0.0.1", "10.0.0.2"],
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
    ]


def test_families_alternate() -> None:
    assert alternating(["::1", "::2", "::3", "1.1.1.1"]) == ["::1", "1.1.1.1", "::2", "::3"]
    assert alternating(["1.1.1.1", "1.1.1.2", "::1"]) == ["1.1.1.1", "::1", "1.1.1.2"]


@given(st.lists(st.ip_addresses().map(str), min_size=1, max_size=8, unique=True))
def test_alternating_loses_no_address_and_keeps_the_first(addresses: list[str]) -> None:
    found = alternating(addresses)
    assert sorted(found) == sorted(addresses)
    assert found[0] == addresses[0]
    if len({":" in address for address in addresses}) == 2:
        assert (":" in found[0]) != (":" in found[1])


async def test_an_address_that_failed_stands_last_for_ten_seconds() -> None:
    now = 0.0
    name = Name("web", lambda: now)
    name.addresses = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    name.known.set()
    name.avoid(["10.0.0.1"])
    assert [(await name.order())[-1] for _ in range(3)] == ["10.0.0.1"] * 3
    now = AVOIDED_FOR + 0.01
    assert {(await name.order())[0] for _ in range(3)} == set(name.addresses)


# when it is looked up


async def test_every_name_is_looked_up_once_for_all_its_backends() -> None:
    resolver = Table(web=("10.0.0.1",), app=("10.0.0.2",))
    async with watching(resolver, "web", "app", "web") as watched:
        first, second, third = watched.backends
        assert first.lookup is third.lookup is not second.lookup
        assert await addresses_of(first) == ["10.0.0.1"]
        assert await addresses_of(second) == ["10.0.0.2"]
    assert sorted(host for host, _ in resolver.asked) == ["app", "web"]
    assert watched.events == []


@pytest.mark.parametrize(
    ("ttl", "least", "most"),
    [(0.0, 0.05, 0.15), (0.2, 0.2, 0.3), (3600.0, 0.4, 0.5)],
    ids=["0 is the shortest", "within", "3600 is the longest"],
)
async def test_again_when_the_answer_has_run_out(ttl: float, least: float, most: float) -> None:
    resolver = Table(web=("10.0.0.1",))
    resolver.ttl = ttl
    async with watching(resolver, "web", longest=0.4):
        await until(lambda: len(resolver.asked) == 3)
    times = [when for _, when in resolver.asked]
    assert all(least <= later - earlier <= most for earlier, later in pairwise(times)), times


async def test_at_once_when_a_connection_failed_but_not_more_often_than_the_shortest_time() -> None:
    resolver = Table(web=("10.0.0.1",))
    async with watching(resolver, "web", shortest=0.2, longest=30) as watched:
        await watched.name.order()
        await asyncio.sleep(0.3)
        called = asyncio.get_running_loop().time()
        end = called + 0.5
        while asyncio.get_running_loop().time() < end:
            watched.name.again()
            await asyncio.sleep(0.002)
    times = [when - called for _, when in resolver.asked[1:]]
    assert times[0] < 0.05
    assert 3 <= len(times) <= 4
    assert all(later - earlier >= 0.195 for earlier, later in pairwise(times))


async def test_a_name_nobody_asks_for_is_looked_up_ever_less_often() -> None:
    resolver = Table()
    async with watching(resolver, "web", shortest=0.05, longest=0.2):
        await until(lambda: len(resolver.asked) == 5)
    times = [when for _, when in resolver.asked]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.2], abs=0.04)


async def test_a_resolver_that_hangs_is_given_up() -> None:
    resolver = Table(web=("10.0.0.1",))
    resolver.held.clear()
    async with watching(resolver, "web", limit=0.1) as watched:
        with pytest.raises(socket.gaierror, match=r"no answer within 0\.1 s"):
            await watched.name.order()
        resolver.held.set()
        watched.name.again()
        await until(lambda: watched.name.addresses)


async def test_sixteen_lookups_at_once_and_no_more() -> None:
    resolver = Table(**{f"web{number}": ("10.0.0.1",) for number in range(40)})
    resolver.held.clear()
    async with watching(resolver, *resolver.hosts) as watched:
        await asyncio.sleep(0.05)
        assert len(resolver.asked) == 16
        resolver.held.set()
        await until(lambda: all(b.lookup is not None and b.lookup.addresses for b in watched.backends))


# what it does with an answer, and without one


async def test_the_first_connection_waits_for_the_first_answer() -> None:
    resolver = Table(web=("10.0.0.1",))
    resolver.held.clear()
    async with watching(resolver, "web") as watched:
        waiting = asyncio.create_task(watched.name.order())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        resolver.held.set()
        assert await waiting == ["10.0.0.1"]


async def test_a_name_that_never_resolved_says_so_to_every_attempt() -> None:
    async with watching(Table(), "web") as watched:
        for _ in range(2):
            with pytest.raises(socket.gaierror, match=r"the name does not resolve \(Name or service not known\)"):
                await watched.name.order()
        assert watched.kinds == ["name_unresolved"]
        assert watched.events[0].message == "web does not resolve (Name or service not known); it never did"
        assert watched.events[0].details == {"name": "web", "addresses": []}


async def test_the_last_addresses_stay_when_a_name_stops_resolving_and_it_is_told_once() -> None:
    resolver = Table(web=("10.0.0.1", "10.0.0.2"))
    resolver.ttl = 0.0
    async with watching(resolver, "web") as watched:
        await watched.name.order()
        resolver.hosts["web"] = OSError(5, "SERVFAIL")
        await until(lambda: len(resolver.asked) >= 5)
        assert watched.name.addresses == ("10.0.0.1", "10.0.0.2")
        assert set(await watched.name.order()) == {"10.0.0.1", "10.0.0.2"}
        assert watched.kinds == ["name_unresolved"]
        assert watched.events[0].message == (
            "web does not resolve (SERVFAIL); its last addresses stay in use: 10.0.0.1, 10.0.0.2"
        )
        resolver.hosts["web"] = ("10.0.0.1", "10.0.0.2")
        watched.name.again()
        await until(lambda: len(watched.events) == 2)
        assert watched.kinds == ["name_unresolved", "name_resolved"]
        assert watched.events[1].message == "web: 10.0.0.1, 10.0.0.2"
        assert watched.name.problem == ""
        assert watched.moved == [], "the same addresses as before"


async def test_an_answer_without_addresses_is_none() -> None:
    resolver = Table(web=("10.0.0.1",))
    resolver.ttl = 0.0
    async with watching(resolver, "web") as watched:
        await watched.name.order()
        resolver.hosts["web"] = ()
        await until(lambda: watched.events)
        assert watched.name.addresses == ("10.0.0.1",)
        assert "it has no address" in watched.events[0].message


async def test_other_addresses_are_told_and_taken() -> None:
    resolver = Table(web=("10.0.0.1", "10.0.0.2"))
    resolver.ttl = 0.0
    async with watching(resolver, "web") as watched:
        await watched.name.order()
        assert watched.events == []
        resolver.hosts["web"] = ("10.0.0.3", "10.0.0.2", "10.0.0.3")
        await until(lambda: watched.events)
        assert watched.kinds == ["name_resolved"]
        assert watched.events[0].details == {"name": "web", "addresses": ["10.0.0.3", "10.0.0.2"]}
        assert watched.moved == [watched.name]


async def test_the_same_addresses_in_another_order_are_no_change() -> None:
    resolver = Table(web=("10.0.0.1", "10.0.0.2"))
    resolver.ttl = 0.0
    async with watching(resolver, "web") as watched:
        await watched.name.order()
        resolver.hosts["web"] = ("10.0.0.2", "10.0.0.1")
        await until(lambda: len(resolver.asked) >= 4)
        assert watched.name.addresses == ("10.0.0.1", "10.0.0.2")
        assert watched.events == []


async def test_whatever_a_resolver_raises_is_contained() -> None:
    resolver = Table()
    resolver.hosts["web"] = ZeroDivisionError()
    async with watching(resolver, "web") as watched:
        with pytest.raises(socket.gaierror, match="ZeroDivisionError"):
            await watched.name.order()
        resolver.hosts["web"] = ("10.0.0.1",)
        await until(lambda: watched.name.addresses)


async def test_a_failure_to_follow_is_logged_and_the_name_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    resolver = Table(web=("10.0.0.1",))
    resolver.ttl = 0.0

    def broken(name: Name) -> None:
        raise RuntimeError("no")

    names = Names(resolver, notify=lambda event: None, moved=broken, shortest=0.02)
    backend = Backend("web", "web", 80)
    names.watch([backend])
    try:
        assert await addresses_of(backend) == ["10.0.0.1"]
        resolver.hosts["web"] = ("10.0.0.2",)
        await until(lambda: "could not be told" in caplog.text)
        resolver.hosts["web"] = ("10.0.0.3",)
        await until(lambda: backend.lookup is not None and backend.lookup.addresses == ("10.0.0.3",))
    finally:
        await names.stop()


# coming and going


async def test_a_name_that_stays_keeps_its_state_and_one_that_leaves_is_looked_up_no_more() -> None:
    resolver = Table(web=("10.0.0.1",), app=("10.0.0.2",))
    resolver.ttl = 0.0
    async with watching(resolver, "web", "app") as watched:
        web, app = watched.backends
        lookup, left = web.lookup, app.lookup
        assert lookup is not None
        assert left is not None
        await lookup.order()
        await left.order()
        again = Backend("web", "web", 80)
        watched.names.watch([again])
        assert again.lookup is lookup
        resolver.asked.clear()
        await until(lambda: len(resolver.asked) >= 3)
        assert {host for host, _ in resolver.asked} == {"web"}
        assert await left.order() == ["10.0.0.2"], "an exchange under way still may connect"


async def test_who_waits_for_a_name_that_leaves_is_let_go() -> None:
    resolver = Table(web=("10.0.0.1",))
    resolver.held.clear()
    async with watching(resolver, "web") as watched:
        waiting = asyncio.create_task(watched.name.order())
        await asyncio.sleep(0.01)
        watched.names.watch([])
        with pytest.raises(socket.gaierror, match="looked up no more"):
            await waiting


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    async with watching(Table(web=("10.0.0.1",)), "web", "app"):
        assert len(asyncio.all_tasks()) == len(before) + 2
    assert asyncio.all_tasks() == before
