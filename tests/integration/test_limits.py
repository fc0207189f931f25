"""What a listener and a route accept, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.backends import Backend
from tests.support.balancing import balancing, until
from tests.support.wire import Message, chunked, request

if TYPE_CHECKING:
    from tests.support.client import Client


@pytest.mark.parametrize("body", [b"", b"a body"], ids=["GET", "POST"])
async def test_a_connection_serves_so_many_requests(body: bytes) -> None:
    backend = Backend()
    async with balancing(backend, listener={"limits": {"requests": 3}}) as balancer, await balancer.client() as client:
        await client.send(request("/", body) * 5)
        fields = [(await client.answer()).all("connection") for _ in range(3)]
        assert fields == [[], [], [b"close"]]
        assert await client.end() == b""
        assert len(backend.requests) == 3


async def test_by_default_a_thousand() -> None:
    async with balancing(Backend()) as balancer, await balancer.client() as client:
        for index in range(1000):
            assert ("connection" in await client.ask(request())) == (index == 999)
        assert await client.end() == b""


async def in_step(client: Client, answer: Message) -> None:
    """Where the rest of the body was not read the connection closes; else the next request is the next one."""
    if "connection" in answer:
        assert answer["connection"] == b"close"
        assert await client.end() == b""
    else:
        assert (await client.ask(request())).status == 200


@pytest.mark.parametrize(
    ("size", "status"), [(0, 200), (999, 200), (1000, 200), (1001, 413), (5_000_000, 413), (10**18 - 1, 413)]
)
async def test_max_body_by_length(size: int, status: int) -> None:
    backend = Backend()
    async with balancing(backend, max_body="1000B") as balancer, await balancer.client() as client:
        await client.send(request("/", b"", f"Content-Length: {size}", method="POST") + b"x" * min(size, 50_000))
        answer = await client.answer(b"POST")
        assert answer.status == status
        assert len(backend.requests) == (1 if status == 200 else 0)
        if status == 413:
            assert balancer.last.flags == ("body_too_large",)
            await in_step(client, answer)


@pytest.mark.parametrize(
    ("sizes", "status"), [((1000,), 200), ((400, 600), 200), ((400, 601), 413), ((999, 1, 1), 413)]
)
@pytest.mark.parametrize("wait", [0.0, 0.01], ids=["with the head", "later"])
async def test_max_body_in_chunks(sizes: tuple[int, ...], status: int, wait: float) -> None:
    backend = Backend()
    async with balancing(backend, max_body="1000B") as balancer, await balancer.client() as client:
        await client.send(request("/", b"", "Transfer-Encoding: chunked", method="POST"))
        if wait:
            for size in sizes:
                await client.send(wait, chunked(b"x" * size, end=b""))
            await client.send(chunked())
        else:
            await client.send(chunked(*[b"x" * size for size in sizes]))
        answer = await client.answer(b"POST")
        assert answer.status == status
        if status == 413:
            assert balancer.last.flags == ("body_too_large",)
            assert not any(message.complete for message in backend.messages)
            await until(lambda: all(connection.ended.is_set() for connection in backend.connections))
            await in_step(client, answer)


async def test_max_body_when_everything_comes_in_one_piece() -> None:
    backend = Backend()
    async with balancing(backend, max_body="1000B") as balancer, await balancer.client() as client:
        head = request("/", b"", "Transfer-Encoding: chunked", method="POST")
        assert (await client.ask(head + chunked(b"x" * 1001))).status == 413
        assert backend.requests == []


async def test_a_rule_may_allow_more_than_its_host() -> None:
    rules = [{"path_prefix": "/upload", "max_body": "5KB"}]
    async with balancing(Backend(), max_body="1000B", match=rules) as balancer:
        assert (await balancer.ask(request("/upload/x", b"x" * 5000))).status == 200
        assert (await balancer.ask(request("/upload/x", b"x" * 5001))).status == 413
        assert (await balancer.ask(request("/uploads", b"x" * 1001))).status == 413


async def test_by_default_a_body_has_no_limit() -> None:
    async with balancing(Backend()) as balancer:
        assert (await balancer.ask(request("/", b"x" * 3_000_000))).status == 200
