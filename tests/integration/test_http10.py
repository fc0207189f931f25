"""Clients and backends that speak HTTP/1.0 (RFC 9112 appendix C)."""

from __future__ import annotations

import pytest

from tests.support.backends import CLOSE, Backend, Script
from tests.support.balancing import balancing
from tests.support.wire import chunked, response

GET = b"GET / HTTP/1.0\r\nHost: example.com\r\n\r\n"
KEPT = b"GET / HTTP/1.0\r\nHost: example.com\r\nConnection: Keep-Alive\r\n\r\n"
LENGTH = response(b"hello")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(
    b"hel", b"lo", end=b"0\r\nX-Trailer: 1\r\n\r\n"
)
UNTIL_CLOSE: Script = (b"HTTP/1.1 200 OK\r\n\r\nhello", CLOSE)
OLD: Script = (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", CLOSE)
OLD_UNTIL_CLOSE: Script = (b"HTTP/1.0 200 OK\r\n\r\nhello", CLOSE)


@pytest.mark.parametrize(
    "script",
    [LENGTH, CHUNKED, UNTIL_CLOSE, OLD, OLD_UNTIL_CLOSE],
    ids=["length", "chunked", "until close", "1.0", "1.0 until close"],
)
@pytest.mark.parametrize("kept", [False, True], ids=["close", "keep-alive"])
async def test_answers_are_never_chunked_and_connections_kept_only_when_asked(script: Script, kept: bool) -> None:
    backend = Backend(script)
    by_length = script in (LENGTH, OLD)
    async with balancing(backend) as balancer:
        for _ in range(3):
            async with await balancer.client() as client:
                for _ in range(2 if kept and by_length else 1):
                    answer = await client.ask(KEPT if kept else GET)
                    assert (answer.body, answer.framing) == (b"hello", "length" if by_length else "close")
                    assert answer["connection"] == (b"keep-alive" if kept and by_length else b"close")
                    assert "transfer-encoding" not in answer
                    assert not answer.trailers
                if not (kept and by_length):
                    assert await client.end() == b""


async def test_the_backend_is_spoken_to_in_http11() -> None:
    backend = Backend()
    async with balancing(backend) as balancer:
        await balancer.ask(
            b"POST /a HTTP/1.0\r\nHost: example.com\r\nContent-Length: 5\r\n"
            b"Connection: keep-alive\r\nKeep-Alive: 5\r\n\r\nhello"
        )
        message = backend.messages[0]
        assert (message.start, message.body) == (b"POST /a HTTP/1.1", b"hello")
        assert not {"connection", "keep-alive"} & {name.decode() for name, _ in message.fields}


async def test_a_client_that_names_no_host_reaches_the_catch_all_and_the_backend_is_named() -> None:
    backend = Backend()
    async with balancing(backend) as balancer:
        assert (await balancer.ask(b"GET / HTTP/1.0\r\n\r\n")).status == 200
        assert backend.messages[0].all("host") == [backend.address.encode()]


async def test_interim_answers_are_kept_from_a_client_that_does_not_know_them() -> None:
    backend = Backend(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + LENGTH)
    async with balancing(backend) as balancer, await balancer.client() as client:
        answer = await client.ask(
            b"POST / HTTP/1.0\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
        )
        assert answer.status == 200
        assert client.interim == []
        assert "expect" not in backend.messages[0]


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
async def test_answers_without_a_body(method: bytes) -> None:
    backend = Backend(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(2):
            answer = await client.ask(KEPT.replace(b"GET", method))
            assert (answer.status, answer.body, answer["connection"]) == (304, b"", b"keep-alive")


async def test_pipelining_of_kept_connections() -> None:
    async with balancing(Backend()) as balancer, await balancer.client() as client:
        await client.send(KEPT * 3 + GET)
        for _ in range(4):
            assert (await client.answer()).status == 200
        assert await client.end() == b""


async def test_refusals_of_our_own() -> None:
    async with balancing(Backend()) as balancer, await balancer.client() as client:
        balancer.balancer.routes["*"].pool.replace([])
        answer = await client.ask(KEPT)
        assert (answer.status, answer["connection"]) == (503, b"keep-alive")
        answer = await client.ask(GET)
        assert (answer.status, answer["connection"]) == (503, b"close")
        assert await client.end() == b""
