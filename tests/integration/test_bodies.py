"""Bodies arrive byte for byte, both ways, however they are framed and however they are cut into reads."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.backends import CLOSE, EARLY, Backend, Request, Steps, bytewise
from tests.support.balancing import balancing
from tests.support.wire import Message, chunked, request, response

if TYPE_CHECKING:
    from tests.support.client import Client

HELLO = b"hello, world"
CHUNKS = (b"first,", b"second;\r\n0\r\n\r\n", b"x" * 300)
HEAD = b"HTTP/1.1 200 OK\r\n"

RESPONSES: dict[str, tuple[bytes, bytes, str]] = {
    "length": (response(HELLO), HELLO, "length"),
    "length 0": (response(), b"", "length"),
    "length and reason of our own": (b"HTTP/1.1 299 So It Is\r\ncontent-LENGTH:  3 \r\n\r\nabc", b"abc", "length"),
    "no reason": (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", b"ok", "length"),
    "error": (response(b"no", status=503), b"no", "length"),
    "keep-alive named": (response(HELLO, "Connection: keep-alive", "Keep-Alive: timeout=5"), HELLO, "length"),
    "chunked": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*CHUNKS), b"".join(CHUNKS), "chunked"),
    "chunked, empty": (HEAD + b"transfer-encoding: Chunked\r\n\r\n" + chunked(), b"", "chunked"),
    "chunk extensions": (
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n5;a=b;c="d e"\r\nhello\r\n0;last\r\n\r\n',
        b"hello",
        "chunked",
    ),
    "trailers": (
        HEAD
        + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunked(b"abc", end=b"0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n"),
        b"abc",
        "chunked",
    ),
    "interim first": (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(HELLO),
        HELLO,
        "length",
    ),
}

REQUESTS: dict[str, tuple[bytes, bytes]] = {
    "no body": (request("/a"), b""),
    "length": (request("/b", HELLO), HELLO),
    "length 0": (request("/c", b"", "Content-Length: 0", method="POST"), b""),
    "chunked": (request("/d", b"", "Transfer-Encoding: chunked", method="PUT") + chunked(*CHUNKS), b"".join(CHUNKS)),
    "chunked, empty": (request("/e", b"", "Transfer-Encoding: Chunked", method="POST") + chunked(), b""),
    "chunk extensions": (
        request("/f", b"", "Transfer-Encoding: chunked", method="POST") + b"5;x=1\r\nhello\r\n000;y\r\n\r\n",
        b"hello",
    ),
    "trailers": (
        request("/g", b"", "Trailer: X-Sum", "Transfer-Encoding: chunked", method="POST")
        + chunked(b"abc", end=b"0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"),
        b"abc",
    ),
    "GET with a body": (request("/h", HELLO, method="GET"), HELLO),
    "extension method": (request("/i", HELLO, method="PROPFIND"), HELLO),
}


def check_answer(answer: Message, body: bytes, framing: str) -> None:
    """The answer is the backend's, with a body framed as it was."""
    assert (answer.body, answer.framing) == (body, framing)
    assert not answer.trailers
    assert "trailer" not in answer
    assert "keep-alive" not in answer


@pytest.mark.parametrize("name", RESPONSES)
async def test_responses_arrive_whole_bytewise_and_between_others(name: str) -> None:
    raw, body, framing = RESPONSES[name]
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        for script in (raw, bytewise(raw), (raw[:-1], 0.005, raw[-1:])):
            backend.script = lambda seen, script=script: (
                response(b"other") if seen.message.target == b"/other" else script
            )
            await client.send(request("/other") + request("/it") + request("/it") + request("/other"))
            for expected, how in ((b"other", "length"), (body, framing), (body, framing), (b"other", "length")):
                check_answer(await client.answer(), expected, how)
        assert await client.silent()
        assert len(backend.connections) == 1, "a clean response leaves the connection in use"
        assert all(exchange.status == int(raw.rsplit(b"HTTP/1.1 ", 1)[1][:3]) for exchange in balancer.completed[1::4])


@pytest.mark.parametrize("name", ["length", "chunked", "trailers", "interim first"])
async def test_responses_cut_in_two_at_every_byte(name: str) -> None:
    raw, body, framing = RESPONSES[name]
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        for index in range(1, len(raw), 1 if len(raw) < 150 else 3):
            backend.script = (raw[:index], 0, 0, raw[index:])
            check_answer(await client.ask(request()), body, framing)
        assert len(backend.connections) == 1


@pytest.mark.parametrize("name", REQUESTS)
async def test_requests_arrive_whole_bytewise_and_between_others(name: str) -> None:
    raw, body = REQUESTS[name]
    backend = Backend()
    method, target = raw.split(b" ")[:2]
    async with balancing(backend) as balancer, await balancer.client() as client:
        for bytewise_ in (False, True):
            backend.requests.clear()
            data = request("/before") + raw + raw + request("/after", b"end")
            await (client.send_bytewise(data) if bytewise_ else client.send(data))
            for _ in range(4):
                assert (await client.answer()).status == 200
            seen = [(message.method, message.target, message.body) for message in backend.messages]
            assert seen == [(b"GET", b"/before", b""), *[(method, target, body)] * 2, (b"POST", b"/after", b"end")]
            assert not any(message.trailers for message in backend.messages)
        assert await client.silent(0.02)


@pytest.mark.parametrize("name", ["no body", "length", "chunked", "trailers"])
async def test_requests_cut_in_two_at_every_byte(name: str) -> None:
    raw, body = REQUESTS[name]
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        for index in range(1, len(raw), 1 if len(raw) < 150 else 3):
            await client.send(raw[:index], 0, 0, 0, raw[index:])
            assert (await client.answer(raw.split(b" ")[0])).status == 200
            assert backend.messages[-1].body == body


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", HEAD + b"Content-Length: 1234\r\n\r\n"),
        ("HEAD", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", HEAD + b"ETag: x\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_have_none_and_leave_both_connections_in_use(method: str, raw: bytes) -> None:
    backend = Backend(raw)
    async with balancing(backend) as balancer, await balancer.client() as client:
        for script in (raw, bytewise(raw)):
            backend.script = script
            await client.send(request(method=method) * 2)
            for _ in range(2):
                answer = await client.answer(method.encode())
                assert (answer.status, answer.body) == (int(raw[9:12]), b"")
                assert answer.all("content-length") == ([b"1234"] if b"1234" in raw else [])
        assert await client.silent()
        assert len(backend.connections) == 1


async def test_a_204_goes_out_without_framing_fields() -> None:
    backend = Backend(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
    async with balancing(backend) as balancer, await balancer.client() as client:
        answer = await client.ask(request())
        assert "content-length" not in answer
        assert await client.silent()


UNTIL_CLOSE = HEAD + b"X-Kind: close\r\n\r\n"


@pytest.mark.parametrize(
    "steps",
    [(UNTIL_CLOSE + b"abc", 0.02, b"def", CLOSE), (UNTIL_CLOSE, CLOSE), (*bytewise(UNTIL_CLOSE + b"xyz"), CLOSE)],
)
async def test_a_response_until_close_is_chunked_for_http11(steps: Steps) -> None:
    backend = Backend(steps)
    body = b"".join(step for step in steps if isinstance(step, bytes))[len(UNTIL_CLOSE) :]
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(2):
            answer = await client.ask(request())
            check_answer(answer, body, "chunked")
            assert answer["x-kind"] == b"close"
        assert await client.silent()
        assert len(backend.connections) == 2


async def test_a_response_of_http10_is_taken_and_its_connection_not_kept() -> None:
    backend = Backend(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold")
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(2):
            answer = await client.ask(request())
            assert (answer.version, answer.body) == (b"HTTP/1.1", b"old")
        assert len(backend.connections) == 2
        assert await client.silent()


def noise(size: int) -> bytes:
    """Bytes that compress to nothing and repeat nowhere."""
    return random.Random(size).randbytes(size)


def in_chunks(data: bytes, seed: int) -> bytes:
    """Chunks of very different sizes."""
    sizes, pieces, position = random.Random(seed), [], 0
    while position < len(data):
        size = sizes.choice((1, 7, 1000, 16384, 70_001, 300_000))
        pieces.append(data[position : position + size])
        position += size
    return chunked(*pieces)


@pytest.mark.parametrize("size", [65_535, 65_536, 1_000_003, 20_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_large_downloads(size: int, framing: str) -> None:
    data = noise(size)
    raw = {
        "length": response(data),
        "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(data, size),
        "close": UNTIL_CLOSE + data,
    }[framing]
    backend = Backend((raw, CLOSE) if framing == "close" else raw)
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(2):
            answer = await client.ask(request(), within=15)
            assert hashlib.sha256(answer.body).digest() == hashlib.sha256(data).digest()
        assert balancer.last.bytes_out >= size


@pytest.mark.parametrize("size", [65_535, 65_536, 1_000_003, 20_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_large_uploads(size: int, framing: str) -> None:
    data = noise(size)
    raw = request("/", data)
    if framing == "chunked":
        raw = request("/", b"", "Transfer-Encoding: chunked", method="POST") + in_chunks(data, size)
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(2):
            assert (await client.ask(raw, within=15)).status == 200
            assert hashlib.sha256(backend.messages[-1].body).digest() == hashlib.sha256(data).digest()
        assert len(backend.connections) == 1


async def test_both_ways_at_once() -> None:
    """An echo: the answer streams while the request still does."""
    size = 3_000_000
    data = noise(size)

    async def echo(seen: Request) -> None:
        seen.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            piece = await seen.connection.reader.read(65536)
            left -= len(piece)
            seen.write(piece)
            await seen.connection.writer.drain()

    async with balancing(Backend(echo)) as balancer, await balancer.client() as client:
        sending = asyncio.create_task(client.send(request("/", data)))
        answer = await client.answer(b"POST", within=10)
        await sending
        assert answer.body == data


@pytest.mark.parametrize("body", ["length", "chunked"])
async def test_an_early_answer_during_an_upload_arrives(body: str) -> None:
    backend = Backend((EARLY, response(b"too large", "Connection: close", status=413), CLOSE))
    head = request("/", b"", "Content-Length: 50000000", method="POST")
    if body == "chunked":
        head = request("/", b"", "Transfer-Encoding: chunked", method="POST") + b"2faf080\r\n"
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.send(head + b"x" * 1000)
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"too large")
        assert answer["connection"] == b"close"
        await client.send(b"x" * 200_000)  # a client that does not look before it has sent everything
        assert await client.end() == b""


async def keep_sending(client: Client) -> None:
    """A client that sends on whatever happens."""
    while not client.writer.is_closing():
        await client.send(b"x" * 10_000, 0.005)


async def test_an_early_answer_reaches_a_client_that_never_stops_sending() -> None:
    backend = Backend((EARLY, response(b"too large" * 1000, status=413), CLOSE))
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.send(request("/", b"", "Content-Length: 50000000", method="POST"))
        sending = asyncio.create_task(keep_sending(client))
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"too large" * 1000)
        assert await client.end() == b""
        sending.cancel()
