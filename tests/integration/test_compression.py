"""Compression over real sockets, and what a transform of any plugin is given and what the client gets of it."""

from __future__ import annotations

import asyncio
import gzip
import io
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zstandard

from lb_core import Exchange, hookimpl
from tests.support.backends import CLOSE, RESET, Backend, Script, bytewise
from tests.support.balancing import Running, balancing, until
from tests.support.wire import Cut, Message, chunked, request, response

TEXT = b"".join(b"line %d of a text that repeats itself\n" % number for number in range(400))
JSON = "Content-Type: application/json"
PLAIN = "Content-Type: text/plain"
BOTH = "Accept-Encoding: gzip, zstd"


@asynccontextmanager
async def compressing(script: Script, *plugins: object, compression: Any = True) -> AsyncIterator[Running]:
    async with balancing(Backend(script), plugins=plugins, compression=compression) as running:
        yield running


def plain(message: Message) -> bytes:
    """The body as the backend sent it."""
    coding = b"".join(message.all("content-encoding"))
    if coding == b"gzip":
        return gzip.decompress(message.body)
    if coding == b"zstd":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(message.body), read_across_frames=True).read()
    assert not coding
    return message.body


def of_type(kind: str = PLAIN, body: bytes = TEXT, *fields: str, status: int = 200) -> bytes:
    return response(body, kind, *fields, status=status)


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("accept", "coding"), [("gzip", b"gzip"), ("zstd", b"zstd"), ("gzip, zstd", b"zstd")])
async def test_text_goes_out_compressed(accept: str, coding: bytes) -> None:
    async with compressing(of_type(JSON)) as running, await running.client() as client:
        for _ in range(3):
            answer = await client.ask(request("/", b"", f"Accept-Encoding: {accept}"))
            assert (answer.status, answer["content-encoding"], answer["vary"]) == (200, coding, b"Accept-Encoding")
            assert plain(answer) == TEXT
            assert answer.framing == "length", "all of it was there at once"
            assert len(answer.body) < len(TEXT) / 4
        assert running.last.bytes_out == len(answer.body)


async def test_it_is_off_unless_it_is_asked_for() -> None:
    async with balancing(Backend(of_type())) as running:
        answer = await running.ask(request("/", b"", BOTH))
        assert "content-encoding" not in answer
        assert "vary" not in answer


@pytest.mark.parametrize(
    ("kind", "compressed"),
    [
        ("text/html; charset=utf-8", True),
        ("TEXT/CSS", True),
        ("application/problem+json", True),
        ("application/javascript", True),
        ("application/atom+xml", True),
        ("image/svg+xml", True),
        ("image/png", False),
        ("application/octet-stream", False),
        ("application/jsonish", False),
    ],
)
async def test_types(kind: str, compressed: bool) -> None:
    async with compressing(of_type(f"Content-Type: {kind}")) as running:
        answer = await running.ask(request("/", b"", BOTH))
        assert ("content-encoding" in answer) is compressed
        assert ("vary" in answer) is compressed
        assert plain(answer) == TEXT


@pytest.mark.parametrize(("size", "compressed"), [(1023, False), (1024, True)])
async def test_from_1024_bytes(size: int, compressed: bool) -> None:
    async with compressing(of_type(PLAIN, b"x" * size)) as running:
        answer = await running.ask(request("/", b"", BOTH))
        assert ("content-encoding" in answer) is compressed
        assert plain(answer) == b"x" * size


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Content-Encoding: br", 200),
        ("Content-Encoding: identity", 200),
        ("Content-Range: bytes 0-99/200", 200),
        ("Cache-Control: max-age=60, No-Transform", 200),
        ("Repr-Digest: sha-256=:AAAA:", 200),
        ("X-Status: 206", 206),
    ],
)
async def test_what_stays_as_it_is(field: str, status: int) -> None:
    sent = of_type(PLAIN, TEXT, field, 'ETag: "one"', "Accept-Ranges: bytes", status=status)
    async with compressing(sent) as running:
        answer = await running.ask(request("/", b"", BOTH))
        assert answer.body == TEXT
        assert answer["etag"] == b'"one"'
        assert answer["accept-ranges"] == b"bytes"
        assert answer["content-length"] == b"%d" % len(TEXT)
        assert "vary" not in answer


async def test_fields_follow() -> None:
    sent = of_type(PLAIN, TEXT, 'ETag: "one"', "Accept-Ranges: bytes", "Vary: Cookie")
    async with compressing(sent) as running:
        answer = await running.ask(request("/", b"", BOTH))
        assert answer["etag"] == b'W/"one"'
        assert "accept-ranges" not in answer
        assert answer.all("vary") == [b"Cookie", b"Accept-Encoding"]
        assert answer.all("content-length") == [b"%d" % len(answer.body)]
        other = await running.ask(request())
        assert (other["etag"], other.body) == (b'"one"', TEXT)
        assert other.all("vary") == [b"Cookie", b"Accept-Encoding"], "caches must know that others get another answer"


@pytest.mark.parametrize("vary", ["*", "accept-encoding", "Cookie, Accept-Encoding"])
async def test_vary_is_not_said_twice(vary: str) -> None:
    async with compressing(of_type(PLAIN, TEXT, f"Vary: {vary}", 'ETag: W/"one"')) as running:
        answer = await running.ask(request("/", b"", BOTH))
        assert "content-encoding" in answer
        assert (answer["vary"], answer["etag"]) == (vary.encode(), b'W/"one"')


@pytest.mark.parametrize(
    "accept", ["identity", "br", "gzip;q=0, zstd;q=0", "identity, gzip;q=0.5", "", "*;q=0", "gzip;q=0.000, *;q=0"]
)
async def test_a_client_that_does_not_want_it_gets_it_as_it_is(accept: str) -> None:
    async with compressing(of_type()) as running:
        answer = await running.ask(request("/", b"", f"Accept-Encoding: {accept}"))
        assert (answer.body, answer.framing, answer["vary"]) == (TEXT, "length", b"Accept-Encoding")


async def test_a_head_has_no_body_and_no_coding() -> None:
    head = f"HTTP/1.1 200 OK\r\n{PLAIN}\r\nContent-Length: {len(TEXT)}\r\n\r\n".encode()
    backend = Backend(lambda seen: head if seen.message.method == b"HEAD" else of_type())
    async with balancing(backend, compression=True) as running, await running.client() as client:
        answer = await client.ask(request("/", b"", BOTH, method="HEAD"))
        assert (answer["content-length"], answer["vary"]) == (b"%d" % len(TEXT), b"Accept-Encoding")
        assert "content-encoding" not in answer
        assert plain(await client.ask(request("/", b"", BOTH))) == TEXT, "the connection goes on"


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body(status: int) -> None:
    sent = f'HTTP/1.1 {status} Said\r\n{PLAIN}\r\nETag: "one"\r\n\r\n'.encode()
    async with compressing(sent) as running, await running.client() as client:
        for _ in range(2):
            answer = await client.ask(request("/", b"", BOTH))
            assert (answer.status, answer["etag"]) == (status, b'"one"')
            assert "content-encoding" not in answer


@pytest.mark.parametrize("status", [404, 500])
async def test_error_pages_are_compressed(status: int) -> None:
    async with compressing(of_type(PLAIN, TEXT, status=status)) as running:
        answer = await running.ask(request("/", b"", BOTH))
        assert (answer.status, plain(answer)) == (status, TEXT)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize(
    "script",
    [
        of_type(PLAIN, TEXT * 60),
        (of_type(PLAIN, TEXT * 60)[:9000], 0.02, of_type(PLAIN, TEXT * 60)[9000:]),
        CHUNKED + chunked(*[TEXT] * 60),
        (CHUNKED, 0.02, chunked(TEXT * 30, TEXT * 30)),
        bytewise(CHUNKED + chunked(TEXT[:1000], TEXT[1000:1500])),
        bytewise(of_type(PLAIN, TEXT[:1500])),
        CHUNKED + chunked(TEXT * 60, end=b"0\r\nX-Trailer: dropped\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + TEXT * 2, 0.02, TEXT * 58, CLOSE),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + TEXT * 60, CLOSE),
        CHUNKED + chunked(),
    ],
    ids=["length", "two", "chunked", "later", "bytewise", "length-bytewise", "trailers", "close", "http10", "empty"],
)
async def test_every_framing_of_the_backend(script: Script, coding: str) -> None:
    async with compressing(script) as running, await running.client() as client:
        first = await client.ask(request("/", b"", f"Accept-Encoding: {coding}"))
        again = await client.ask(request("/", b"", f"Accept-Encoding: {coding}"))
        assert first["content-encoding"] == coding.encode()
        assert plain(first) == plain(again)
        assert plain(first) in (TEXT * 60, TEXT[:1500], b"")
        assert not first.trailers
        assert first.framing in ("chunked", "length")


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_events_are_not_delayed(coding: str) -> None:
    gate = asyncio.Semaphore(0)

    async def stream(seen: Any) -> None:
        await seen.body()
        seen.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            seen.write(b"%x\r\n%b\r\n" % (9, b"data: %d\n\n" % number))
            await gate.acquire()
        seen.write(b"0\r\n\r\n")

    async with compressing(stream) as running, await running.client() as client:
        await client.send(request("/", b"", f"Accept-Encoding: {coding}"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert f"Content-Encoding: {coding}".encode() in head
        read: Any = zlib.decompressobj(31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
        for number in range(3):
            seen = b""
            while not seen.endswith(b"\n\n"):
                size = int(await client.reader.readuntil(b"\r\n"), 16)
                seen += read.decompress((await client.reader.readexactly(size + 2))[:-2])
            assert seen == b"data: %d\n\n" % number
            gate.release()
        assert (await client.reader.readuntil(b"0\r\n\r\n")).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("body", [of_type(), CHUNKED + chunked(TEXT), (CHUNKED, 0.02, chunked(TEXT))])
async def test_http10_gets_a_length_or_the_end_of_the_connection(body: Script, keep: bool) -> None:
    fields = b"Accept-Encoding: gzip\r\n" + (b"Connection: keep-alive\r\n" if keep else b"")
    async with compressing(body) as running, await running.client() as client:
        answer = await client.ask(b"GET / HTTP/1.0\r\nHost: a\r\n" + fields + b"\r\n")
        assert plain(answer) == TEXT
        assert "transfer-encoding" not in answer
        assert answer.framing in ("length", "close")
        kept = keep and body == of_type()
        assert answer["connection"] == (b"keep-alive" if kept else b"close")
        if not kept:
            assert await client.end() == b""


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_body_cut_short_by_its_backend_is_cut_for_the_client(coding: str) -> None:
    for ending in (CLOSE, RESET):
        async with compressing((CHUNKED + b"%x\r\n%b\r\n" % (len(TEXT), TEXT), 0.02, ending)) as running:
            async with await running.client() as client:
                await client.send(request("/", b"", f"Accept-Encoding: {coding}"))
                with pytest.raises(Cut):
                    await client.answer()
            await running.settled()
            assert running.last.flags == ("reset",)


async def test_broken_chunks_cut_the_answer() -> None:
    broken = CHUNKED + chunked(TEXT, end=b"zz\r\n")
    async with compressing((broken,)) as running, await running.client() as client:
        await client.send(request("/", b"", BOTH))
        assert b"0\r\n\r\n" not in await client.end()


async def test_bytes_behind_the_body_do_not_reach_the_next_client() -> None:
    backend = Backend(of_type() + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    async with balancing(backend, compression=True) as running, await running.client() as client:
        for _ in range(3):
            assert plain(await client.ask(request("/", b"", BOTH))) == TEXT
        assert len(backend.connections) == 3


async def test_kept_connections_are_used_again() -> None:
    backend = Backend(of_type())
    async with balancing(backend, compression=True) as running, await running.client() as client:
        for _ in range(5):
            await client.ask(request("/", b"", BOTH))
        await client.send(*[request("/", b"", BOTH)] * 4)
        assert [plain(await client.answer()) for _ in range(4)] == [TEXT] * 4
        assert len(backend.connections) == 1


async def test_many_at_a_time() -> None:
    piece = TEXT * 4

    async def slowly(seen: Any) -> None:
        await seen.body()
        seen.write(CHUNKED)
        for _ in range(3):
            seen.write(chunked(piece, end=b""))
            await asyncio.sleep(0.005)
        seen.write(b"0\r\n\r\n")

    async with compressing(slowly) as running:
        answers = await asyncio.gather(
            *(running.ask(request("/", b"", f"Accept-Encoding: {coding}")) for coding in ("gzip", "zstd") * 30)
        )
        assert {plain(answer) for answer in answers} == {piece * 3}
        feature = dict(running.balancer.routes["*"].parts)["compression"]
        assert feature.describe() == "0 answers are being compressed"


async def test_a_client_that_does_not_read_holds_the_backend_back() -> None:
    """What compresses badly fills the client's buffers: the backend must not be read further."""
    from random import Random

    piece = Random(1).randbytes(64 * 1024)
    written = 0

    async def endless(seen: Any) -> None:
        nonlocal written
        await seen.body()
        seen.write(CHUNKED)
        for _ in range(400):
            seen.write(chunked(piece, end=b""))
            await seen.connection.writer.drain()
            written += len(piece)
        seen.write(b"0\r\n\r\n")

    async with compressing(endless) as running:
        async with await running.client(receive_buffer=16 * 1024) as client:
            await client.send(request("/", b"", "Accept-Encoding: gzip"))
            before = -1
            while before != written:
                before = written
                await asyncio.sleep(0.15)
            assert written < 12_000_000, "26 MB are there to be had"
        await running.settled()


async def test_settings() -> None:
    settings = {"min_size": "10B", "types": ["image/*"], "encodings": ["gzip"], "level": 9}
    async with compressing(of_type("Content-Type: image/bmp", b"x" * 10), compression=settings) as running:
        answer = await running.ask(request("/", b"", "Accept-Encoding: zstd, gzip"))
        assert answer["content-encoding"] == b"gzip"
        assert plain(answer) == b"x" * 10


async def test_a_request_body_that_is_still_coming() -> None:
    """The answer comes first: it is whole, and the connection ends with it, as without a transform."""
    from tests.support.backends import EARLY

    async with compressing((EARLY, of_type())) as running, await running.client() as client:
        await client.send(request("/", b"", BOTH, "Content-Length: 100000", method="POST") + b"some")
        answer = await client.answer(b"POST")
        assert (plain(answer), answer["connection"]) == (TEXT, b"close")


# what any plugin may do with a transform


class Shouting:
    """Upper case, and a last word."""

    def feed(self, data: bytes) -> bytes:
        return data.upper()

    def finish(self) -> bytes:
        return b"!"


class Broken(Shouting):
    """Fails at the second piece."""

    def __init__(self) -> None:
        self.pieces = 0

    def feed(self, data: bytes) -> bytes:
        self.pieces += 1
        if self.pieces > 1:
            raise LookupError("lost")
        return data


class Keeping(Shouting):
    """Says nothing before the end."""

    def __init__(self) -> None:
        self.kept = b""

    def feed(self, data: bytes) -> bytes:
        self.kept += data
        return b""

    def finish(self) -> bytes:
        return self.kept


class Assigns:
    """A plugin that passes every body through one."""

    def __init__(self, make: type[Shouting]) -> None:
        self.make = make

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        exchange.transform = self.make()


SAYS = (CHUNKED + chunked(b"one"), response(b"one", PLAIN), (response(b"one", PLAIN)[:-1], 0.02, b"e"))


@pytest.mark.parametrize("script", SAYS)
async def test_a_transform(script: Script) -> None:
    async with balancing(Backend(script), plugins=[Assigns(Shouting)]) as running, await running.client() as client:
        for _ in range(2):
            answer = await client.ask(request())
            assert answer.body == b"ONE!"
            assert answer["content-type"] in (b"text/html", b"text/plain")


async def test_several_transforms_follow_each_other() -> None:
    """In the order of the hooks: what shouts is compressed, and then kept to the end."""

    class Shouts:
        @hookimpl(tryfirst=True)
        def on_response(self, exchange: Exchange) -> None:
            exchange.transform = Shouting()

    for sent in (of_type(), (CHUNKED, 0.01, chunked(TEXT))):
        async with compressing(sent, Shouts(), Assigns(Keeping)) as running, await running.client() as client:
            for _ in range(2):
                assert plain(await client.ask(request("/", b"", BOTH))) == TEXT.upper() + b"!"
            feature = dict(running.balancer.routes["*"].parts)["compression"]
            assert feature.describe() == "0 answers are being compressed"


@pytest.mark.parametrize("script", SAYS)
async def test_a_transform_that_waits(script: Script) -> None:
    async with balancing(Backend(script), plugins=[Assigns(Keeping)]) as running:
        assert (await running.ask(request())).body == b"one"


async def test_a_transform_that_fails_cuts_the_answer() -> None:
    pieces = (CHUNKED + chunked(b"one", end=b""), 0.02, chunked(b"two"))
    async with balancing(Backend(pieces), plugins=[Assigns(Broken)]) as running:
        async with await running.client() as client:
            await client.send(request())
            with pytest.raises(Cut):
                await client.answer()
        await until(lambda: running.completed)
        assert running.balancer.routes["*"].plugin_errors == 1


async def test_a_client_that_leaves_ends_it() -> None:
    gate = asyncio.Event()

    async def waits(seen: Any) -> None:
        seen.write(CHUNKED + chunked(TEXT, end=b""))
        await gate.wait()

    async with compressing(waits) as running:
        async with await running.client() as client:
            await client.send(request("/", b"", BOTH))
            await client.reader.readuntil(b"\r\n\r\n")
        await running.settled()
        feature = dict(running.balancer.routes["*"].parts)["compression"]
        assert feature.describe() == "0 answers are being compressed"
        gate.set()
