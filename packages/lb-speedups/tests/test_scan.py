"""What the scanner accepts is what the general path reads; everything else it leaves alone."""

from __future__ import annotations

import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lb_core.engine.request_heads import read_request
from lb_core.engine.response_heads import check_ordinary_response, plain_status, read_response
from lb_core.engine.special import Plain
from lb_core.errors import RequestError
from lb_speedups import scan_request, scan_response

FIELDS = 20
REQUEST = (
    b"GET /a/b?c=d&e=%2F HTTP/1.1\r\nHost: example.com:8080\r\nUser-Agent: Mozilla/5.0 (X11)\r\nAccept: */*;q=0.8\r\n"
    b"Accept-Language: de\xe4,en\r\nCookie: a=b; c=\td\r\nX-Empty:\r\nConnection: keep-alive\r\n\r\n"
)
CLOSING = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nConnection: close\r\nX: y\r\n\r\n"
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: b/1\r\nDate: Tue, 24 Nov 2026 09:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 12\r\nX-Empty:\r\nConnection: keep-alive\r\n\r\nhello, world"
)
LINES = [
    b"Host: example.com",
    b"host:example.com",
    b"Host:",
    b"Accept: */*",
    b"Connection: keep-alive",
    b"connection: keep-alive",
    b"Connection: close",
    b"Connection: keep-alive, x",
    b"Content-Length: 0",
    b"content-length: 123456789012345678",
    b"Content-Length: 1234567890123456789",
    b"Content-Length: 0123",
    b"Content-Length: ",
    b"Content-Length: 3",
    b"Content-Length: +3",
    b"Content-Length: 003",
    b"Content-Length:3",
    b"Content-Length: 3 ",
    b"Content_Length: 3",
    b"Transfer-Encoding: chunked",
    b"TE: trailers",
    b"Trailer: X",
    b"Upgrade: websocket",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: close",
    b"Expect: 100-continue",
    b"HTTP2-Settings: x",
    b"Forwarded: for=1",
    b"X-Forwarded-For: 1.2.3.4",
    b"X_Forwarded_For: 1.2.3.4",
    b"X-Real-IP: 1.2.3.4",
    b"X-Request-Id: abc",
    b"X-Forwarded: x",
    b"X-Forwarde: x",
    b"Bad Name: x",
    b"Name : x",
    b" folded: x",
    b"\tfolded",
    b": no name",
    b"no colon",
    b"N\xc3\xa9: x",
    b"Value: \x00",
    b"Value: \x7f",
    b"Value: \x1f",
    b"Value: a\nb",
    b"Value: a\rb",
    b"Value: \xff\x80",
    b"!#$%&'*+-.^_`|~0: x",
]
STARTS = [
    b"GET / HTTP/1.1",
    b"POST /x?y HTTP/1.1",
    b"HEAD /%41 HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"OPTIONS / HTTP/1.1",
    b'PATCH /{}|^`"<> HTTP/1.1',
    b"get / HTTP/1.1",
    b"PROPFIND / HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b"GET http://a/ HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET / HTTP/1.2",
    b"GET /#x HTTP/1.1",
    b"GET /\xe4 HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET /  HTTP/1.1",
    b"GET / x HTTP/1.1",
    b"GET /\tx HTTP/1.1",
    b"GET",
    b"",
]
STATUSES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 500 ",
    b"HTTP/1.1 500",
    b"HTTP/1.1 404 Not\tFound \xe4",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 101 Switching",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 600 Six",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.0 200 OK",
    b"HTTP/2 200 OK",
    b"HTTP/1.1 200 O\x00K",
    b"HTTP/1.1  200 OK",
    b"http/1.1 200 OK",
]


def agrees_on_request(data: bytes, blank: int, fields: int = FIELDS) -> bool:
    """Whether it was accepted; fails where the general path reads something else."""
    found = scan_request(data, blank, fields, Plain)
    if found is None:
        return False
    *rest, special, end = read_request(data, blank, fields)
    assert (*rest, end) == (*found[:4], found[5])
    assert type(special) is type(found[4])
    if isinstance(special, Plain):
        assert (special.length, special.close) == (found[4].length, found[4].close)
    return True


def agrees_on_response(data: bytes) -> bool:
    """The same for a response."""
    found = scan_response(data)
    if found is None:
        return False
    blank = data.index(b"\r\n\r\n")
    head = read_response(data, blank)
    assert head is not None
    assert (head.status, head.length, head.end + head.length) == (*found, len(data))
    assert plain_status(data) == found[0]
    assert head.keep
    assert not head.chunked
    assert not head.cuts
    assert check_ordinary_response(data)
    return True


def test_ordinary_heads_are_accepted() -> None:
    assert agrees_on_request(REQUEST, len(REQUEST) - 4)
    assert agrees_on_response(RESPONSE)
    assert agrees_on_request(b"GET / HTTP/1.1\r\nhOST:a\r\n\r\n", 22)
    assert agrees_on_request(CLOSING, len(CLOSING) - 4)
    assert agrees_on_request(CLOSING + b"hello, world and", len(CLOSING) - 4)
    for method in (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"):
        data = method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n"
        assert agrees_on_request(data, len(data) - 4)


def test_what_follows_a_request_is_not_looked_at() -> None:
    assert agrees_on_request(REQUEST + b"GET /next", len(REQUEST) - 4)


def test_a_blank_line_that_was_guessed_is_left_to_the_general_path() -> None:
    assert not agrees_on_request(REQUEST + REQUEST, 2 * len(REQUEST) - 4)
    for blank in (-1, 0, 5, len(REQUEST) - 5, len(REQUEST) - 3, len(REQUEST), 1 << 40):
        assert scan_request(REQUEST, blank, FIELDS, Plain) is None


@pytest.mark.parametrize(
    "wrong", [(REQUEST.decode("latin-1"), 1, 1, Plain), (REQUEST,), (bytearray(REQUEST), 1, 1, Plain)]
)
def test_anything_but_bytes_is_a_type_error(wrong: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        scan_request(*wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        scan_response(bytearray(RESPONSE))  # type: ignore[arg-type]


def test_more_fields_than_allowed_are_left_to_the_general_path() -> None:
    assert agrees_on_request(REQUEST, len(REQUEST) - 4, 7)
    assert not agrees_on_request(REQUEST, len(REQUEST) - 4, 6)


def test_every_byte_in_every_place() -> None:
    """No substitution of one byte makes the two differ, and plenty are accepted."""
    accepted = 0
    for place in range(len(REQUEST)):
        for byte in range(256):
            data = REQUEST[:place] + bytes((byte,)) + REQUEST[place + 1 :]
            accepted += agrees_on_request(data, len(data) - 4)
    assert accepted > 10_000
    accepted = 0
    for place in range(len(CLOSING)):
        for byte in range(256):
            data = CLOSING[:place] + bytes((byte,)) + CLOSING[place + 1 :]
            accepted += agrees_on_request(data, len(data) - 4)
    assert accepted > 1_000
    accepted = 0
    for place in range(len(RESPONSE)):
        for byte in range(256):
            accepted += agrees_on_response(RESPONSE[:place] + bytes((byte,)) + RESPONSE[place + 1 :])
    assert accepted > 10_000


def test_every_cut() -> None:
    for end in range(len(REQUEST)):
        assert not agrees_on_request(REQUEST[:end], end - 4)
        assert scan_response(RESPONSE[: min(end, len(RESPONSE) - 1)]) is None
    assert scan_response(RESPONSE + b"!") is None


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(STARTS), st.lists(st.sampled_from(LINES), max_size=6), st.binary(max_size=4))
@example(b"GET / HTTP/1.1", [b"Host: a", b"!#$%&'*+-.^_`|~0: x"], b"")
def test_heads_of_pieces(start: bytes, lines: list[bytes], rest: bytes) -> None:
    data = b"\r\n".join([start, *lines, b"", b""])
    try:
        read_request(data + rest, len(data) - 4, FIELDS)
    except RequestError:
        assert scan_request(data + rest, len(data) - 4, FIELDS, Plain) is None
    agrees_on_request(data + rest, len(data) - 4)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(STATUSES), st.lists(st.sampled_from(LINES), max_size=5), st.sampled_from([b"", b"abc", b"abcd"]))
def test_responses_of_pieces(start: bytes, lines: list[bytes], body: bytes) -> None:
    agrees_on_response(b"\r\n".join([start, *lines, b"", b""]) + body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    agrees_on_request(data, data.find(b"\r\n\r\n"))
    agrees_on_response(data)


def test_what_plain_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        scan_request(CLOSING, len(CLOSING) - 4, FIELDS, lambda length, close: 1 // 0)


def test_it_keeps_nothing() -> None:
    """References are counted right: a leak or a double free of what it returns shows in the counts."""
    before = sys.getrefcount(REQUEST), sys.getrefcount(None)
    for _ in range(20_000):
        scan_request(REQUEST, len(REQUEST) - 4, FIELDS, Plain)
        scan_request(CLOSING, len(CLOSING) - 4, FIELDS, Plain)
        scan_response(REQUEST)
    assert sys.getrefcount(REQUEST) == before[0]
    assert abs(sys.getrefcount(None) - before[1]) < 5_000
