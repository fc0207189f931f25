"""What the Autobahn suite tries, byte by byte: every case gives the same verdict through a balancer as direct.

A balancer that reads frames can disagree with the ends about them; ours passes them on. Each case is sent to a real
WebSocket implementation behind a recording backend, once direct and once through us, and both must hear the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol

from tests.integration.test_websocket import HELLO
from tests.support.backends import Backend, Request
from tests.support.balancing import balancing
from tests.support.client import Client

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x12\x34\x56\x78"
CHOPPED = 997
SHORT = 2000


async def answers(seen: Request) -> None:
    """Echo whole messages, judged by the `websockets` package; read on to the end even after a fault."""
    protocol = ServerProtocol(max_size=None)
    protocol.receive_data(bytes(seen.message.raw))
    (handshake,) = protocol.events_received()
    assert isinstance(handshake, Handshake)
    protocol.send_response(protocol.accept(handshake))
    message: list[Frame] = []
    open_to_client = True
    while True:
        for data in protocol.data_to_send():
            if open_to_client and data:
                seen.write(data)
            elif open_to_client:
                seen.connection.writer.write_eof()
                open_to_client = False
        data = await seen.connection.reader.read(65536)
        if not data:
            break
        # the end byte by byte: what is said of a good frame shall not depend on a bad one behind it in the same read
        for piece in (data[:-SHORT], *(bytes((byte,)) for byte in data[-SHORT:])):
            protocol.receive_data(piece)
            for event in protocol.events_received():
                assert isinstance(event, Frame)
                _echo(protocol, message, event)


def _echo(protocol: ServerProtocol, message: list[Frame], frame: Frame) -> None:
    if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
        return
    message.append(frame)
    if not frame.fin:
        return
    data = b"".join(bytes(part.data) for part in message)
    kind = message[0].opcode
    message.clear()
    if kind != Opcode.TEXT:
        protocol.send_binary(data)
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        protocol.fail(1007, f"at {error.start}")
    else:
        protocol.send_text(data)


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True, size: int = 0
) -> bytes:
    """One frame as a client sends it; `size` forces the length's coding: 1, 2 or 8 bytes."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    size = size or (1 if len(data) < 126 else 2 if len(data) < 65536 else 8)
    if size == 1:
        head = bytes((first, bit | len(data)))
    elif size == 2:
        head = struct.pack("!BBH", first, bit | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(data))
    if not masked:
        return head + data
    repeated = (MASK * (len(data) // 4 + 1))[: len(data)]
    coded = int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")
    return head + MASK + coded.to_bytes(len(data), "big")


def closing(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, (b"" if code is None else struct.pack("!H", code)) + reason)


def sizes() -> Iterator[tuple[str, bytes]]:
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536):
        yield f"text of {size}", frame(TEXT, b"*" * size) + closing()
        yield f"binary of {size}", frame(BINARY, b"\xfe" * size) + closing()
    yield "1,000,000 bytes", frame(BINARY, bytes(range(250)) * 4000) + closing()
    yield "length coded too long, 2 bytes", frame(TEXT, b"short", size=2) + closing()
    yield "length coded too long, 8 bytes", frame(TEXT, b"short", size=8) + closing()


def pings() -> Iterator[tuple[str, bytes]]:
    for data in (b"", b"hello", bytes(range(125)), b"\xfe" * 126):
        yield f"ping of {len(data)}", frame(PING, data) + closing()
    yield "pong unasked", frame(PONG, b"unasked") + frame(PING, b"asked") + closing()
    yield "ten pings at once", b"".join(frame(PING, b"%d" % number) for number in range(10)) + closing()
    yield "ping in parts", frame(PING, b"one", fin=False) + frame(0, b"two") + closing()
    yield "pong too long", frame(PONG, b"x" * 126) + closing()


def bits() -> Iterator[tuple[str, bytes]]:
    for rsv in range(1, 8):
        yield f"reserved bits {rsv}", frame(TEXT, b"fine") + frame(TEXT, b"odd", rsv=rsv) + frame(PING)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", frame(TEXT, b"fine") + frame(opcode, b"odd") + frame(PING)
    yield "without a mask", frame(TEXT, b"fine") + frame(TEXT, b"bare", masked=False)
    yield "no frame at all", b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
    yield "length with its top bit set", b"\x82\xff" + b"\xff" * 8 + MASK
    yield "cut within a head", frame(TEXT, b"fine") + b"\x81"
    yield "cut within a frame", frame(TEXT, b"fine") + frame(TEXT, b"cut off")[:-3]


def fragments() -> Iterator[tuple[str, bytes]]:
    first, last = frame(TEXT, b"first, ", fin=False), frame(0, b"last")
    yield "two parts", first + last + closing()
    yield "a ping between", first + frame(PING, b"between") + last + closing()
    yield "a pong between", first + frame(PONG, b"between") + last + closing()
    yield "a close between", first + closing() + last
    yield "a part without a beginning", frame(0, b"nothing before") + closing()
    yield "a last part twice", first + last + last + closing()
    yield "a new text within a text", first + frame(TEXT, b"another") + closing()
    yield "a binary within a text", first + frame(BINARY, b"another") + closing()
    yield "empty parts", frame(TEXT, fin=False) + frame(0, fin=False) + frame(0) + closing()
    yield "a hundred parts", frame(BINARY, fin=False) + frame(0, b"part", fin=False) * 100 + frame(0) + closing()


def utf8() -> Iterator[tuple[str, bytes]]:
    valid = {
        "Greek": "κόσμε".encode(),
        "first of four bytes": b"\xf0\x90\x80\x80",
        "last code point": b"\xf4\x8f\xbf\xbf",
        "a noncharacter": b"\xef\xbf\xbf",
        "NUL": b"\0",
    }
    invalid = {
        "a lone continuation": b"\x80",
        "an overlong slash": b"\xc0\xaf",
        "an overlong of three": b"\xe0\x80\xaf",
        "a surrogate": b"\xed\xa0\x80",
        "past the last": b"\xf4\x90\x80\x80",
        "five bytes": b"\xf8\x88\x80\x80\x80",
        "a cut sequence": b"\xce\xba\xe1\xbd",
        "0xff": b"fine\xff",
    }
    for name, data in (valid | invalid).items():
        yield f"UTF-8: {name}", frame(TEXT, data) + closing()
    yield "UTF-8 cut between parts", frame(TEXT, b"\xce", fin=False) + frame(0, b"\xba") + closing()
    yield "UTF-8 wrong in a later part", frame(TEXT, b"fine", fin=False) + frame(0, b"\xff", fin=False) + frame(0)


def closes() -> Iterator[tuple[str, bytes]]:
    known = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    unknown = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    for code in known + unknown:
        yield f"close {code}", closing(code, b"because")
    yield "close without a code", closing(None)
    yield "close with one byte", frame(CLOSE, b"\x03")
    yield "close with the longest reason", closing(1000, b"r" * 123)
    yield "close with a reason too long", closing(1000, b"r" * 124)
    yield "close with a reason that is no UTF-8", closing(1000, b"\xce\xba\xe1")
    yield "close twice", closing() + closing()
    yield "a text after the close", closing() + frame(TEXT, b"too late")
    yield "a ping after the close", closing() + frame(PING)
    yield "the end without a close", frame(TEXT, b"and gone")
    yield "the end at once", b""


CASES = dict(case for group in (sizes, pings, bits, fragments, utf8, closes) for case in group())


async def verdict(port: int, backend: Backend, data: bytes, chop: int) -> tuple[bytes, bytes]:
    """What the client heard after sending these bytes and its end, and what the backend heard."""
    async with await Client.connect(port) as client:
        await client.send(HELLO)
        assert (await client.answer()).status == 101
        for start in range(0, len(data), chop):
            await client.send(data[start : start + chop], 0)
        client.writer.write_eof()
        heard = await client.end()
    connection = backend.connections[-1]
    await connection.ended.wait()
    return heard, bytes(connection.received).partition(b"\r\n\r\n")[2]


async def test_the_same_verdict_as_direct() -> None:
    assert len(CASES) >= 100
    backend = Backend(answers)
    differing = []
    async with balancing(backend) as balancer:
        for name, data in CASES.items():
            for chop in (1, len(data) or 1) if len(data) < SHORT else (CHOPPED, len(data)):
                direct = await verdict(backend.port, backend, data, chop)
                through = await verdict(balancer.port, backend, data, chop)
                assert direct[1] == data, f"{name}: the backend was not sent what the case says"
                if through != direct:
                    differing.append((name, chop, direct[0][:80], through[0][:80]))
        assert not differing, differing
        assert {exchange.status for exchange in balancer.completed} == {101}
        assert {exchange.flags for exchange in balancer.completed} == {()}


@pytest.mark.parametrize(
    ("name", "heard"),
    [
        ("text of 1", b"\x81\x01*\x88\x02\x03\xe8"),
        ("ping of 5", b"\x8a\x05hello\x88\x02\x03\xe8"),
        ("close 1001", b"\x88\x09\x03\xe9because"),
        ("the end at once", b""),
    ],
)
async def test_what_the_verdict_is(name: str, heard: bytes) -> None:
    """The cases do reach the judge: some of what it says is written down here."""
    backend = Backend(answers)
    async with balancing(backend) as balancer:
        assert await verdict(balancer.port, backend, CASES[name], 1) == (heard, CASES[name])
        faulty, _ = await verdict(balancer.port, backend, CASES["opcode 3"], 1)
        assert faulty.startswith(b"\x81\x04fine\x88")
        assert b"\x03\xea" in faulty, "1002, a protocol error"
