"""HTTP/1.1 messages read from a socket by the letter of RFC 9112; nothing here is shared with the code under test."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

Fields = list[tuple[bytes, bytes]]


@dataclass
class Message:
    """A message as it came. `fields` have lower-case names; `body` is without chunk framing, `raw` every byte."""

    start: bytes
    fields: Fields
    raw: bytearray
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    complete: bool = False
    framing: str = "none"
    """How the body was delimited: none, length, chunked or close."""

    def all(self, name: str) -> list[bytes]:
        """Every value of a field, in order."""
        return [value for key, value in self.fields if key == name.encode()]

    def __getitem__(self, name: str) -> bytes:
        values = self.all(name)
        assert len(values) == 1, f"{name}: {values} in {bytes(self.raw[:2000])!r}"
        return values[0]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def method(self) -> bytes:
        """The method of a request."""
        return self.start.split(b" ")[0]

    @property
    def target(self) -> bytes:
        """The target of a request."""
        return self.start.split(b" ")[1]

    @property
    def version(self) -> bytes:
        """The version of either."""
        return self.start.split(b" ")[0 if self.start.startswith(b"HTTP/") else 2]

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.start.split(b" ")[1])


class Cut(Exception):
    """The connection ended within a message; `how` is closed or reset."""

    def __init__(self, how: str, message: Message | None = None) -> None:
        self.how = how
        self.message = message
        super().__init__(how)


async def read_head(reader: asyncio.StreamReader) -> Message | None:
    """The next head, or None where the connection ended before its first byte. Raises Cut."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise Cut("closed") from None
    except ConnectionError:
        raise Cut("reset") from None
    start, *lines = raw[:-4].split(b"\r\n")
    fields = []
    for line in lines:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
    return Message(start, fields, bytearray(raw))


async def read_body(reader: asyncio.StreamReader, message: Message, *, answers: bytes = b"") -> None:
    """Read a message's body; `answers` is the method a response answers, empty for a request. Raises Cut."""
    coding = message.all("transfer-encoding")
    lengths = message.all("content-length")
    try:
        if answers and (answers == b"HEAD" or message.status in (204, 304) or message.status < 200):
            pass
        elif coding:
            assert [value.lower() for value in coding] == [b"chunked"], coding
            message.framing = "chunked"
            await _read_chunked(reader, message)
        elif lengths:
            message.framing = "length"
            await _take(reader, message, int(lengths[0]))
        elif answers:
            message.framing = "close"
            while data := await reader.read(1 << 20):
                message.raw += data
                message.body += data
    except asyncio.IncompleteReadError as error:
        message.raw += error.partial
        raise Cut("closed", message) from None
    except ConnectionError:
        raise Cut("reset", message) from None
    message.complete = True


async def _take(reader: asyncio.StreamReader, message: Message, size: int) -> None:
    pieces = []
    try:
        while size:
            data = await reader.read(min(size, 1 << 20))
            if not data:
                raise asyncio.IncompleteReadError(b"", size)
            pieces.append(data)
            size -= len(data)
    finally:
        whole = b"".join(pieces)
        message.raw += whole
        message.body += whole


async def _read_chunked(reader: asyncio.StreamReader, message: Message) -> None:
    pieces = []
    try:
        while True:
            line = await reader.readuntil(b"\r\n")
            message.raw += line
            size = int(line.split(b";")[0], 16)
            if not size:
                break
            data = await reader.readexactly(size + 2)
            assert data.endswith(b"\r\n"), data[-10:]
            message.raw += data
            pieces.append(data[:-2])
    finally:
        message.body = b"".join(pieces)
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        message.raw += line
        name, _, value = line[:-2].partition(b":")
        message.trailers.append((name.lower(), value.strip(b" \t")))
    message.raw += line


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A chunked body of these pieces."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def request(target: str = "/", body: bytes = b"", *fields: str, method: str = "", host: str = "example.com") -> bytes:
    """A request with Host and, where it has a body, Content-Length; `fields` are whole lines without CRLF."""
    method = method or ("POST" if body else "GET")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def response(body: bytes = b"", *fields: str, status: int = 200) -> bytes:
    """A response with Content-Length."""
    lines = [f"HTTP/1.1 {status} Said", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
