"""One integer and an index make one input, always the same one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz.seeds import GOOD

REQUEST, RESPONSE = "request", "response"
VARIANTS = ("plain", "limits", "rewriting", "plugins", "trusting")
"""How the balancer is set up: see `lanes`."""

TOKENS = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x7f", b"\x80",
    b"\xff", b"#", b"/", b"*", b"@", b"?", b"%0d%0a", b"-", b"+", b"_", b'"', b"[", b"]", b"\\",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"transfer-encoding:chunked\r\n",
    b"Transfer-Encoding:\tchunked \r\n", b"Transfer-Encoding: chunked, chunked\r\n", b"chunked", b", chunked",
    b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: 10\r\n", b"content-length:\t05\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 4294967301\r\n", b"Content-Length: -1\r\n",
    b"Content-Length: 5, 5\r\n", b"Content-Length:\r\n", b"Content_Length: 5\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"connection: close, x-a\r\n", b"Connection: Host\r\n",
    b"Connection: Content-Length\r\n", b"Connection: X-Forwarded-For, Via\r\n", b"Connection: ,\r\n",
    b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", b"Connection: X-Request-Id\r\n",
    b"Host: example.com\r\n", b"Host: other.example:81\r\n", b"host:\r\n", b"Host: [::1]\r\n",
    b"Expect: 100-continue\r\n", b"TE: trailers\r\n", b"Trailer: X\r\n", b"X-A: b\r\n", b" folded\r\n", b"\tfolded\r\n",
    b"X-Forwarded-For: 10.0.0.1\r\n", b"X_Forwarded_For: 10.0.0.1\r\n", b"X-Request-Id: z\r\n", b"Via: 1.0 z\r\n",
    b"X-Forwarded-Host: z\r\n", b"X-Forwarded-Prefix: /z\r\n", b"Forwarded: for=z\r\n", b"Keep-Alive: 5\r\n",
    b"Proxy-Connection: close\r\n", b"X-Real-IP: z\r\n", b"Idempotency-Key: z\r\n", b"Accept: application/json\r\n",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"1\r\nZ\r\n", b"0\r\n", b"0;x\r\n", b"ffffffffffffffff\r\n", b"00000000005\r\n",
    b"7fffffffffffffff\r\n", b"X-Trailer: 1\r\n", b"hello", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", b"GET ", b"POST ", b"HEAD ",
    b"GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n", b"A" * 300,
    b"X: " + b"y" * 5000 + b"\r\n", b"a: b\r\n" * 60,
)  # fmt: skip
"""What is worth inserting."""


@dataclass(frozen=True, slots=True)
class Input:
    """What one run sends: by the client, or by the backend as its answer to `method`."""

    index: int
    direction: str
    variant: str
    data: bytes
    cuts: tuple[int, ...]
    """Where the bytes are cut into writes of their own."""
    end: str
    """What the sender does behind them: stay, close, reset."""
    method: bytes = b"GET"
    http10: bool = False
    early: bool = False
    """The backend answers as soon as it has a head."""
    pipelined: bool = False
    """A further request, which is answered properly, comes right behind the one whose answer this is."""
    good: bool = False
    """An unchanged good request: every request in it must be answered 200."""

    @property
    def pieces(self) -> list[bytes]:
        """The bytes as they are written."""
        places = sorted({place for place in self.cuts if 0 < place < len(self.data)})
        return [self.data[start:end] for start, end in zip([0, *places], [*places, len(self.data)], strict=True)]


def make(seed: int, index: int, corpus: tuple[tuple[bytes, ...], tuple[bytes, ...]], good: tuple[bytes, ...]) -> Input:
    """The input of this index; pure."""
    rng = random.Random(f"{seed}:{index}")
    variant = VARIANTS[index % len(VARIANTS)]
    if rng.random() < 0.03:
        data = rng.choice(good)
        return Input(index, REQUEST, variant, data, _cuts(rng, data), "stay", good=True)
    requests, responses = corpus
    if rng.random() < 0.6:
        data = _mutated(rng, requests if rng.random() < 0.5 else good)
        if rng.random() < 0.2:
            data = GOOD + data
        if rng.random() < 0.2:
            data += GOOD
        end = rng.choice(("stay", "stay", "stay", "close", "reset"))
        return Input(index, REQUEST, variant, data, _cuts(rng, data), end, early=rng.random() < 0.15)
    data = rng.choice(responses) if rng.random() < 0.1 else _mutated(rng, responses)
    if rng.random() < 0.15:  # what follows an answer must spoil its connection, and nothing else
        data += rng.choice((b"\0", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    cuts = _cuts(rng, data)
    end = rng.choice(("stay", "stay", "close", "close", "reset"))
    method = rng.choice((b"GET", b"GET", b"GET", b"HEAD", b"POST", b"WS"))
    http10 = rng.random() < 0.1
    # bytes that come after the further request is on its way can be told from its answer by nobody: hence no cuts
    pipelined = not cuts and not http10 and method != b"WS" and rng.random() < 0.5
    return Input(index, RESPONSE, variant, data, cuts, end, method, http10, pipelined=pipelined)


def _mutated(rng: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4, 6))):
        data = rng.choice(_MUTATIONS)(rng, data, seeds)
    return data[:40_000]


def _cuts(rng: random.Random, data: bytes) -> tuple[int, ...]:
    kind = rng.random()
    if kind < 0.4 or len(data) < 2:
        return ()
    if kind < 0.45 and len(data) < 400:
        return tuple(range(1, len(data)))
    places = [rng.randrange(1, len(data)) for _ in range(rng.choice((1, 1, 2, 3, 5)))]
    if rng.random() < 0.5:  # beside a line end is where it matters
        ends = [at for at in range(1, len(data)) if data[at - 1] in b"\r\n"]
        places = [rng.choice(ends) for _ in places] if ends else places
    return tuple(sorted(set(places)))


Mutation = Callable[[random.Random, bytes, tuple[bytes, ...]], bytes]


def _place(rng: random.Random, data: bytes) -> int:
    """An index to change at: anywhere, or at the beginning of a line."""
    if rng.random() < 0.5:
        starts = [0, *(at + 1 for at, byte in enumerate(data) if byte == 10)]
        return rng.choice(starts)
    return rng.randrange(len(data) + 1)


def _flip(rng: random.Random, data: bytes, _: tuple[bytes, ...]) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ (1 << rng.randrange(8)),)) + data[at + 1 :]


def _byte(rng: random.Random, data: bytes, _: tuple[bytes, ...]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]


def _insert(rng: random.Random, data: bytes, _: tuple[bytes, ...]) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.choice(TOKENS) + data[at:]


def _number(rng: random.Random, data: bytes, _: tuple[bytes, ...]) -> bytes:
    """Another number where a digit stands."""
    digits = [at for at, byte in enumerate(data) if 48 <= byte <= 57]
    if not digits:
        return data
    at = rng.choice(digits)
    return (
        data[:at]
        + rng.choice((b"0", b"1", b"6", b"00", b"a", b"-1", b"1e1", b"0x5", b"1_0", b"+5", b"9" * 19))
        + data[at + 1 :]
    )


def _delete(rng: random.Random, data: bytes, _: tuple[bytes, ...]) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 1, 1, 2, 4, 16)) :]


def _lines(rng: random.Random, data: bytes, _: tuple[bytes, ...]) -> bytes:
    """A line twice, gone, elsewhere or swapped with another."""
    lines = data.split(b"\r\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        lines.insert(second, lines[first])
    elif kind == 1:
        del lines[first]
    elif kind == 2:
        lines.insert(second, lines.pop(first))
    else:
        lines[first], lines[second] = lines[second], lines[first]
    return b"\r\n".join(lines)


def _case(rng: random.Random, data: bytes, _: tuple[bytes, ...]) -> bytes:
    lines = data.split(b"\r\n")
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((lines[at].upper(), lines[at].lower(), lines[at].swapcase()))
    return b"\r\n".join(lines)


def _splice(rng: random.Random, data: bytes, seeds: tuple[bytes, ...]) -> bytes:
    other = rng.choice(seeds)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def _head_of_another(rng: random.Random, data: bytes, seeds: tuple[bytes, ...]) -> bytes:
    """A field line of another seed within this head."""
    lines = [line for line in rng.choice(seeds).split(b"\r\n")[1:] if b":" in line]
    first, end, rest = data.partition(b"\r\n")
    return first + end + rng.choice(lines) + b"\r\n" + rest if lines and end else data


def _truncate(rng: random.Random, data: bytes, _: tuple[bytes, ...]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _line_end(rng: random.Random, data: bytes, _: tuple[bytes, ...]) -> bytes:
    """Another ending of one line."""
    ends = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\r\n"]
    if not ends:
        return data
    at = rng.choice(ends)
    return (
        data[:at]
        + rng.choice((b"\n", b"\r", b"\r\r\n", b" \r\n", b"\r\n ", b"\r\n\t", b"\n\r", b"\0\r\n"))
        + data[at + 2 :]
    )


def _follow(rng: random.Random, data: bytes, seeds: tuple[bytes, ...]) -> bytes:
    return data + rng.choice(seeds)


_MUTATIONS: tuple[Mutation, ...] = (
    _flip, _byte, _insert, _insert, _insert, _number, _delete, _lines, _case, _splice, _head_of_another,
    _head_of_another, _truncate, _line_end, _follow,
)  # fmt: skip
