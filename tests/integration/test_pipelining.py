"""Requests sent ahead are answered in their order, one at a time, and held back when there are too many of them."""

from __future__ import annotations

import asyncio

from lb_core.engine.flow import HIGH_WATER
from tests.support.backends import Backend, Request
from tests.support.balancing import Running, balancing
from tests.support.wire import chunked, request, response

NO_LIMIT = {"limits": {"requests": 0}}


def pending(balancer: Running) -> int:
    """Bytes of requests that wait in the balancer."""
    return sum(len(connection.buffer) for connection in balancer.connections)


async def test_answers_come_in_order_whoever_is_slow() -> None:
    busy = most = 0

    async def uneven(seen: Request) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await seen.body()
        await asyncio.sleep(0.01 if seen.message.target.endswith(b"0") else 0)
        seen.write(response(seen.message.target))
        busy -= 1

    one, two = Backend(uneven, name="one"), Backend(uneven, name="two")
    async with balancing(one, two) as balancer, await balancer.client() as client:
        await client.send(b"".join(request(f"/{index}") for index in range(60)))
        for index in range(60):
            assert (await client.answer()).body == b"/%d" % index
        assert most == 1
        assert len(one.requests) + len(two.requests) == 60


async def test_every_kind_of_request_behind_every_other() -> None:
    async def echo(seen: Request) -> None:
        seen.write(response(b"%b %b" % (seen.message.method, await seen.body())))

    kinds = [
        (b"GET", request("/"), b"GET "),
        (b"POST", request("/", b"length"), b"POST length"),
        (
            b"PUT",
            request("/", b"", "Transfer-Encoding: chunked", method="PUT") + chunked(b"ch", b"unked"),
            b"PUT chunked",
        ),
        (b"HEAD", request("/", method="HEAD"), b""),
        (b"POST", request("/", b"", "Expect: 100-continue", "Content-Length: 3", method="POST") + b"abc", b"POST abc"),
    ]
    async with balancing(Backend(echo)) as balancer, await balancer.client() as client:
        pairs = [(first, second) for first in kinds for second in kinds]
        data = b"".join(first[1] + second[1] for first, second in pairs)
        for pieces in ([data], [data[start : start + 97] for start in range(0, len(data), 97)]):
            sending = asyncio.create_task(client.send(*pieces))
            for pair in pairs:
                for method, _, body in pair:
                    assert (await client.answer(method)).body == body
            await sending


async def test_thousands_of_requests_ahead_are_held_in_the_client_and_all_answered() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def first_waits(seen: Request) -> None:
        if seen.message.target == b"/first":
            started.set()
            await go_on.wait()
        seen.write(response(seen.message.target))

    count = 6000
    padding = "X-Padding: " + "x" * 200
    async with balancing(Backend(first_waits), listener=NO_LIMIT) as balancer, await balancer.client() as client:
        data = request("/first") + b"".join(request(f"/{index}", b"", padding) for index in range(count))
        sending = asyncio.create_task(client.send(data))
        await started.wait()
        await asyncio.sleep(0.1)
        assert HIGH_WATER < pending(balancer) < 8 * HIGH_WATER
        go_on.set()
        assert (await client.answer()).body == b"/first"
        for index in range(count):
            assert (await client.answer()).body == b"/%d" % index
        await sending


async def test_thousands_of_requests_that_we_answer_ourselves_do_not_recurse() -> None:
    async with balancing(Backend(), listener=NO_LIMIT) as balancer, await balancer.client() as client:
        balancer.balancer.routes["*"].pool.replace([])
        sending = asyncio.create_task(client.send(request() * 3000))
        for _ in range(3000):
            assert (await client.answer()).status == 503
        await sending


async def test_a_client_that_reads_no_answers_may_not_ask_for_more() -> None:
    backend = Backend(response(b"x" * 10_000))
    async with balancing(backend, listener=NO_LIMIT) as balancer, await balancer.client(receive_buffer=4096) as client:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        sending = asyncio.create_task(client.send(*[request()] * 5000))
        seen = -1
        while seen != len(backend.requests):
            seen = len(backend.requests)
            await asyncio.sleep(0.15)
        assert seen < 1500, "answers pile up: 50 MB were asked for and none read"
        sending.cancel()
