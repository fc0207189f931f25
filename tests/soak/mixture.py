"""What clients do to a balancer in a day, the ordinary and the rest, each with what must come of it.

A kind is a coroutine that does its part over a lane's connection and returns the number of requests that were. Anything
but the expected answer raises Wrong, Cut or TimeoutError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

from tests.soak.connection import Answer, Connection, open_connection

HOST = "soak.example"
MAX_BODY = 200_000
FIELDS = "User-Agent: soak/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\n"
BODY = b"x" * MAX_BODY


class Wrong(Exception):
    """An answer is not what it must be."""


class Lane:
    """One client: a connection that is kept where that may be, and random numbers of its own."""

    def __init__(self, port: int, announced: int, seed: int) -> None:
        self.port = port
        self.announced = announced
        self.random = Random(seed)
        self.kept: Connection | None = None

    async def connection(self) -> Connection:
        """The kept connection, or a new one."""
        if self.kept is None or self.kept.ended:
            self.kept = await open_connection(self.port)
        return self.kept

    def leave(self) -> None:
        """Close the connection at once."""
        if self.kept is not None:
            self.kept.transport.abort()
            self.kept = None

    async def ask(self, data: bytes, status: int = 200, size: int = -1, *, bodyless: bool = False) -> Answer:
        """Send a request and read its answer, which has this status and a body of this size."""
        connection = await self.connection()
        connection.write(data)
        return self.check(await connection.answer(bodyless=bodyless), status, size)

    def check(self, answer: Answer, status: int, size: int = -1) -> Answer:
        """An answer as it must be; lets go of a connection that it ends."""
        if not answer.kept:
            self.leave()
        if answer.status != status or (size >= 0 and len(answer.body) != size):
            raise Wrong(
                f"{answer.status} with {len(answer.body)} bytes, not {status} with {size}: {answer.body[:120]!r}"
            )
        return answer


def head(target: str, *fields: str, method: str = "GET", host: str = HOST, version: str = "1.1") -> bytes:
    """A request head; `fields` are whole lines without CRLF."""
    lines = "".join(f"{line}\r\n" for line in fields)
    return f"{method} {target} HTTP/{version}\r\nHost: {host}\r\n{FIELDS}{lines}\r\n".encode()


SMALL = head("/bytes/100")
KIB16 = head("/bytes/16384")


async def small(lane: Lane) -> int:
    await lane.ask(SMALL, 200, 100)
    return 1


async def kib16(lane: Lane) -> int:
    await lane.ask(KIB16, 200, 16384)
    return 1


async def megabyte(lane: Lane) -> int:
    await lane.ask(head("/bytes/1000000"), 200, 1_000_000)
    return 1


async def head_only(lane: Lane) -> int:
    await lane.ask(head("/bytes/100", method="HEAD"), 200, 0, bodyless=True)
    return 1


async def with_length(lane: Lane) -> int:
    """A body by Content-Length, now and then one too large to be sent again."""
    size = lane.random.choice((0, 10, 700, 4000, 9000, 100_000 if lane.random.random() < 0.1 else 70))
    return _echoed(await lane.ask(head("/echo", f"Content-Length: {size}", method="POST") + BODY[:size]), size)


async def in_chunks(lane: Lane) -> int:
    sizes = [lane.random.randrange(1, 5000) for _ in range(lane.random.randrange(1, 4))]
    body = b"".join(b"%x\r\n%b\r\n" % (size, BODY[:size]) for size in sizes) + b"0\r\n\r\n"
    return _echoed(await lane.ask(head("/echo", "Transfer-Encoding: chunked", method="POST") + body), sum(sizes))


async def in_pieces(lane: Lane) -> int:
    """A body that comes after its head, with Expect: 100-continue."""
    connection = await lane.connection()
    connection.write(head("/echo", "Content-Length: 3000", "Expect: 100-continue", method="POST"))
    await connection.more()
    connection.write(BODY[:3000])
    return _echoed(lane.check(await connection.answer(), 200), 3000)


def _echoed(answer: Answer, size: int) -> int:
    if answer.body != b"%d" % size:
        raise Wrong(f"the backend read {answer.body[:40]!r} bytes of {size}")
    return 1


async def chunked(lane: Lane) -> int:
    size = lane.random.randrange(2, 60_000)
    await lane.ask(head(f"/chunked/{size}"), 200, size)
    return 1


async def until_close(lane: Lane) -> int:
    await lane.ask(head("/until-close/3000"), 200, 3000)
    return 1


async def without_content(lane: Lane) -> int:
    status = lane.random.choice((204, 304))
    await lane.ask(head(f"/status/{status}"), status, 0)
    return 1


async def no_route(lane: Lane) -> int:
    await lane.ask(head("/", host=f"{lane.random.getrandbits(64):x}.invalid"), 404)
    return 1


async def malformed(lane: Lane) -> int:
    broken = lane.random.choice(
        (
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        )
    )
    await lane.ask(broken, 400)
    lane.leave()
    return 1


async def too_large(lane: Lane) -> int:
    await lane.ask(head("/echo", f"Content-Length: {MAX_BODY + 1}", method="POST"), 413)
    lane.leave()
    return 1


async def retried(lane: Lane) -> int:
    """One of the backends resets the connection; the other answers."""
    await lane.ask(head("/reset"), 200, 2)
    return 1


async def refused(lane: Lane) -> int:
    """Of this route's backends one refuses connections."""
    await lane.ask(head("/bytes/50", host="refused.example"), 200, 50)
    return 1


async def nobody(lane: Lane) -> int:
    """This route's only backend refuses connections."""
    await lane.ask(head("/", host="nobody.example"), 502)
    return 1


async def leaves_early(lane: Lane) -> int:
    """Goes away in the middle of the answer, of the wait for it, or of its own request."""
    connection = await lane.connection()
    match lane.random.randrange(4):
        case 0:
            connection.write(head("/half"))
            await connection.take(200)
        case 1:
            connection.write(head("/wait"))
            await _let_it_arrive(lane)
        case 2:
            connection.write(head("/echo", "Content-Length: 5000", method="POST") + BODY[:100])
            await _let_it_arrive(lane)
        case _:
            connection.write(SMALL[:40])
    lane.leave()
    return 1


async def _let_it_arrive(lane: Lane) -> None:
    """Ask over a connection of its own: what was sent before has arrived when that is answered."""
    connection = await open_connection(lane.port)
    connection.write(SMALL)
    await connection.answer()
    connection.transport.abort()


async def pipelined(lane: Lane) -> int:
    connection = await lane.connection()
    connection.write(SMALL + KIB16)
    lane.check(await connection.answer(), 200, 100)
    lane.check(await connection.answer(), 200, 16384)
    return 2


async def new_connection(lane: Lane) -> int:
    lane.leave()
    await lane.ask(head("/bytes/100", "Connection: close"), 200, 100)
    lane.leave()
    return 1


async def http10(lane: Lane) -> int:
    lane.leave()
    await lane.ask(head(f"/{lane.random.choice(('bytes', 'chunked', 'until-close'))}/900", version="1.0"), 200, 900)
    lane.leave()
    return 1


async def websocket(lane: Lane) -> int:
    lane.leave()
    key = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + 22 * "A" + "==",
    )
    await lane.ask(head("/ws", *key), 101)
    connection = await lane.connection()
    for size in (6, 100, 8000, 6):
        connection.write(BODY[:size])
        await connection.take(size)
    lane.leave()
    return 1


async def random_host(lane: Lane) -> int:
    await lane.ask(head("/bytes/20", host=f"{lane.random.getrandbits(64):x}.{HOST}"), 200, 20)
    return 1


async def random_words(lane: Lane) -> int:
    """A path, a query, addresses and a request id that nobody has seen before; the peer is trusted."""
    bits = lane.random.getrandbits
    chain = f"X-Forwarded-For: {address(lane.random)}, {address(lane.random)}"
    await lane.ask(head(f"/bytes/20?{bits(64):x}={bits(64):x}", chain, f"X-Request-Id: {bits(128):x}"), 200, 20)
    return 1


async def announced(lane: Lane) -> int:
    """A connection whose PROXY header says an address that nobody has seen before."""
    connection = await open_connection(lane.announced)
    source, port = address(lane.random), lane.random.randrange(1024, 60000)
    connection.write(f"PROXY TCP4 {source} 127.0.0.1 {port} 80\r\n".encode() + SMALL)
    lane.check(await connection.answer(), 200, 100)
    connection.transport.abort()
    return 1


def address(random: Random) -> str:
    """A random IPv4 address."""
    return f"{random.randrange(11, 100)}.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}"


Kind = Callable[[Lane], Awaitable[int]]

MIXTURE: dict[Kind, int] = {
    small: 300,
    kib16: 80,
    megabyte: 1,
    head_only: 40,
    with_length: 80,
    in_chunks: 50,
    in_pieces: 10,
    chunked: 60,
    until_close: 15,
    without_content: 40,
    no_route: 20,
    malformed: 15,
    too_large: 5,
    retried: 10,
    refused: 10,
    nobody: 5,
    leaves_early: 10,
    pipelined: 40,
    new_connection: 30,
    http10: 10,
    websocket: 4,
    random_host: 100,
    random_words: 60,
    announced: 10,
}
"""Every kind with its share."""

RANDOM: dict[Kind, int] = {random_host: 10, random_words: 6, announced: 2, no_route: 2}
"""Nothing but values that have not been seen before: whatever is remembered of them is filled to its bound."""
