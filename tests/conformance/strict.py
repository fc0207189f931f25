"""The letter of RFC 9110 and RFC 9112, for what reaches a backend; nothing here is shared with the code under test."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.wire import Message

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") (\*|/[\x21-\x22\x24-\x7e\x80-\xff]*) HTTP/1\.1").fullmatch
_FIELD = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*").fullmatch
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[[vV][0-9A-Fa-f]+\.[^\]@/\\ ]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?"
).fullmatch
_LENGTH = re.compile(rb"0|[1-9][0-9]*").fullmatch
_SHADOW = re.compile(rb"content_length|transfer_encoding|x[-_]forwarded_.*|x_forwarded[-_].*|x[-_]real_ip|x_real[-_]ip")
_HOP_BY_HOP = ("keep-alive", "proxy-connection", "te", "trailer")


class Violation(Exception):
    """A backend was sent what it must never be sent."""


def check_request(message: Message) -> None:
    """Raise Violation unless this head may go to a backend."""
    raw = bytes(message.raw)
    start, *lines = raw[:-4].split(b"\r\n")
    _must(_LINE(start), "request line", raw)
    for line in lines:
        _must(_FIELD(line), f"field line {line!r}", raw)
    hosts = message.all("host")
    _must(len(hosts) == 1 and _HOST(hosts[0]), "exactly one well-formed Host", raw)
    lengths, codings = message.all("content-length"), message.all("transfer-encoding")
    _must(len(lengths) + len(codings) <= 1, "one way of framing", raw)
    _must(all(_LENGTH(value) for value in lengths), "a plain length", raw)
    _must(all(value.lower() == b"chunked" for value in codings), "exactly chunked", raw)
    for name in _HOP_BY_HOP:
        _must(not message.all(name), f"no {name}", raw)
    _must(not any(_SHADOW.fullmatch(name) for name, _ in message.fields), "no field that shadows another", raw)
    upgrades = [value.lower() for value in message.all("upgrade")]
    connections = [value.lower() for value in message.all("connection")]
    _must(upgrades in ([], [b"websocket"]), "no upgrade but to a WebSocket", raw)
    _must(connections == ([b"upgrade"] if upgrades else []) or connections == [b"keep-alive"], "Connection", raw)
    for name in ("x-forwarded-for", "x-real-ip", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"):
        _must(len(message.all(name)) == 1, f"exactly one {name}", raw)
    _must(len(message.all("x-request-id")) == 1, "exactly one X-Request-Id", raw)
    _must(message.all("via")[-1:] == [b"1.1 lb"], "our Via last", raw)


def check_body(message: Message) -> None:
    """Raise Violation unless a chunked body is written by the grammar, without trailer fields."""
    if message.framing == "chunked":
        body = bytes(message.raw).partition(b"\r\n\r\n")[2]
        _must(not message.trailers, "no trailer fields", body)
        while True:
            size = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n").match(body)
            _must(size, "a chunk size", body)
            assert size is not None
            body = body[size.end() :]
            if not int(size[1], 16):
                break
            _must(body[int(size[1], 16) :][:2] == b"\r\n", "chunk data of its size", body)
            body = body[int(size[1], 16) + 2 :]
        _must(body == b"\r\n", "nothing behind the last chunk", body)


def client_of(message: Message) -> bytes:
    """The client that the balancer says the request is from."""
    return message.all("x-forwarded-for")[-1].rpartition(b",")[2].strip(b" ")


def _must(true: object, what: str, raw: bytes) -> None:
    if not true:
        raise Violation(f"the backend was promised {what}, and was sent {raw[:2000]!r}")
