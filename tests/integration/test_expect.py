"""Expect: 100-continue is between the client and the backend; we pass both sides of it on (RFC 9110 section 10.1.1)."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.backends import BODY, CLOSE, EARLY, Backend, refusing
from tests.support.balancing import balancing
from tests.support.wire import chunked, request, response

LENGTH = request("/", b"", "Expect: 100-continue", "Content-Length: 5", method="POST")
CHUNKED = request("/", b"", "expect: 100-Continue", "Transfer-Encoding: chunked", method="POST")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "body"), [(LENGTH, b"hello"), (CHUNKED, chunked(b"hel", b"lo"))], ids=["length", "chunked"]
)
@pytest.mark.parametrize("status", [200, 500])
async def test_the_body_follows_when_the_backend_says_so(head: bytes, body: bytes, status: int) -> None:
    backend = Backend((EARLY, 0.02, CONTINUE, BODY, response(b"done", status=status)))
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(2):
            await client.send(head)
            async with asyncio.timeout(2):
                assert await client.reader.readuntil(b"\r\n\r\n") == CONTINUE
            await client.send(body)
            assert (await client.answer(b"POST")).status == status
            assert backend.messages[-1].body == b"hello"
            assert "expect" in backend.messages[-1]
        assert len(backend.connections) == 1


@pytest.mark.parametrize("head", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("status", [417, 413, 401, 200])
@pytest.mark.parametrize("closes", [False, True])
async def test_a_backend_that_answers_at_once_spares_the_body(head: bytes, status: int, closes: bool) -> None:
    backend = Backend((EARLY, response(b"no need", status=status), *((CLOSE,) if closes else (5.0,))))
    async with balancing(backend) as balancer, await balancer.client() as client:
        answer = await client.ask(head)
        assert (answer.status, answer.body, answer["connection"]) == (status, b"no need", b"close")
        assert client.interim == []
        assert await client.end() == b""
        await asyncio.wait_for(backend.connections[0].ended.wait(), 1)


async def test_a_client_that_does_not_wait_is_served_too() -> None:
    backend = Backend((BODY, response(b"done")))
    async with balancing(backend) as balancer, await balancer.client() as client:
        assert (await client.ask(LENGTH + b"hello")).status == 200
        await client.send(LENGTH, 0.05, b"hello")
        assert (await client.answer(b"POST")).status == 200
        assert [message.body for message in backend.messages] == [b"hello"] * 2


async def test_a_backend_that_continues_late_or_twice() -> None:
    backend = Backend((BODY, CONTINUE, CONTINUE, response(b"done")))
    async with balancing(backend) as balancer, await balancer.client() as client:
        assert (await client.ask(LENGTH + b"hello")).body == b"done"
        assert [message.status for message in client.interim] == [100, 100]


async def test_the_expectation_goes_to_the_backend_that_is_found() -> None:
    backend = Backend((EARLY, CONTINUE, BODY, response(b"done")), name="good")
    with refusing() as gone:
        async with balancing(gone, backend, ejection=False) as balancer:
            for _ in range(4):
                async with await balancer.client() as client:
                    await client.send(LENGTH)
                    async with asyncio.timeout(2):
                        assert await client.reader.readuntil(b"\r\n\r\n") == CONTINUE
                    await client.send(b"hello")
                    assert (await client.answer(b"POST")).body == b"done"
