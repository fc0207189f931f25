"""Requests that find every backend at its `max_connections` wait: in order, so many, and so long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.backends import RESET, Backend, Request
from tests.support.balancing import Running, balancing, until
from tests.support.wire import request, response


class Gate:
    """A script that answers one request at a time, when told."""

    def __init__(self) -> None:
        self.opened = asyncio.Semaphore(0)

    async def __call__(self, seen: Request) -> None:
        await self.opened.acquire()
        seen.write(response(seen.message.target))

    def let(self, count: int) -> None:
        """Answer so many."""
        for _ in range(count):
            self.opened.release()


@asynccontextmanager
async def one_at_a_time(gate: Gate, **route: Any) -> AsyncIterator[tuple[Running, Backend]]:
    """A balancer over one backend that takes one request at a time."""
    async with Backend(gate) as backend:
        config = {
            "listeners": {"web": "127.0.0.1:0"},
            "access_log": False,
            "routes": {"*": {"backends": {"one": {"url": backend.address, "max_connections": 1}}, **route}},
        }
        async with balancing(config=config) as balancer:
            yield balancer, backend


def queued(balancer: Running) -> int:
    return balancer.balancer.routes["*"].queued


async def test_first_come_first_served() -> None:
    gate = Gate()
    done: list[int] = []
    async with one_at_a_time(gate) as (balancer, backend):

        async def ask(number: int) -> None:
            assert (await balancer.ask(request(target=f"/{number}"))).status == 200
            done.append(number)

        asking = []
        for number in range(20):
            asking.append(asyncio.create_task(ask(number)))
            waiting = number  # the first is being served
            await until(lambda waiting=waiting: queued(balancer) == waiting and backend.requests)
        for count in range(1, 21):
            gate.let(1)
            await until(lambda count=count: len(done) == count)
        assert done == list(range(20))
        assert max(b.in_flight for b in balancer.balancer.engine.backends) == 0
        await asyncio.gather(*asking)
        await balancer.settled()


async def test_more_than_the_queue_holds_are_refused_at_once() -> None:
    gate = Gate()
    async with one_at_a_time(gate, queue=3) as (balancer, _):
        asking = [asyncio.create_task(balancer.ask(request())) for _ in range(4)]
        await until(lambda: queued(balancer) == 3)
        refused = await balancer.ask(request("/", b"", "Accept: application/json"))
        assert (refused.status, refused["retry-after"]) == (503, b"5")
        assert b"queue_full" in refused.body
        assert balancer.last.flags == ("queue_full",)
        assert balancer.last.duration < 0.2
        gate.let(4)
        assert [(await each).status for each in asking] == [200] * 4


async def test_without_a_queue_the_next_is_refused_at_once() -> None:
    gate = Gate()
    async with one_at_a_time(gate, queue=0) as (balancer, backend):
        first = asyncio.create_task(balancer.ask(request()))
        await until(lambda: backend.requests)
        assert (await balancer.ask(request())).status == 503
        gate.let(1)
        assert (await first).status == 200


async def test_nobody_waits_longer_than_the_deadline() -> None:
    gate = Gate()
    async with one_at_a_time(gate, timeouts={"queue": "200ms"}) as (balancer, backend):
        first = asyncio.create_task(balancer.ask(request()))
        await until(lambda: backend.requests)
        answer = await balancer.ask(request())
        assert (answer.status, answer["retry-after"]) == (503, b"5")
        assert 0.19 <= balancer.last.duration < 1.5
        assert queued(balancer) == 0
        gate.let(1)
        assert (await first).status == 200


async def test_a_client_that_leaves_gives_up_its_place() -> None:
    gate = Gate()
    async with one_at_a_time(gate) as (balancer, backend):
        first = asyncio.create_task(balancer.ask(request()))
        await until(lambda: backend.requests)
        async with await balancer.client() as leaving:
            await leaving.send(request(target="/left"))
            await until(lambda: queued(balancer) == 1)
            last = asyncio.create_task(balancer.ask(request(target="/stayed")))
            await until(lambda: queued(balancer) == 2)
            leaving.reset()
            await until(lambda: queued(balancer) == 1)
        gate.let(2)
        assert (await first).status == (await last).status == 200
        assert len(backend.requests) == 2, "what was asked for by whoever left is not sent"
        await balancer.settled()


async def test_a_body_waits_with_its_request() -> None:
    gate = Gate()
    async with one_at_a_time(gate) as (balancer, backend):
        first = asyncio.create_task(balancer.ask(request()))
        await until(lambda: backend.requests)
        body = b"x" * 300_000
        second = asyncio.create_task(balancer.ask(request("/", body)))
        await until(lambda: queued(balancer) == 1)
        gate.let(1)
        assert (await first).status == 200
        await until(lambda: len(backend.requests) == 2)
        assert await backend.requests[1].body() == body
        gate.let(1)
        assert (await second).status == 200


async def test_a_backend_that_fails_makes_room_too() -> None:
    gate = Gate()
    async with one_at_a_time(gate, retry={"attempts": 0}, ejection=False) as (balancer, backend):
        first = asyncio.create_task(balancer.ask(request()))
        await until(lambda: backend.requests)
        second = asyncio.create_task(balancer.ask(request()))
        await until(lambda: queued(balancer) == 1)
        backend.script = (RESET,)
        backend.connections[0].close()
        assert (await first).status == 502
        assert (await second).status == 502
        await balancer.settled()


async def test_under_load_everybody_is_served_and_no_limit_is_passed() -> None:
    most = 0

    async def serve(seen: Request) -> None:
        nonlocal most
        most = max(most, sum(backend.in_flight for backend in running.balancer.engine.backends))
        await asyncio.sleep(0.001)
        seen.write(response(b"done"))

    one, two = Backend(serve), Backend(serve)
    async with one, two:
        backends = {name: {"url": b.address, "max_connections": 4} for name, b in (("one", one), ("two", two))}
        config = {
            "listeners": {"web": "127.0.0.1:0"},
            "access_log": False,
            "routes": {"*": {"backends": backends}},
        }
        async with balancing(config=config) as running:

            async def client() -> None:
                async with await running.client() as connection:
                    for _ in range(20):
                        assert (await connection.ask(request())).status == 200

            await asyncio.gather(*(client() for _ in range(60)))
            assert most == 8
            assert len(one.requests) + len(two.requests) == 1200
            await running.settled()
