"""HTTP/1.1 read by the letter of RFC 9112, purely: bytes and a position in, a message out.

This is the model everything is compared with. It shares nothing with the code under test, nor with the reader of the
other tests, and is as strict as a reader can be that still accepts every valid message:

    request line    token SP target SP HTTP/1.0 or HTTP/1.1; visible ASCII only in the target
    fields          token ":" value, no folding, no control characters but tab
    framing         one Transfer-Encoding, `chunked`, HTTP/1.1 only, never beside Content-Length; one Content-Length,
                    digits only
    chunks          hexadecimal size, extensions behind ";", CR LF where they belong

`Malformed` means: no reader may take this for a message. An incomplete message is returned as far as it got.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

Fields = list[tuple[bytes, bytes]]
_Match = Callable[[bytes], re.Match[bytes] | None]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) (HTTP/1\.[01])" % _TOKEN).fullmatch
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?").fullmatch
_FIELD = re.compile(rb"(%b):([\t -~\x80-\xff]*)" % _TOKEN).fullmatch
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?").fullmatch
_DIGITS = re.compile(rb"[0-9]{1,18}").fullmatch
_TOKENS = re.compile(rb"[ \t]*(?:%b[ \t]*)?(?:,[ \t]*(?:%b[ \t]*)?)*" % (_TOKEN, _TOKEN)).fullmatch

LONGEST_HEAD = 128 * 1024


class Malformed(ValueError):
    """No reading of these bytes as a message is acceptable."""


@dataclass(slots=True)
class Message:
    """A message, or what is there of it. Field names are lower-case, values without the blanks around them."""

    start: tuple[bytes, bytes, bytes]
    """Method, target, version; for a response version, status, and an empty part."""
    fields: Fields
    begin: int
    head_end: int
    end: int = 0
    """The index behind what belongs to it."""
    body: bytes = b""
    framing: str = "none"
    complete: bool = False
    trailers: Fields = field(default_factory=list)
    broken: str = ""
    """Why its body is malformed; the head was not."""

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a field."""
        return [value for key, value in self.fields if key == name]

    def tokens(self, name: bytes) -> list[bytes]:
        """The members of a list field, in lower case."""
        return [
            each for value in self.all(name) for token in value.lower().split(b",") if (each := token.strip(b" \t"))
        ]

    @property
    def method(self) -> bytes:
        """The method of a request."""
        return self.start[0]

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.start[1])

    @property
    def http10(self) -> bool:
        """Whether it says HTTP/1.0."""
        return b"HTTP/1.0" in self.start

    @property
    def tunnel(self) -> bool:
        """Whether a request asks for a WebSocket in full."""
        return (
            not self.http10
            and [value.lower() for value in self.all(b"upgrade")] == [b"websocket"]
            and b"upgrade" in self.tokens(b"connection")
        )


def read_request(data: bytes, position: int = 0) -> Message | None:
    """The request at `position`, None while its head is incomplete. Raises Malformed."""
    while data.startswith(b"\r\n", position):
        position += 2
    message = _read_head(data, position, _REQUEST_LINE)
    if message is None:
        return None
    _frame(message)
    if message.framing == "none":
        message.end, message.complete = message.head_end, True
    else:
        _read_body(data, message)
    return message


def read_response(data: bytes, position: int, method: bytes, *, ended: bool = False) -> Message | None:
    """The response at `position` to a request of this method; `ended` says that nothing follows `data`."""
    message = _read_head(data, position, _STATUS_LINE)
    if message is None:
        return None
    status = message.status
    _frame(message)
    says_nothing = status == 101 and [each.strip() for each in message.all(b"content-length")] == [b"0"]
    if status < 200 and message.framing != "none" and not says_nothing:  # some servers say so, and nobody misreads it
        raise Malformed("an interim response with framing")
    if method == b"HEAD" or status < 200 or status in (204, 304):
        message.framing = "none"
        message.end, message.complete = message.head_end, True
    elif message.framing == "none":
        message.framing = "close"
        message.body, message.end, message.complete = data[message.head_end :], len(data), ended
    else:
        _read_body(data, message)
    return message


def _read_head(data: bytes, position: int, first: _Match) -> Message | None:
    """First line and fields; None while they are incomplete and not yet wrong."""
    end = data.find(b"\r\n\r\n", position)
    if end < 0:
        return None
    start, *lines = data[position:end].split(b"\r\n")
    match = first(start)
    if match is None:
        raise Malformed(f"first line {start[:80]!r}")
    fields = []
    for line in lines:
        found = _FIELD(line)
        if found is None:
            raise Malformed(f"field line {line[:80]!r}")
        fields.append((found[1].lower(), found[2].strip(b" \t")))
    method, target, *version = match.groups()
    return Message((method, target, version[0] if version else b""), fields, position, end + 4)


def _frame(message: Message) -> None:
    """How the body is delimited. Raises Malformed."""
    codings, lengths = message.all(b"transfer-encoding"), message.all(b"content-length")
    for value in message.all(b"connection"):
        if _TOKENS(value) is None:
            raise Malformed(f"Connection: {value[:80]!r}")
    if codings:
        if [value.lower() for value in codings] != [b"chunked"] or lengths or message.http10:
            raise Malformed(f"Transfer-Encoding {codings}, Content-Length {lengths}")
        message.framing = "chunked"
    elif lengths:
        if len(lengths) > 1 or not _DIGITS(lengths[0]):
            raise Malformed(f"Content-Length {lengths}")
        message.framing = "length"


def _read_body(data: bytes, message: Message) -> None:
    """The body as far as it is there, by the framing found."""
    if message.framing == "length":
        length = int(message.all(b"content-length")[0])
        message.body = data[message.head_end : message.head_end + length]
        message.end = message.head_end + len(message.body)
        message.complete = len(message.body) == length
    else:
        try:
            _read_chunks(data, message)
        except Malformed as error:
            message.broken = str(error)


def _read_chunks(data: bytes, message: Message) -> None:
    position = message.head_end
    while True:
        message.end = position
        line = _line(data, position)
        if line is None:
            return
        size = _SIZE(line)
        if size is None:
            raise Malformed(f"chunk size line {line[:80]!r}")
        position += len(line) + 2
        length = int(size[1], 16)
        if not length:
            break
        message.body += data[position : position + length]
        behind = data[position + length : position + length + 2]
        if not b"\r\n".startswith(behind):
            raise Malformed("chunk data is not followed by CR LF")
        if len(behind) < 2:
            message.end = len(data)
            return
        position += length + 2
    while True:
        line = _line(data, position)
        if line is None:
            return
        position += len(line) + 2
        message.end = position
        if not line:
            message.complete = True
            return
        found = _FIELD(line)
        if found is None:
            raise Malformed(f"trailer line {line[:80]!r}")
        message.trailers.append((found[1].lower(), found[2].strip(b" \t")))


def _line(data: bytes, position: int) -> bytes | None:
    """The line at `position` without its CR LF; None while it is incomplete. Raises Malformed for a bare CR or LF."""
    end = data.find(b"\n", position)
    line = data[position : end - 1] if end >= 0 else data[position:]
    if end >= 0 and data[end - 1 : end] != b"\r":
        raise Malformed("bare LF in a chunk line")
    if b"\r" in line[: -1 if end < 0 else None]:
        raise Malformed("bare CR in a chunk line")
    return line if end >= 0 else None
