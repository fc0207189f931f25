"""A failed attempt finds another backend where that cannot do harm, and only there."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.backends import CLOSE, RESET, Backend, Request, Steps, refusing
from tests.support.balancing import Running, balancing
from tests.support.wire import Cut, Message, request, response

DIES: list[Steps] = [(RESET,), (CLOSE,)]
GET, POST = request("/get"), request("/post", b"once only")


async def ask_until(balancer: Running, data: bytes, backend: Backend, most: int = 6) -> list[int]:
    """Statuses of requests sent until a backend has seen one of them."""
    statuses = []
    for _ in range(most):
        statuses.append((await balancer.ask(data)).status)
        if backend.requests:
            return statuses
    raise AssertionError(f"{backend.name} was never asked: {statuses}")


@pytest.mark.parametrize(
    "data",
    [
        GET,
        POST,
        request("/", b"x" * 60_000),
        request("/", b"", "Expect: 100-continue", "Content-Length: 3", method="POST") + b"abc",
    ],
    ids=["GET", "POST", "60 KB", "Expect"],
)
async def test_a_backend_that_refuses_loses_nothing(data: bytes) -> None:
    good = Backend(name="good")
    with refusing() as gone:
        async with balancing(gone, good, ejection=False) as balancer:
            for _ in range(6):
                assert (await balancer.ask(data)).body == b"good"
            assert len(good.requests) == 6
            assert {message.body for message in good.messages} == {data.partition(b"\r\n\r\n")[2]}
            retried = [exchange for exchange in balancer.completed if exchange.attempts == 2]
            assert len(retried) >= 2
            assert all("retried" in exchange.flags for exchange in retried)


async def test_a_large_body_is_read_no_further_than_needed_until_a_backend_is_found() -> None:
    """The body waits in the client's hands, so that a refusal loses none of it, however long it is."""
    good = Backend(name="good")
    body = bytes(range(256)) * 20_000
    with refusing() as gone:
        async with balancing(gone, good, ejection=False) as balancer:
            for _ in range(4):
                assert (await balancer.ask(request("/", body))).body == b"good"
            assert all(message.body == body for message in good.messages)


@pytest.mark.parametrize("data", [GET, POST], ids=["GET", "POST"])
async def test_everybody_refusing_is_a_502_at_once(data: bytes) -> None:
    with refusing() as one, refusing() as two:
        async with balancing(one, two) as balancer:
            begin = time.monotonic()
            answer = await balancer.ask(data)
            assert time.monotonic() - begin < 0.5
            assert answer.status == 502
            assert balancer.last.attempts == 2
            assert "connect_failed" in balancer.last.flags


async def test_the_only_backend_refusing_is_a_502_at_once_and_the_connection_goes_on() -> None:
    with refusing() as gone:
        async with balancing(gone, ejection=False) as balancer, await balancer.client() as client:
            begin = time.monotonic()
            for _ in range(3):
                assert (await client.ask(GET)).status == 502
            assert time.monotonic() - begin < 0.5


@pytest.mark.parametrize("death", DIES, ids=["reset", "close"])
@pytest.mark.parametrize(
    ("data", "retried"),
    [
        (GET, True),
        (request(method="HEAD"), True),
        (request("*", method="OPTIONS"), True),
        (request("/put", b"again", method="PUT"), True),
        (request(method="DELETE"), True),
        (request("/", b"again", "Idempotency-Key: 17"), True),
        (request("/", b"x" * 70_000, method="PUT"), False),
        (POST, False),
        (request("/", b"once", method="PATCH"), False),
        (request(method="PROPFIND"), False),
    ],
    ids=lambda value: value.split(b" HTTP")[0].decode() if isinstance(value, bytes) else "",
)
async def test_a_connection_that_ends_before_an_answer(death: Steps, data: bytes, retried: bool) -> None:
    bad, good = Backend(death, name="bad"), Backend(name="good")
    async with balancing(bad, good, ejection=False) as balancer:
        statuses = await ask_until(balancer, data, bad)
        assert statuses[-1] == (200 if retried else 502)
        assert len(bad.requests) == 1
        assert balancer.last.attempts == (2 if retried else 1)
        assert "reset" in balancer.last.flags or retried
        sent_to_good = [message.body for message in good.messages]
        assert len(sent_to_good) == len(statuses) - (0 if retried else 1)
        assert set(sent_to_good) <= {data.partition(b"\r\n\r\n")[2]}


async def test_a_retry_never_goes_to_the_backend_that_failed() -> None:
    bad, others = Backend((RESET,), name="bad"), [Backend(name=f"good{index}") for index in range(3)]
    async with balancing(bad, *others, ejection=False) as balancer:
        for _ in range(12):
            assert (await balancer.ask(GET)).status == 200
        assert len(bad.requests) == 3


async def test_nothing_is_retried_once_an_answer_has_begun() -> None:
    bad = Backend((b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 0.05, CLOSE), name="bad")
    good = Backend(name="good")
    async with balancing(bad, good, ejection=False) as balancer:
        cuts: list[Message | None] = []
        for _ in range(4):
            try:
                assert (await balancer.ask(GET)).body == b"good"
            except Cut as cut:
                cuts.append(cut.message)
        assert [message and message.body for message in cuts] == [b"abc", b"abc"]
        assert (len(bad.requests), len(good.requests)) == (2, 2)
        assert all(exchange.attempts == 1 for exchange in balancer.completed)


@pytest.mark.parametrize(
    ("settings", "attempts", "status"),
    [
        ({"attempts": 0}, 1, 502),
        ({"attempts": 1}, 2, 502),
        ({"attempts": 2}, 3, 200),
        ({"attempts": 3, "on": ["connect"]}, 1, 502),
    ],
)
async def test_attempts_are_counted(settings: dict[str, object], attempts: int, status: int) -> None:
    seen: list[int] = []

    def dies_twice(_: Request) -> Steps:
        seen.append(1)
        return (RESET,) if len(seen) < 3 else (response(b"third"),)

    backends = [Backend(dies_twice, name=f"b{index}") for index in range(3)]
    async with balancing(*backends, ejection=False, retry=settings) as balancer:
        assert (await balancer.ask(GET)).status == status
        assert balancer.last.attempts == len(seen) == attempts


async def test_attempts_0_leaves_a_refusal_alone_too() -> None:
    with refusing() as gone:
        good = Backend(name="good")
        async with balancing(gone, good, ejection=False, retry={"attempts": 0}) as balancer:
            statuses = [(await balancer.ask(GET)).status for _ in range(4)]
            assert sorted(statuses) == [200, 200, 502, 502]


async def test_a_get_into_a_connection_the_backend_closed_while_idle_is_never_lost() -> None:
    """Each answer is followed by a silent close, at moments that fall before, at and after the next request."""
    gaps = [0, 0, 0.0005, 0.001, 0.002, 0.003, 0.005]
    count = 0

    def answer_and_close(_: Request) -> Steps:
        nonlocal count
        count += 1
        return (response(b"fine"), gaps[count % len(gaps)], CLOSE)

    backend = Backend(answer_and_close)
    async with balancing(backend, ejection={"consecutive_failures": 2}) as balancer, await balancer.client() as client:
        for index in range(150):
            assert (await client.ask(GET)).body == b"fine", index
            await asyncio.sleep(index % 5 / 1000)
        assert "backend_ejected" not in balancer.events
        assert len(backend.connections) > 50


async def test_a_post_into_a_stale_connection_is_sent_at_most_once() -> None:
    answered = asyncio.Event()

    def once_then_die(seen: Request) -> Steps:
        if seen.message.target == b"/warm":
            return (response(b"warm"),)
        answered.set()
        return (RESET,)

    backend = Backend(once_then_die)
    async with balancing(backend, ejection=False) as balancer, await balancer.client() as client:
        assert (await client.ask(request("/warm"))).status == 200
        assert (await client.ask(POST)).status == 502
        assert [message.target for message in backend.messages] == [b"/warm", b"/post"]
        assert backend.received.count(b"once only") == 1


async def test_stale_connections_to_the_only_backend_cost_a_get_no_attempt() -> None:
    """Even with retries switched off: the backend closed it while idle, and nothing was done with the request."""

    def dies_when_reused(seen: Request) -> Steps:
        reused = sum(other.connection is seen.connection for other in backend.requests) > 1
        return (RESET,) if reused else (response(b"fresh"),)

    backend = Backend(dies_when_reused)
    async with balancing(backend, ejection=False, retry={"attempts": 0}) as balancer, await balancer.client() as client:
        for _ in range(10):
            assert (await client.ask(GET)).body == b"fresh"


async def test_a_body_is_replayed_up_to_64_kib_and_no_further() -> None:
    seen: list[Request] = []

    async def first_dies(it: Request) -> None:
        seen.append(it)
        body = await it.body()
        if len(seen) % 2:
            it.connection.close()
        else:
            it.write(response(str(len(body)).encode()))

    for size, status in ((64_000, 200), (66_000, 502)):
        seen.clear()
        one, two = Backend(first_dies, name="one"), Backend(first_dies, name="two")
        async with balancing(one, two, ejection=False) as balancer, await balancer.client() as client:
            body = b"y" * size
            head = request("/", b"", f"Content-Length: {size}", method="PUT")
            await client.send(head + body[:100], 0.02, body[100:])
            answer = await client.answer()
            assert answer.status == status
            assert len(seen) == (2 if status == 200 else 1)
            if status == 200:
                assert answer.body == b"64000"
                assert [each.message.body for each in seen] == [body, body]


async def test_the_retry_budget_bounds_what_a_failing_pool_is_sent() -> None:
    """Of 40 requests under way at once, at most 20 % may be second attempts, not all of them."""

    async def slow_death(it: Request) -> None:
        await asyncio.sleep(0.15)
        it.connection.close()

    backends = [Backend(slow_death, name=f"b{index}") for index in range(2)]
    async with balancing(*backends, ejection=False) as balancer:
        statuses = [answer.status for answer in await asyncio.gather(*[balancer.ask(GET) for _ in range(40)])]
        assert statuses == [502] * 40
        retries = sum(len(backend.requests) for backend in backends) - 40
        assert 3 <= retries <= 16, retries


async def test_a_budget_of_nothing_still_allows_three() -> None:
    async def slow_death(it: Request) -> None:
        await asyncio.sleep(0.1)
        it.connection.close()

    backends = [Backend(slow_death, name=f"b{index}") for index in range(2)]
    async with balancing(*backends, ejection=False, retry={"budget": "0%"}) as balancer:
        await asyncio.gather(*[balancer.ask(GET) for _ in range(20)])
        assert sum(len(backend.requests) for backend in backends) == 23
