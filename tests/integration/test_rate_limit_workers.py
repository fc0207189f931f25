"""Limits where two workers serve: exact in their sum, whoever gets the traffic, and through deaths and reloads."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.integration.test_features_on_workers import head, one_each, replaced
from tests.integration.worker_process import Crew, workers
from tests.support.backends import Backend, Request
from tests.support.client import Client
from tests.support.wire import response

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIMIT = 300
STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
FINE = response(b"fine")
ALGORITHMS = ("sliding_window", "fixed_window", "token_bucket")


def long(seconds: int = 40_000) -> str:
    """A window that does not end while a test runs, and in which no token comes."""
    return f"{next(each for each in range(seconds, 2 * seconds) if each - time.time() % each > 600)}s"


def routes(backend: Backend, **limits: Any) -> dict[str, Any]:
    """A route for each limit."""
    pool = {"backends": {backend.name: backend.address}}
    return {f"{name}.test": {**pool, "rate_limit": limit} for name, limit in limits.items()}


async def statuses(client: Client, host: str, count: int) -> list[int]:
    """What so many requests on one connection are answered, one after the other as the worker takes them."""
    client.writer.write(head("/", host) * count + head("/", "nobody.test"))
    data = b""
    while len(STATUS.findall(data)) < count + 1 or not data.endswith(b"\n"):
        more = await asyncio.wait_for(client.reader.read(1 << 20), 20)
        assert more, f"the connection was closed after {len(STATUS.findall(data))} answers"
        data += more
    return [int(each) for each in STATUS.findall(data)[:count]]


async def passing(clients: Sequence[Client], host: str, *counts: int) -> int:
    """How many pass of so many requests on each connection, all sent at once."""
    each = await asyncio.gather(*(statuses(*one) for one in zip(clients, [host] * len(counts), counts, strict=True)))
    found = Counter(status for one in each for status in one)
    assert found.keys() <= {200, 429}, found
    return found[200]


async def of_client(address: str, port: int, counts: Sequence[int]) -> int:
    """How many pass of a client with several connections, wherever they lead."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in counts:
            found = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            clients.append(await stack.enter_async_context(Client(*found)))
        return await passing(clients, "client.test", *counts)


async def test_limits_hold_exactly_wherever_the_requests_come(tmp_path: Path) -> None:
    by_route = {each: {"requests": LIMIT, "window": long(), "algorithm": each, "key": "route"} for each in ALGORITHMS}
    evenly = {f"even_{name}": limit for name, limit in by_route.items()}
    client = {"requests": 20, "window": long()}
    async with Backend(FINE, name="a") as backend:
        options = {"routes": routes(backend, **by_route, **evenly, client=client)}
        async with workers(tmp_path, backend, **options) as crew, one_each(crew) as each:
            one, other = each.values()
            for name in ALGORITHMS:
                found = await statuses(one, f"{name}.test", LIMIT + 20)
                assert found == [200] * LIMIT + [429] * 20, "one worker gets everything"
                assert await passing([other], f"{name}.test", 20) == 0
                mixed = await passing([one, other], f"even_{name}.test", 2 * LIMIT, LIMIT // 2)
                assert LIMIT - 1 <= mixed <= LIMIT, "two that want the last at once may both be refused"
                assert mixed + await passing([other], f"even_{name}.test", 10) == LIMIT
            addresses = [f"127.0.1.{number}" for number in range(1, 21)]
            passed = await asyncio.gather(*(of_client(each, crew.port, (9, 9, 9)) for each in addresses))
            assert passed == [20] * len(addresses)
            said = await crew.command("explain", "GET", "http://client.test/", "--live")
            assert f"sliding_window: {len(addresses)} keys, {7 * len(addresses)} refused" in said
            assert len(crew.events("rate limited")) == len(by_route) + len(evenly) + 1, "each told once"


class Held:
    """A backend's script that answers when it is told to."""

    def __init__(self) -> None:
        self.under_way = 0
        self.go = asyncio.Event()

    async def __call__(self, seen: Request) -> None:
        self.under_way += 1
        await self.go.wait()
        self.under_way -= 1
        seen.write(FINE)


async def under_way(crew: Crew, held: Held, *clients: Client) -> None:
    """Send a request on each, and wait until all are at the backend."""
    before = held.under_way
    for client in clients:
        client.writer.write(head("/", "held.test"))
    await crew.until(lambda: held.under_way == before + len(clients))


async def refused(client: Client) -> bool:
    """Whether one more is too much."""
    return (await client.ask(head("/", "held.test"))).status == 429


async def test_counts_outlive_workers_and_reloads_and_what_was_under_way_does_not(tmp_path: Path) -> None:
    held, fixed = Held(), {"requests": LIMIT, "window": long(), "algorithm": "fixed_window", "key": "route"}
    at_once = {"requests": 4, "algorithm": "concurrency", "key": "route"}
    async with Backend(FINE, name="a") as backend, Backend(held, name="b") as slow:
        served = routes(backend, fixed=fixed) | routes(slow, held=at_once)
        async with workers(tmp_path, backend, routes=served, drain="1s") as crew:
            async with one_each(crew) as first, one_each(crew) as second, one_each(crew) as third:
                assert await passing([*first.values()], "fixed.test", 100, 100) == 200
                await under_way(crew, held, *first.values(), *second.values())
                assert [await refused(client) for client in third.values()] == [True, True]
                await replaced(crew, next(iter(first)))
                async with one_each(crew) as fourth, one_each(crew) as fifth:
                    await under_way(crew, held, *fourth.values())
                    assert [await refused(client) for client in fifth.values()] == [True, True]
                    held.go.set()
                    await crew.until(lambda: held.under_way == 0)
                    assert [await refused(client) for client in fifth.values()] == [False, False]
            async with one_each(crew) as each:
                assert await passing([*each.values()], "fixed.test", 40, 40) == 80, "200 before it was killed"
            before = {*crew.pids}
            await crew.command("workers", "restart")
            await crew.until(lambda: len(crew.pids) == 2 and not before & {*crew.pids})
            async with one_each(crew) as each:
                one, other = each.values()
                assert await passing([one], "fixed.test", 5) == 5
                assert await passing([other], "fixed.test", 30) == 15, "280 before the restart"
                await crew.reload(routes=served | routes(backend, fixed={**fixed, "requests": LIMIT + 50}))
                assert await passing([one], "fixed.test", 20) == 20
                assert await passing([other], "fixed.test", 60) == 30, "300 before the reload"
