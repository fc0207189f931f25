"""Exchange as plugins see it, and Response as it goes on the wire."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.exchange import Exchange
from lb_core.headers import Headers
from lb_core.response import Response

HEAD = b"POST /a%20b?q=1?2 HTTP/1.1\r\nHost: Example.com:80\r\nX-One: 1\r\n\r\n"


class Client:
    peer = "192.0.2.1"
    scheme = "https"
    port = 443


def exchange() -> Exchange:
    route: Any = SimpleNamespace(serving=None)
    made = Exchange(route, Client(), "192.0.2.1", b"POST", b"/a%20b?q=1?2", b"example.com", HEAD)
    made.raw_request_id = b"id-1"
    return made


def test_what_a_plugin_reads() -> None:
    it = exchange()
    assert (it.method, it.target, it.path, it.query) == ("POST", "/a%20b?q=1?2", "/a%20b", "q=1?2")
    assert (it.host, it.scheme, it.client, it.request_id) == ("example.com", "https", "192.0.2.1", "id-1")
    assert it.headers["x-one"] == "1"
    assert it.headers is it.headers
    assert repr(it) == "<Exchange POST example.com/a%20b?q=1?2 open>"


def test_response_headers_are_those_of_the_backends_head() -> None:
    it = exchange()
    it.response_head = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"
    it.status = 200
    assert it.response_headers.fields() == [("Server", "x")]
    assert not it.response_headers.changed
    it.response_headers["X-Two"] = "2"
    assert it.response_headers.changed
    assert repr(it).endswith(" 200>")


def test_state_is_kept_for_the_exchange() -> None:
    it, other = exchange(), exchange()
    key = object()
    it.state[key] = 1
    assert it.state == {key: 1}
    assert other.state == {}


def test_a_transform_makes_the_engine_look() -> None:
    class Nothing:
        def feed(self, data: bytes) -> bytes:
            return data

        def finish(self) -> bytes:
            return b""

    it = exchange()
    it.response_head = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert it.transform is None
    assert not it.response_headers.changed
    it.transform = made = Nothing()
    assert it.transform is made
    assert it.response_headers.changed
    assert it.client_scheme == "https"


def test_times() -> None:
    it = exchange()
    assert it.elapsed >= 0.0
    assert it.duration == 0.0
    it.ended = it.started + 2.5
    assert it.duration == pytest.approx(2.5)


def test_flags_are_words_said_once() -> None:
    it = exchange()
    it.flag("retried")
    it.flag("reset")
    it.flag("retried")
    assert it.flags == ("retried", "reset")


def test_a_response_of_text() -> None:
    made = Response(429, "slow down", headers={"Retry-After": "5"})
    assert made.encode() == (
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 9\r\n\r\nslow down"
    )
    assert made.encode(connection=b"Connection: close\r\n", without_body=True).endswith(
        b"Content-Length: 9\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("status", "length"), [(200, b"Content-Length: 0\r\n"), (205, b"Content-Length: 0\r\n"), (204, b""), (304, b"")]
)
def test_a_response_without_body(status: int, length: bytes) -> None:
    encoded = Response(status).encode()
    assert encoded.startswith(b"HTTP/1.1 %d " % status)
    assert encoded.endswith(b"\r\n%b\r\n" % length)
    assert b"Content-Type" not in encoded


def test_an_unknown_status_has_a_reason_too() -> None:
    assert Response(599).encode().startswith(b"HTTP/1.1 599 Unknown\r\n")


def test_a_name_that_stands_there_twice() -> None:
    pairs = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    for headers in (pairs, iter(pairs), Headers(pairs)):
        assert b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n" in Response(200, "", headers).encode()


def test_a_content_type_of_ones_own_in_any_case() -> None:
    encoded = Response(200, b"{}", {"content-TYPE": "application/json"}).encode()
    assert encoded.lower().count(b"content-type") == 1


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600])
def test_a_status_that_is_not_final_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="final"):
        Response(status)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_body_where_there_is_none_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="no body"):
        Response(status, "x")


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nY: b"}, {"a b": "c"}, {"Content-Length": "5"}, {"transfer-encoding": "chunked"}]
)
def test_fields_that_must_not_go_on_the_wire_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        Response(200, headers=headers)


def test_problem_as_text_and_as_json() -> None:
    text = Response.problem(404, "no_route", "no route for example.com", headers={"X-A": "b"})
    assert text.encode().endswith(b"\r\n\r\nno route for example.com\n")
    assert b"X-A: b\r\n" in text.encode()
    made = Response.problem(404, "no_route", 'no "route"', as_json=True, headers={"content-type": "x/y"})
    head, _, body = made.encode().partition(b"\r\n\r\n")
    assert json.loads(body) == {"error": "no_route", "detail": 'no "route"'}
    assert head.lower().count(b"content-type") == 1
    assert b"Content-Type: application/json" in head


class Parsed:
    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


@given(
    st.integers(200, 599),
    st.binary(max_size=50),
    st.dictionaries(st.text("ab", min_size=1), st.text("xyz ä"), max_size=3),
)
def test_every_response_is_one_whole_http_message(status: int, body: bytes, headers: dict[str, str]) -> None:
    body = b"" if status in (204, 205, 304) else body
    parsed = Parsed()
    parser = httptools.HttpResponseParser(parsed)
    parser.feed_data(Response(status, body, headers).encode())
    assert parser.get_status_code() == status
    assert parsed.body == body
    assert parsed.complete
    for name, value in headers.items():
        if len({key.lower() for key in headers}) == len(headers):
            assert parsed.headers[name.lower().encode()].decode("latin-1").strip() == value.strip()


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ("Cookie: a=1; b=2\r\n", "2"),
        ("cookie: b=2\r\nCookie: b=3\r\n", "2"),
        ("Cookie: a=1\r\nCookie: b= 2 \r\n", " 2"),
        ("Cookie: xb=1; B=3\r\n", ""),
        ("Cookie: b=\r\n", ""),
        ("X: b=2\r\n", ""),
        ("", ""),
    ],
)
def test_cookie(fields: str, value: str) -> None:
    route: Any = SimpleNamespace(serving=None)
    head = f"GET / HTTP/1.1\r\nHost: a\r\n{fields}".encode()
    assert Exchange(route, Client(), "192.0.2.1", b"GET", b"/", b"a", head).cookie("b") == value
