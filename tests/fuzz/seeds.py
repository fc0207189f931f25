"""What the mutations start from: valid and invalid requests and responses, and the tables of tests/conformance."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache

HOST = b"Host: example.com\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n"
GOOD = b"GET /good HTTP/1.1\r\nHost: example.com\r\n\r\n"


def _get(*lines: bytes, first: bytes = b"GET /a HTTP/1.1", host: bytes = HOST) -> bytes:
    return first + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    return _get(*lines, first=b"POST /p HTTP/1.1") + body


def _answer(*lines: bytes, body: bytes = b"", first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return first + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


_BROWSER = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    b"Accept-Language: en-US,en;q=0.5",
    b"Accept-Encoding: gzip, deflate, br",
    b"Connection: keep-alive",
    b"Cookie: a=b; c=d",
    b'If-None-Match: "x"',
)

GOOD_REQUESTS: tuple[bytes, ...] = (
    GOOD,
    _get(*_BROWSER),
    _get(b"Connection: keep-alive"),
    _get(b"Connection: close"),
    _get(b"Connection: X-Secret, keep-alive", b"X-Secret: 1", b"X-Public: 2"),
    _get(b"TE: trailers", b"Connection: TE"),
    _get(b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive"),
    _get(b"X-Forwarded-For: 192.0.2.1, 198.51.100.2", b"X-Forwarded-Proto: https", b"Forwarded: for=192.0.2.1"),
    _get(b"X_Forwarded_For: 192.0.2.1", b"X-Real-IP: 192.0.2.1", b"Content_Length: 5"),
    _get(b"X-Request-Id: abc-123"),
    _get(b"X-Request-Id: one", b"X-Request-Id: two"),
    _get(b"Via: 1.1 other", b"Max-Forwards: 3"),
    _get(b"X-Empty:", b"X-Odd:\t \x80\xff\t!~ \t", b"!#$%&'*+-.^_`|~: 1"),
    _get(first=b"HEAD /head HTTP/1.1"),
    _get(first=b"OPTIONS * HTTP/1.1"),
    _get(first=b"GET http://example.com/abs?x=1 HTTP/1.1"),
    _get(first=b"GET HTTP://other.example:8080 HTTP/1.1"),
    _get(first=b"OPTIONS http://example.com HTTP/1.1"),
    _get(first=b'GET //a/../%00?b=<c>&d={e}|"f" HTTP/1.1'),
    _get(first=b"GET /a/b HTTP/1.1", host=b"HOST:EXAMPLE.COM:80\r\n"),
    _get(host=b"Host: [::1]:8080\r\n"),
    _get(host=b"Host:\r\n"),
    _get(first=b"GET /old HTTP/1.0"),
    _get(first=b"GET /old HTTP/1.0", host=b""),
    _get(b"Connection: keep-alive", first=b"GET /old HTTP/1.0"),
    _get(b"Content-Length: 5", first=b"POST /old HTTP/1.0") + b"hello",
    _post(b"Content-Length: 5", body=b"hello"),
    _post(b"Content-Length: 0"),
    _post(b"Content-Length: 005", body=b"hello"),
    _post(b"content-length:\t5\t", body=b"hello"),
    _post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
    _post(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
    _post(b"transfer-encoding:\tCHUNKED", body=b"5;a=b\r\nhello\r\n6 ;c\r\n world\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", b"Trailer: X-Sum", body=b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
    _post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"".join(b"1\r\n%c\r\n" % c for c in b"hello world") + b"0\r\n\r\n"),
    _post(b"Content-Length: 3000", body=b"x" * 3000),
    _post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"),
    _get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", first=b"GET /ws HTTP/1.1"),
    _get(b"Connection: Upgrade", b"Upgrade: websocket", first=b"GET /ws HTTP/1.1") + b"\x81\x05hello" + SMUGGLED,
    _get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    b"\r\n\r\n" + GOOD,
    GOOD + GOOD + GOOD,
    _post(b"Content-Length: 5", body=b"hello") + GOOD,
    _post(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n") + GOOD,
    _get(first=b"PUT /put HTTP/1.1"),
    _get(first=b"DELETE /x HTTP/1.1"),
    _get(first=b"PROPFIND /x HTTP/1.1"),
    _get(b"X-Long: " + b"a" * 900),
    _get(*(b"X-%d: y" % n for n in range(18))),
)
"""Each is answered 200 for every request in it."""

BAD_REQUESTS: tuple[bytes, ...] = (
    _post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    _post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED),
    _post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
    _post(b"Content-Length: 5, 5", body=b"hello"),
    _post(b"Content-Length: +5", body=b"hello"),
    _post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + SMUGGLED),
    _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + SMUGGLED),
    _post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    _post(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
    _post(b"Transfer-Encoding: chunked", body=b"5\r\nhello0\r\n\r\n" + SMUGGLED),
    _post(b"Transfer-Encoding: chunked", body=b"5\nhello\r\n0\r\n\r\n" + SMUGGLED),
    _post(b"Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"0\r\nX: y\n\r\n" + SMUGGLED),
    _get(b"X-A: b\r\n c: d"),
    _get(b"X-A : b"),
    _get(b"X-A: b\0c"),
    _get(b"X-A: b\rContent-Length: 5"),
    _get(b"X-A: b\nContent-Length: 5") + b"hello",
    _get(b"Connection: host, content-length"),
    _get(host=b""),
    _get(b"Host: other.example"),
    _get(host=b"Host: a b\r\n"),
    _get(first=b"GET /a b HTTP/1.1"),
    _get(first=b"GET /a#b HTTP/1.1"),
    _get(first=b"CONNECT example.com:443 HTTP/1.1"),
    _get(first=b"TRACE / HTTP/1.1"),
    _get(first=b"GET / HTTP/1.2"),
    _get(first=b"GET http://me@example.com/ HTTP/1.1"),
    b"GET /nine\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n" + SMUGGLED,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
)

RESPONSES: tuple[bytes, ...] = (
    _answer(b"Content-Length: 5", body=b"hello"),
    _answer(b"Content-Length: 0"),
    _answer(b"Content-Length: 5", b"Connection: keep-alive", b"Server: x", b"Date: now", body=b"hello"),
    _answer(b"Content-Length: 5", b"Connection: close", body=b"hello"),
    _answer(b"Content-Length: 5", b"Connection: X-Secret", b"X-Secret: 1", body=b"hello"),
    _answer(b"Content-Length: 5", b"Keep-Alive: timeout=5", b"Set-Cookie: a=b", b"Set-Cookie: c=d", body=b"hello"),
    _answer(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
    _answer(b"Transfer-Encoding: chunked", body=b"5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
    _answer(b"transfer-encoding: Chunked", b"Trailer: X", body=b"1\r\nh\r\n4\r\nello\r\n000\r\n\r\n"),
    _answer(b"Content-Type: text/plain", body=b"until the end"),
    _answer(b"Content-Type: text/event-stream", body=b"data: 1\n\ndata: 2\n\n"),
    _answer(b"Content-Length: 5", body=b"hello", first=b"HTTP/1.0 200 OK"),
    _answer(b"Connection: keep-alive", b"Content-Length: 5", body=b"hello", first=b"HTTP/1.0 200 OK"),
    _answer(body=b"old", first=b"HTTP/1.0 200 OK"),
    _answer(first=b"HTTP/1.1 204 No Content"),
    _answer(b"Content-Length: 5", first=b"HTTP/1.1 204 No Content"),
    _answer(b"ETag: x", first=b"HTTP/1.1 304 Not Modified"),
    _answer(b"Content-Length: 500", first=b"HTTP/1.1 304 Not Modified"),
    _answer(first=b"HTTP/1.1 100 Continue") + _answer(b"Content-Length: 2", body=b"hi"),
    _answer(b"Link: </a>", first=b"HTTP/1.1 103 Early Hints") * 3 + _answer(b"Content-Length: 2", body=b"hi"),
    _answer(first=b"HTTP/1.1 100 Continue") * 20 + _answer(b"Content-Length: 2", body=b"hi"),
    _answer(b"Connection: upgrade", b"Upgrade: websocket", first=b"HTTP/1.1 101 Switching Protocols") + b"\x81\x02hi",
    _answer(b"Content-Length: 3", body=b"err", first=b"HTTP/1.1 500 Internal Server Error"),
    _answer(b"Content-Length: 3", body=b"err", first=b"HTTP/1.1 404"),
    _answer(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
    _answer(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
    _answer(b"Transfer-Encoding: gzip, chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
    _answer(b"Content-Length: 5", body=b"hello" + _answer(b"Content-Length: 4", body=b"evil")),
    _answer(b"Transfer-Encoding: chunked", b"Keep-Alive: 5", body=b"5\r\nhello\r\n0\r\n\r\n"),
    _answer(
        b"Transfer-Encoding: chunked", b"Set-Cookie: a", body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nHTTP/1.1 200 OK"
    ),
    _answer(b"Content-Length: 50", body=b"short"),
    _answer(b"Transfer-Encoding: chunked", body=b"5\r\nhelloX\r\n0\r\n\r\n"),
    _answer(b"Transfer-Encoding: chunked", body=b"5\r\nhel"),
    _answer(b"Content-Length: 5", b" folded: 1", body=b"hello"),
    _answer(b"Content-Length : 5", body=b"hello"),
    _answer(b"X: a\0b", b"Content-Length: 5", body=b"hello"),
    _answer(b"Content-Length: 5", body=b"hello", first=b"HTTP/1.1 99 Low"),
    _answer(b"Content-Length: 5", body=b"hello", first=b"HTTP/2.0 200 OK"),
    _answer(b"Content-Length: 5", body=b"hello", first=b"HTTP/1.1 200 O\0K"),
    _answer(b"Content-Length: 2000", body=b"y" * 2000),
    b"garbage\r\n\r\n",
)


@cache
def corpus() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Requests and responses to start from: those above, then those of tests/conformance where it is there."""
    requests, responses = [*GOOD_REQUESTS, *BAD_REQUESTS], [*RESPONSES]
    for raw in _conformance():
        into = responses if raw[:5] == b"HTTP/" else requests
        if 0 < len(raw) < 20_000 and raw not in into:
            into.append(raw)
    return tuple(requests), tuple(responses)


def _conformance() -> Iterator[bytes]:
    """The raw bytes of every case of tests/conformance, whatever its modules are called."""
    try:
        package = importlib.import_module("tests.conformance")
    except ImportError:
        return
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda each: each.name):
        if found.name.startswith(("test_", "conftest")):
            continue
        try:
            module = importlib.import_module(f"tests.conformance.{found.name}")
        except Exception:  # a table that cannot be read is the business of its own tests
            continue
        for name in sorted(vars(module)):
            yield from _raw_bytes(vars(module)[name], depth=2)


def _raw_bytes(value: object, depth: int) -> Iterator[bytes]:
    """Messages among a value: the bytes in dataclasses, and in tuples, lists and dicts of them."""
    if isinstance(value, bytes):
        if b"HTTP/" in value[:9000]:
            yield value
    elif depth and isinstance(value, (tuple, list)):
        for each in value:
            yield from _raw_bytes(each, depth)
    elif depth and isinstance(value, dict):
        for each in value.values():
            yield from _raw_bytes(each, depth)
    elif depth and is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _raw_bytes(getattr(value, each.name), depth - 1)
