"""Pools that two workers use: what is ejected or drained is so for both, and limits and queues hold for their sum."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.control.client import ask as ask_control
from tests.integration.test_features_on_workers import one_each, served_by, told
from tests.integration.worker_process import Crew, workers
from tests.support.backends import Backend, Request
from tests.support.balancing import until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import Cut, request, response

if TYPE_CHECKING:
    from tests.support.figures import Measured

HOST = "example.com"
BAD = response(b"bad", status=503)
FINE = response(b"fine")
AT_ONCE = 0.1
"""Seconds within which every worker has heard."""


class Service:
    """A backend's script that takes its time, or waits until it is let; it knows how many requests it has at once."""

    def __init__(self, seconds: float = 0.0, *, held: bool = False) -> None:
        self.seconds = seconds
        self.now = self.most = 0
        self.seen: dict[str, float] = {}
        self.places = asyncio.Semaphore(0 if held else 1 << 30)

    async def __call__(self, seen: Request) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.seen[seen.message.target.decode()] = time.monotonic()
        try:
            await asyncio.sleep(self.seconds)
            await self.places.acquire()
        finally:
            self.now -= 1
        seen.write(FINE)

    async def has(self, *targets: str) -> None:
        """Wait until these requests have come."""
        await until(lambda: all(target in self.seen for target in targets))


@asynccontextmanager
async def limited(path: Path, service: Service, most: int, **route: Any) -> AsyncIterator[tuple[Crew, list[Client]]]:
    """Two workers before one backend with `max_connections`, and a connection to each."""
    async with Backend(service, name="one") as backend:
        backends = {"one": {"url": backend.address, "max_connections": most}}
        options = {"routes": {HOST: {"backends": backends, "queue": 500, **route}}}
        async with workers(path, backend, **options) as crew, one_each(crew) as clients:
            yield crew, list(clients.values())


async def order(crew: Crew, *words: str) -> str:
    """What a command of the control process answers; without starting a Python for it."""
    asked = {"ask": "command", "name": "backends", "arguments": list(words)}
    said: str = await asyncio.to_thread(ask_control, crew.config["control"], asked)
    return said


async def who_answers(client: Client, seconds: float) -> list[tuple[float, bytes]]:
    """Who answers the requests of one connection, and when they were sent."""
    found, end = [], time.monotonic() + seconds
    while (begin := time.monotonic()) < end:
        found.append((begin, (await client.ask(request())).body))
    return found


async def answers_from(client: Client, body: bytes) -> None:
    """Wait until one connection gets answers from that backend, too."""
    while (await client.ask(request())).body != body:
        await asyncio.sleep(0.005)


# what one process knows, all know


@pytest.mark.timed
async def test_an_ejection_reaches_the_other_worker_at_once(tmp_path: Path, measured: Measured) -> None:
    async with Backend(BAD, name="bad") as bad, Backend(FINE, name="fine") as fine:
        options = {
            "routes": {
                HOST: {
                    "backends": {each.name: each.address for each in (bad, fine)},
                    "strategy": "round_robin",
                    "ejection": {"consecutive_failures": 3, "duration": "1h"},
                }
            }
        }
        async with workers(tmp_path, bad, fine, **options) as crew, one_each(crew) as clients:
            one, other = clients.values()
            for _ in range(6):
                await one.ask(request())
            ejected = time.monotonic()
            answers = await who_answers(other, 0.3)
            late = [when - ejected for when, body in answers if body == b"bad"]
            assert len(answers) > 20
            assert max(late, default=0.0) < AT_ONCE
            measured("an ejection in one worker is known in the other", f"{max(late, default=0.0) * 1000:.1f} ms")
            assert (await one.ask(request())).body == b"fine"
            assert "bad" in await order(crew)
            assert "3 failures in a row" in await order(crew)
            assert len(told(crew, "ejected")) == 1, crew.process.errors


async def test_failures_in_a_row_are_those_of_all_workers(tmp_path: Path) -> None:
    async with Backend(BAD, name="bad") as bad, Backend(FINE, name="fine") as fine:
        options = {
            "routes": {
                HOST: {
                    "backends": {each.name: each.address for each in (bad, fine)},
                    "strategy": "round_robin",
                    "ejection": {"consecutive_failures": 4, "duration": "1h"},
                }
            }
        }
        async with workers(tmp_path, bad, fine, **options) as crew, one_each(crew) as clients:
            for number in range(40):
                await list(clients.values())[number % 2].ask(request())
                await asyncio.sleep(0.01)
            assert len(bad.requests) == 4


@pytest.mark.timed
async def test_a_drain_reaches_every_worker_and_stays(tmp_path: Path, measured: Measured) -> None:
    async with Backend(response(b"one"), name="one") as first, Backend(response(b"two"), name="two") as second:
        options = {"routes": {HOST: {"backends": {each.name: each.address for each in (first, second)}}}}
        async with workers(tmp_path, first, second, **options) as crew:
            async with one_each(crew) as clients:
                assert "is draining" in await order(crew, "drain", HOST, "one")
                drained = time.monotonic()
                answers = await asyncio.gather(*(who_answers(client, 0.3) for client in clients.values()))
                late = [when - drained for each in answers for when, body in each if body == b"one"]
                assert all(len(each) > 20 for each in answers)
                assert max(late, default=0.0) < AT_ONCE
                measured("a drain is known in every worker", f"{max(late, default=0.0) * 1000:.1f} ms")
                killed = next(iter(clients))
            started = len(crew.events("worker started"))
            crew.kill(killed)
            await crew.until(lambda: len(crew.events("worker started")) > started)
            await crew.reload(shutdown_delay="0s")
            table = await crew.command("backends")
            assert table.splitlines()[2].split()[:3] == ["one", first.address, "draining"]
            async with one_each(crew) as clients:
                bodies = [(await client.ask(request())).body for client in clients.values() for _ in range(10)]
                assert set(bodies) == {b"two"}
                assert "active again" in await order(crew, "resume", HOST, "one")
                for client in clients.values():
                    await answers_from(client, b"one")


async def test_who_drains_keeps_its_clients_in_every_worker_until_the_time_is_over(tmp_path: Path) -> None:
    async with Backend(response(b"one"), name="one") as first, Backend(response(b"two"), name="two") as second:
        backends = {each.name: each.address for each in (first, second)}
        options = {"routes": {HOST: {"backends": backends, "sticky_sessions": {"secret": "s" * 32}}}}
        async with workers(tmp_path, first, second, **options) as crew, one_each(crew) as clients:
            one, other = clients.values()
            answer = await one.ask(request())
            while answer.body != b"one":
                answer = await one.ask(request())
            own = request("/", b"", f"Cookie: {answer['set-cookie'].decode().partition(';')[0]}")
            await order(crew, "drain", HOST, "one", "1s")
            drained = time.monotonic()
            await asyncio.sleep(0.1)
            assert {(await client.ask(own)).body for client in (one, other)} == {b"one"}
            assert {(await client.ask(request())).body for client in (one, other) for _ in range(6)} == {b"two"}
            await asyncio.sleep(drained + 1.2 - time.monotonic())
            assert {(await client.ask(own)).body for client in (one, other)} == {b"two"}


# limits in the sum


async def test_a_backend_never_has_more_requests_than_it_may(tmp_path: Path, measured: Measured) -> None:
    service = Service(0.001)
    async with limited(tmp_path, service, 4) as (crew, _):
        for connections, count in ((40, 1000), (5, 1000)):
            load = Load(crew.port, connections=connections, count=count)
            begin = time.monotonic()
            await load.run()
            assert load.answers == {200: count}
            assert service.most == 4
            per_second = count / (time.monotonic() - begin)
            measured(f"{connections} clients, 2 workers, max_connections 4", f"{per_second:.0f} requests/s, at most 4")
        await asyncio.sleep(0.3)  # what workers count is put down ten times a second
        counted = (await order(crew)).splitlines()[-1]
        assert "0 of 4" in counted
        assert " 2000 " in counted


@pytest.mark.timed
async def test_who_waits_in_one_worker_is_served_when_the_other_has_room(tmp_path: Path, measured: Measured) -> None:
    service = Service(held=True)
    async with limited(tmp_path, service, 1) as (_, (one, other)):
        taken = []
        for number in range(10):
            await one.send(request(f"/held/{number}"))
            await service.has(f"/held/{number}")
            await other.send(request(f"/waits/{number}"))
            await asyncio.sleep(0.03)
            assert service.now == 1
            service.places.release()
            await one.answer()
            ended = time.monotonic()
            await service.has(f"/waits/{number}")
            taken.append(service.seen[f"/waits/{number}"] - ended)
            service.places.release()
            await other.answer()
        assert statistics.median(taken) < 0.01
        assert max(taken) < AT_ONCE
        measured("a place that ended in the other worker is taken", f"after {statistics.median(taken) * 1000:.1f} ms")


async def test_the_queues_of_two_workers_are_one(tmp_path: Path) -> None:
    service = Service(held=True)
    async with limited(tmp_path, service, 1) as (crew, clients), AsyncExitStack() as stack:
        await clients[0].send(request("/first"))
        await service.has("/first")
        waiting = []
        for number in range(12):
            client = await stack.enter_async_context(await Client.connect(crew.port))
            await client.send(request(f"/{number}"))
            waiting.append(client)
            await asyncio.sleep(0.02)
        for number in range(12):
            service.places.release()
            await service.has(f"/{number}")
            assert list(service.seen)[1:] == [f"/{each}" for each in range(number + 1)]
        service.places.release()
        assert [(await client.answer()).status for client in (clients[0], *waiting)] == [200] * 13


@pytest.mark.timed
async def test_a_killed_worker_frees_what_it_had(tmp_path: Path, measured: Measured) -> None:
    service = Service(held=True)
    async with Backend(service, name="one") as backend:
        backends = {"one": {"url": backend.address, "max_connections": 2}}
        listener = {"limits": {"requests": 0, "connections": 300}}
        options = {"routes": {HOST: {"backends": backends, "retry": {"attempts": 0}}}, "listener": listener}
        async with workers(tmp_path, backend, **options) as crew, one_each(crew) as clients:
            (pid, one), (_, other) = clients.items()
            async with AsyncExitStack() as stack:
                await one.send(request("/a"))
                second = await stack.enter_async_context(await connected_to(crew, pid))
                await second.send(request("/b"))
                await service.has("/a", "/b")
                await other.send(request("/c"))
                await asyncio.sleep(0.05)
                assert "/c" not in service.seen
                crew.kill(pid)
                begin = time.monotonic()
                await service.has("/c")
                seconds = service.seen["/c"] - begin
                assert seconds < 0.5
                measured("what a killed worker had in flight is free", f"after {seconds * 1000:.0f} ms")
                service.places.release()
                service.places.release()
                service.places.release()
                assert (await other.answer()).status == 200


async def connected_to(crew: Crew, pid: int) -> Client:
    """Another connection to that worker."""
    while True:
        client = await Client.connect(crew.port)
        assert (await client.ask(request(host="nobody.test"))).status == 404
        if served_by(client, [pid]):
            return client
        client.writer.close()


@pytest.mark.parametrize("limit", ["connections", "per_client"])
async def test_connections_in_all_workers(tmp_path: Path, limit: str) -> None:
    async with Backend(FINE) as backend:
        listener = {"limits": {"requests": 0, limit: 6}}
        async with workers(tmp_path, backend, listener=listener) as crew:
            for _ in range(3):
                async with AsyncExitStack() as stack:
                    clients = [await stack.enter_async_context(await Client.connect(crew.port)) for _ in range(20)]
                    statuses = await asyncio.gather(*(status(client) for client in clients))
                    assert statuses.count(200) == 6
                    assert statuses.count(503) == 14
                await asyncio.sleep(0.05)
            said = "".join(crew.events("connections refused"))
            assert f"limits.{limit}" in said


async def status(client: Client) -> int:
    """The status of an answer, 503 also where the connection was reset with it."""
    try:
        return (await client.ask(request())).status
    except (Cut, ConnectionError):
        return 503
