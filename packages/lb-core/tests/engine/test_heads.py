"""Heads: what is accepted, what is refused, and that nothing but what must go is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.engine.heads import cut, field_value
from lb_core.engine.request_heads import read_request
from lb_core.engine.response_heads import (
    ResponseHead,
    check_ordinary_response,
    plain_status,
    read_response,
)
from lb_core.errors import RequestError

if TYPE_CHECKING:
    from lb_core.engine.special import Special

FIELDS_MOST = 100


class Read:
    """A request head as it was read, by name."""

    def __init__(self, data: bytes, blank: int | None = None) -> None:
        at = data.index(b"\r\n\r\n") if blank is None else blank
        self.method, self.target, self.host, self.head, self.special, self.end = read_request(data, at, FIELDS_MOST)

    @property
    def asked(self) -> Special:
        assert self.special is not None
        return self.special

    @property
    def forwarded(self) -> bytes:
        """The field lines as they go on, without the request line and without those we add."""
        special = self.special
        head = self.head if special is None else cut(self.head, special.cuts) + special.restated
        return head.partition(b"\r\n")[2]

    @property
    def sent(self) -> list[bytes]:
        """The same as a list, without Host."""
        return [line for line in self.forwarded.split(b"\r\n")[:-1] if not line.startswith(b"Host: example.com")]


def request(*fields: bytes, line: bytes = b"GET /path HTTP/1.1", host: bytes = b"Host: example.com") -> bytes:
    lines = [line, host, *fields] if host else [line, *fields]
    return b"".join(each + b"\r\n" for each in lines) + b"\r\n"


def refused(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        Read(data)
    return caught.value


def outcome(data: bytes) -> Read | RequestError:
    try:
        return Read(data)
    except RequestError as error:
        return error


def assert_good_request_passes() -> None:
    """The parser that requests share carries nothing over."""
    assert Read(request()).special is None


# The ordinary request


def test_the_ordinary_request_has_nothing_special() -> None:
    data = request(b"User-Agent: x", b"Connection: keep-alive", b"Accept: */*")
    read = Read(data)
    assert (read.method, read.target, read.host, read.special) == (b"GET", b"/path", b" example.com", None)
    assert read.end == len(data)
    assert read.head + b"\r\n" == data


def test_what_follows_the_head_is_left_alone() -> None:
    first = request(b"A: b")
    read = Read(first + b"POST /next HTTP/1.1\r\nbroken")
    assert read.end == len(first)
    assert read.head + b"\r\n" == first


@pytest.mark.parametrize("second", [b"", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: close"])
def test_the_blank_line_is_found_where_requests_are_pipelined(second: bytes) -> None:
    """The caller guesses the blank line at the end of the data; the first one counts."""
    first = request(b"Connection: keep-alive")
    data = first + request(*([second] if second else []), line=b"POST /second HTTP/1.1")
    read = Read(data, len(data) - 4)
    assert (read.method, read.target, read.end, read.special) == (b"GET", b"/path", len(first), None)


def test_a_body_that_ends_in_a_blank_line_is_no_head() -> None:
    head = request(b"Content-Length: 26", line=b"POST /a HTTP/1.1")
    data = head + b"Transfer-Encoding: x\r\n\r\n\r\n"
    read = Read(data, len(data) - 4)
    assert read.end == len(head)
    assert read.asked.length == 26
    assert not read.asked.chunked


# Rules, in the order of the module's docstring


@pytest.mark.parametrize("value", [b" chunked", b" Chunked", b"chunked", b"\tchunked", b"  CHUNKED "])
def test_transfer_encoding_is_passed_in_its_plain_form(value: bytes) -> None:
    read = Read(request(b"Transfer-Encoding:" + value, line=b"POST / HTTP/1.1"))
    assert read.asked.chunked
    assert read.asked.has_body
    lines = [line for line in read.forwarded.split(b"\r\n") if line.lower().startswith(b"transfer-encoding")]
    assert [line.lower() for line in lines] == [b"transfer-encoding: chunked"]


@pytest.mark.parametrize(
    "fields",
    [
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked, chunked",),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: chunked, gzip",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked;q=1",),
        (b"Transfer-Encoding: chunked,",),
        (b"Transfer-Encoding: 'chunked'",),
        (b"Transfer-Encoding:",),
        (b"Transfer-Encoding: \x0bchunked",),
        (b"Transfer-Encoding : chunked",),
        (b"Transfer-Encoding\t: chunked",),
        (b"Transfer-Encoding: chun\nked",),
        (b"X: y\nTransfer-Encoding: chunked",),
        (b"X: y\rTransfer-Encoding: chunked",),
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5", b"content-length: 6"),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: +5",),
        (b"Content-Length: -5",),
        (b"Content-Length: 0x5",),
        (b"Content-Length: 5_0",),
        (b"Content-Length: 5 0",),
        (b"Content-Length: 5.0",),
        (b"Content-Length: ",),
        (b"Content-Length: five",),
        (b"Content-Length: " + b"9" * 19,),
        (b"Content-Length: " + b"9" * 400,),
        (b"Content-Length : 5",),
        (b"Content-Length: 5\x0b",),
        (b"Content-Length: \xb2",),
    ],
    ids=lambda fields: b" | ".join(fields).decode("latin-1")[:40],
)
def test_framing_that_cannot_be_trusted_is_refused(fields: tuple[bytes, ...]) -> None:
    for line in (b"POST / HTTP/1.1", b"GET / HTTP/1.1", b"POST / HTTP/1.0"):
        assert refused(request(*fields, line=line)).status == 400
        assert_good_request_passes()


def test_transfer_encoding_in_http10_is_refused() -> None:
    assert refused(request(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")).word == "bad_framing"


@pytest.mark.parametrize(
    ("value", "length", "sent"),
    [
        (b" 5", 5, b"Content-Length: 5"),
        (b"5", 5, b"Content-Length: 5"),
        (b"\t5 ", 5, b"Content-Length: 5"),
        (b" 0", 0, b"Content-Length: 0"),
        (b" 007", 7, b"Content-Length: 7"),
        (b" " + b"9" * 18, 10**18 - 1, b"Content-Length: " + b"9" * 18),
        (b" " + b"0" * 17 + b"5", 5, b"Content-Length: 5"),
    ],
)
def test_content_length_is_passed_in_its_plain_form(value: bytes, length: int, sent: bytes) -> None:
    for method in (b"POST", b"GET", b"HEAD", b"DELETE"):
        read = Read(request(b"Content-Length:" + value, line=method + b" / HTTP/1.1"))
        assert read.asked.length == length
        assert read.asked.has_body is (length > 0)
        found = [line for line in read.forwarded.split(b"\r\n") if line.lower().startswith(b"content-length")]
        assert found == [sent]
    assert_good_request_passes()


def test_one_host_is_needed() -> None:
    assert refused(request(host=b"")).word == "bad_host"
    assert refused(request(b"host: example.com")).word == "bad_host"
    assert refused(request(b"Host: other", host=b"HOST: example.com")).word == "bad_host"
    assert Read(request(host=b"", line=b"GET / HTTP/1.0")).host is None
    assert Read(request(host=b"Host:")).host == b""
    assert (Read(request(host=b"hOsT:\tExample.COM ")).host or b"").lower() == b"\texample.com "


@pytest.mark.parametrize(
    ("target", "host", "origin"),
    [
        (b"http://Other.example", b"other.example", b"/"),
        (b"http://other.example/", b"other.example", b"/"),
        (b"HTTP://other.example:8080/a?b=c", b"other.example:8080", b"/a?b=c"),
        (b"https://other.example?b", b"other.example", b"/?b"),
        (b"http://[2001:DB8::1]:80/x//y", b"[2001:db8::1]:80", b"/x//y"),
        (b"http://other.example:/x", b"other.example:", b"/x"),
    ],
)
def test_the_absolute_form_names_the_host(target: bytes, host: bytes, origin: bytes) -> None:
    for version in (b" HTTP/1.1", b" HTTP/1.0"):
        read = Read(request(b"A: b", line=b"GET " + target + version))
        assert (read.target, read.host) == (origin, b" " + host)
        assert read.asked.absolute_host.lower() == host
        assert b"\nhost:" not in b"\n" + read.forwarded.lower()
    assert_good_request_passes()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"OPTIONS * HTTP/1.1", 0),
        (b"OPTIONS http://a HTTP/1.1", 0),
        (b"GET * HTTP/1.1", 400),
        (b"OPTIONS ** HTTP/1.1", 400),
        (b"GET /a#b HTTP/1.1", 400),
        (b"GET http://a/#b HTTP/1.1", 400),
        (b"GET http://user@a/ HTTP/1.1", 400),
        (b"GET http://user:word@a/ HTTP/1.1", 400),
        (b"GET http:///a HTTP/1.1", 400),
        (b"GET http:a HTTP/1.1", 400),
        (b"GET http://[::1/ HTTP/1.1", 400),
        (b"GET http://[zz]/ HTTP/1.1", 400),
        (b"GET http://a:b/ HTTP/1.1", 400),
        (b"GET http://a:123456/ HTTP/1.1", 400),
        (b"GET http://a\\b/ HTTP/1.1", 400),
        (b"GET http://\xe9/ HTTP/1.1", 400),
        (b"GET ftp://a/ HTTP/1.1", 400),
        (b"GET file:///etc/passwd HTTP/1.1", 400),
        (b"GET a HTTP/1.1", 400),
        (b"GET example.com:80 HTTP/1.1", 400),
        (b"GET /\x80 HTTP/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /a\tb HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET /\tHTTP/1.1", 400),
        (b"GET\t/\tHTTP/1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.1x", 400),
        (b"GET / HTTP/01.1", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/ 1.1", 400),
        (b"GET /", 400),
        (b"GET", 400),
        (b"", 400),
        (b"GET / RTSP/1.0", 400),
        (b"SOURCE / ICE/1.0", 400),
        (b"GET / HTTP/0.9", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/2", 505),
        (b"GET / HTTP/2.0", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"PRI / HTTP/1.1", 400),
        (b"get / HTTP/1.1", 400),
        (b"FOO / HTTP/1.1", 400),
        (b"DESCRIBE / HTTP/1.1", 400),
        (b"G\x00T / HTTP/1.1", 400),
        (b"CONNECT /a HTTP/1.1", 405),
        (b"CONNECT a:443 HTTP/1.1", 405),
        (b"TRACE / HTTP/1.1", 405),
        (b"TRACE / HTTP/1.0", 405),
        (b"CONNECT / HTTP/1.0", 405),
    ],
    ids=lambda value: value.decode("latin-1") if isinstance(value, bytes) else str(value),
)
def test_request_lines(line: bytes, status: int) -> None:
    if status:
        assert refused(request(line=line)).status == status
    else:
        assert Read(request(line=line)).target == b"*"
    assert_good_request_passes()


def test_a_line_without_any_space_is_refused() -> None:
    assert refused(b"GET\r\nHost:x\r\n\r\n").word == "bad_head"


def test_a_request_line_may_be_one_http_2_preface() -> None:
    assert refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 505


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"PURGE"])
def test_methods_that_pass(method: bytes) -> None:
    assert Read(request(line=method + b" /a HTTP/1.1")).method == method


def test_an_absolute_form_needs_a_proper_host_field_all_the_same() -> None:
    line = b"GET http://a/ HTTP/1.1"
    assert refused(request(line=line, host=b"")).word == "bad_host"
    assert refused(request(line=line, host=b"Host: a b")).word == "bad_host"
    assert refused(request(b"Host: b", line=line)).word == "bad_host"
    assert Read(request(line=line, host=b"Host: b")).host == b" a"
    assert Read(request(line=b"GET http://a/ HTTP/1.0", host=b"")).host == b" a"


@pytest.mark.parametrize("fold", [b" folded", b"\tfolded", b" ", b"\t"])
@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET / HTTP/1.0"])
def test_folded_lines_are_refused(fold: bytes, line: bytes) -> None:
    assert refused(request(b"A: b", fold, line=line)).status == 400
    assert refused(request(line=line, host=fold)).status == 400
    assert refused(request(b"Transfer-Encoding:", fold + b"chunked", line=line)).status == 400
    assert_good_request_passes()


@pytest.mark.parametrize(
    "field",
    [
        b"A\x00: b", b"A: b\x00", b"A: \x01", b"A: \x7f", b"A: b\nC: d", b"A: b\rC: d", b"A: b\n", b"A: b\r",
        b"A : b", b"A\t: b", b": b", b"A", b"A@: b", b"A(: b", b"A\xe9: b", b'"A": b', b"A b: c",
    ],
)  # fmt: skip
def test_malformed_fields_are_refused_and_leave_nothing_behind(field: bytes) -> None:
    for more in ((), (b"Connection: close",), (b"X-Forwarded-For: 1.2.3.4",)):
        assert refused(request(field, *more)).status == 400
        assert_good_request_passes()


def test_values_may_hold_tabs_and_bytes_of_latin_1() -> None:
    assert Read(request(b"A: b\tc", b"B: \x80\xff", b"C:", b"D:\t")).special is None


def test_fields_are_limited_in_number() -> None:
    assert Read(request(*[b"A: b"] * (FIELDS_MOST - 1))).special is None
    assert refused(request(*[b"A: b"] * FIELDS_MOST)).status == 431


# Connection and the fields that belong to one connection


@pytest.mark.parametrize(
    ("fields", "close", "sent"),
    [
        ([b"Connection: keep-alive"], False, []),
        ([b"Connection: Keep-Alive"], False, []),
        ([b"connection:keep-alive"], False, []),
        ([b"Connection:\tkeep-alive"], False, []),
        ([b"Connection: keep-alive "], False, []),
        ([b"Connection: close"], True, []),
        ([b"CONNECTION: CLOSE"], True, []),
        ([b"Connection: keep-alive, close"], True, []),
        ([b"Connection: close", b"Connection: keep-alive"], True, []),
        ([b"Connection: keep-alive", b"Connection: close"], True, []),
        ([b"Connection: keep-alive", b"Connection: keep-alive"], False, []),
        ([b"Connection:"], False, []),
        ([b"Connection: ,, ,"], False, []),
        ([b"Connection: upgrade"], False, []),
        ([b"Connection: X-Private", b"X-Private: 1", b"x-private: 2", b"X-Private2: 3"], False, [b"X-Private2: 3"]),
        ([b"X-A: 1", b"Connection: x-a , X-B", b"X-B:", b"X-C: 2"], False, [b"X-C: 2"]),
        ([b"Connection: close, keep-alive, X-A", b"Keep-Alive: timeout=5", b"X-A: b"], True, []),
        ([b"Proxy-Connection: close"], False, []),
        ([b"Proxy_Connection: close"], False, []),
        ([b"TE: trailers", b"Trailer: X-Sum", b"Keep-Alive: 5"], False, []),
        ([b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"], False, []),
        ([b"Ted: 1", b"X-TE: 2", b"Trailers: 3"], False, [b"Ted: 1", b"X-TE: 2", b"Trailers: 3"]),
    ],
)
def test_hop_by_hop_fields(fields: list[bytes], close: bool, sent: list[bytes]) -> None:
    """A plain `Connection: keep-alive` may stay, since it tells the backend what it assumes anyway."""
    read = Read(request(*fields))
    assert (read.special is not None and read.special.close) is close
    assert [line for line in read.sent if line.lower() != b"connection: keep-alive"] == sent
    assert_good_request_passes()


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"transfer-encoding"])
def test_connection_must_not_name_framing(name: bytes) -> None:
    assert refused(request(b"Connection: close, " + name)).word == "bad_head"


@pytest.mark.parametrize("value", [b"a b", b"close x", b"a;b", b"\xe9", b"(a)"])
def test_connection_names_tokens(value: bytes) -> None:
    assert refused(request(b"Connection: " + value)).status == 400
    assert_good_request_passes()


# Forwarding fields


@pytest.mark.parametrize(
    "name",
    [
        b"X-Forwarded-For", b"x-forwarded-for", b"X_Forwarded_For", b"X-Forwarded_For", b"X_Forwarded-Proto",
        b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port", b"X-Forwarded-Prefix", b"X-FORWARDED-SSL",
        b"X-Real-IP", b"X_Real_IP", b"Forwarded", b"X_Request_Id", b"Content_Length", b"Transfer_Encoding",
    ],
)  # fmt: skip
def test_what_a_client_says_about_itself_goes(name: bytes) -> None:
    read = Read(request(name + b": 1.2.3.4", b"A: b"))
    assert read.sent == [b"A: b"]
    assert not read.asked.chunked
    assert read.asked.length == -1


def test_forwarded_for_is_kept_apart_for_those_who_are_trusted() -> None:
    read = Read(request(b"X-Forwarded-For: 1.1.1.1, 2.2.2.2", b"X_Forwarded_For: 9.9.9.9", b"x-forwarded-for:\t::1 "))
    assert read.asked.forwarded_for == [b"1.1.1.1, 2.2.2.2", b"::1"]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([b"X-Request-Id: aB-1"], b"aB-1"),
        ([b"x-request-id:\taB-1 "], b"aB-1"),
        ([b"X-Request-Id: " + b"a" * 200], b"a" * 200),
        ([b"X-Request-Id: " + b"a" * 201], b""),
        ([b"X-Request-Id: a b"], b""),
        ([b"X-Request-Id: \xe9"], b""),
        ([b"X-Request-Id:"], b""),
        ([b"X-Request-Id: a", b"X-Request-Id: b"], b""),
        ([b"Connection: X-Request-Id", b"X-Request-Id: a"], b""),
    ],
)
def test_one_request_id_is_kept(fields: list[bytes], kept: bytes) -> None:
    read = Read(request(*fields))
    assert read.asked.request_id == kept
    assert (b"x-request-id" in read.forwarded.lower()) is bool(kept)


# Expect, Upgrade, HTTP/1.0


def test_expect() -> None:
    read = Read(request(b"Expect: 100-Continue", b"Content-Length: 1", line=b"POST / HTTP/1.1"))
    assert read.asked.expect
    assert b"Expect: 100-Continue\r\n" in read.forwarded
    assert refused(request(b"Expect: 200-ok")).status == 417
    assert refused(request(b"Expect:")).status == 417
    old = Read(request(b"Expect: 100-continue", b"Content-Length: 1", line=b"POST / HTTP/1.0"))
    assert not old.asked.expect
    assert b"expect" not in old.forwarded.lower()


@pytest.mark.parametrize(
    ("fields", "tunnel"),
    [
        ([b"Connection: Upgrade", b"Upgrade: WebSocket"], True),
        ([b"Upgrade: websocket", b"Connection: keep-alive, upgrade"], True),
        ([b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 0"], True),
        ([b"Upgrade: websocket"], False),
        ([b"Connection: Upgrade", b"Upgrade: h2c"], False),
        ([b"Connection: Upgrade", b"Upgrade: websocket, h2c"], False),
        ([b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket"], False),
        ([b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c"], False),
        ([b"Connection: Upgrade", b"Upgrade:", b"Upgrade: websocket"], False),
        ([b"Connection: Upgrade", b"Upgrade: websocket/13"], False),
        ([b"Connection: Upgrade", b"Upgrade:"], False),
        ([b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAM"], False),
    ],
)
def test_only_a_websocket_is_an_upgrade(fields: list[bytes], tunnel: bool) -> None:
    read = Read(request(*fields))
    assert (read.asked.upgrade == b"websocket") is tunnel
    assert bool(read.asked.upgrade) is tunnel
    assert (b"upgrade" in b"".join(read.sent).lower()) is tunnel
    assert b"connection" not in b"".join(read.sent).lower()
    assert_good_request_passes()


def test_an_upgrade_carries_no_body() -> None:
    upgrade = (b"Connection: Upgrade", b"Upgrade: websocket")
    assert refused(request(*upgrade, b"Content-Length: 1")).word == "bad_framing"
    assert refused(request(*upgrade, b"Transfer-Encoding: chunked")).word == "bad_framing"
    assert_good_request_passes()


@pytest.mark.parametrize(
    ("fields", "close"),
    [
        ([], True),
        ([b"Connection: keep-alive"], False),
        ([b"Connection: Keep-Alive"], False),
        ([b"Connection: close"], True),
        ([b"Connection: keep-alive", b"Connection: close"], True),
        ([b"Connection: Upgrade, keep-alive", b"Upgrade: websocket"], True),
    ],
)
def test_http10_closes_unless_asked_not_to(fields: list[bytes], close: bool) -> None:
    read = Read(request(b"A: b", *fields, line=b"GET / HTTP/1.0"))
    assert read.asked.http10
    assert read.asked.close is close
    assert not read.asked.upgrade
    assert read.sent == [b"A: b"]
    assert_good_request_passes()


# Properties

NAMES = st.sampled_from(
    [
        b"Accept", b"X-Custom", b"Cookie", b"Ted", b"Hosts", b"X-Forwarded", b"Via", b"Authorization", b"X-TE",
        b"X-Forwarded-For", b"x-real-ip", b"X_Forwarded_Host", b"Forwarded", b"TE", b"Trailer", b"Keep-Alive",
        b"Proxy-Connection", b"Upgrade", b"Connection", b"X-Request-Id",
    ]
)  # fmt: skip
VALUES = st.sampled_from([b" a", b"b", b"\tc d\t", b"", b" X-Custom", b" close", b" keep-alive, Cookie", b" \xe9"])
GO_ALWAYS = {
    b"x-forwarded-for", b"x-real-ip", b"x_forwarded_host", b"forwarded", b"te", b"trailer", b"keep-alive",
    b"proxy-connection", b"upgrade",
}  # fmt: skip
CASES = st.sampled_from([bytes, bytes.lower, bytes.upper, bytes.swapcase])
LINES = st.lists(st.builds(lambda name, case, value: case(name) + b":" + value, NAMES, CASES, VALUES), max_size=12)


def name_of(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


@given(LINES)
def test_what_remains_is_unchanged_and_in_order(lines: list[bytes]) -> None:
    read = outcome(request(*lines))
    connection = b"".join(line for line in lines if name_of(line) == b"connection")
    if isinstance(read, RequestError):
        assert read.status == 400
        assert b"\xe9" in connection or b"c d" in connection
        return
    named = {
        token.strip(b" \t").lower()
        for line in lines
        if name_of(line) == b"connection"
        for token in line.partition(b":")[2].split(b",")
    }
    left = read.sent
    gone = GO_ALWAYS | named
    for line in left:
        assert name_of(line) not in gone
        assert name_of(line) != b"connection" or line.lower() == b"connection: keep-alive"
    ordinary = [line for line in lines if name_of(line) not in gone | {b"connection", b"x-request-id"}]
    assert [line for line in left if name_of(line) not in (b"connection", b"x-request-id")] == ordinary
    assert sum(name_of(line) == b"x-request-id" for line in left) <= 1
    assert_good_request_passes()


@given(st.lists(st.sampled_from([b"Accept: x", b"Cookie: a=b", b"X-A:\t1", b"Connection: keep-alive"]), max_size=6))
def test_the_general_path_forwards_what_the_fast_one_does(lines: list[bytes]) -> None:
    fast = Read(request(*lines))
    general = Read(request(*lines, b"X-Forwarded-For: 1.2.3.4"))
    assert fast.special is None
    assert general.special is not None
    assert general.forwarded == fast.forwarded
    assert (general.method, general.target, general.host) == (fast.method, fast.target, fast.host)


@given(st.binary(max_size=60), st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"]))
def test_garbage_is_refused_or_read_and_leaves_nothing_behind(garbage: bytes, before: bytes) -> None:
    data = before + garbage + b"\r\n\r\n"
    read = outcome(data)
    if isinstance(read, RequestError):
        assert read.status in (400, 405, 417, 431, 505)
        assert read.detail
    else:
        assert read.end == data.index(b"\r\n\r\n") + 4
    assert_good_request_passes()


@given(st.lists(st.sampled_from([b"A: 1", b"a:2", b"AB: 3", b"B:", b"B: a: b"]), max_size=8), st.data())
def test_cut_takes_whole_lines_by_name(lines: list[bytes], data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from([b"a:", b"b:", b"ab:", b"missing:"]), max_size=4))
    head = b"GET /a:b HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines)
    kept = [line for line in lines if name_of(line) + b":" not in names]
    assert cut(head, names) == b"GET /a:b HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in kept)


def test_field_value() -> None:
    rest = b"HTTP/1.1\r\nX-A:\tOne Two \r\nB:\r\nX-A: second\r\n"
    assert field_value(rest, rest.lower(), b"x-a:") == b"One Two"
    assert field_value(rest, rest.lower(), b"b:") == b""
    assert field_value(rest, rest.lower(), b"a:") == b""


# Responses


def response(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(each + b"\r\n" for each in (line, *fields)) + b"\r\n"


def answered(data: bytes) -> ResponseHead:
    head = read_response(data, data.index(b"\r\n\r\n"))
    assert head is not None
    return head


def test_an_ordinary_response() -> None:
    data = response(b"Content-Length: 5", b"Content-Type: text/plain")
    head = answered(data + b"hello")
    assert (head.status, head.length, head.chunked, head.keep, head.end) == (200, 5, False, True, len(data))
    assert head.cuts == []


@pytest.mark.parametrize(
    "data",
    [
        response(line=b"HTTP/2 200 OK"),
        response(line=b"HTTP/1.2 200 OK"),
        response(line=b"http/1.1 200 OK"),
        response(line=b"HTTP/1.1  200 OK"),
        response(line=b"HTTP/1.1 20 OK"),
        response(line=b"HTTP/1.1 2000 OK"),
        response(line=b"HTTP/1.1 2x0 OK"),
        response(line=b"HTTP/1.1 200OK"),
        response(line=b"ICY 200 OK"),
        response(line=b"HTTP/1.1 200 O\rK"),
        response(line=b"HTTP/1.1 200 OK\nA: b"),
        response(b"Content-Length: 5", b"Content-Length: 5"),
        response(b"Content-Length: 5, 5"),
        response(b"Content-Length: -5"),
        response(b"Content-Length: +5"),
        response(b"Content-Length: 1_0"),
        response(b"Content-Length:"),
        response(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        response(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        response(b"Transfer-Encoding: gzip, chunked"),
        response(b"Transfer-Encoding: identity"),
        response(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"),
        response(b"Connection: Content-Length"),
        response(b"Connection: a b"),
        response(b"A: b", b" folded"),
        response(b"\tfolded"),
        response(b"A : b"),
        response(b"A: \x00"),
        response(b"A: b\nC: d"),
        response(b"A: b\rC: d"),
        response(b"A"),
    ],
    ids=lambda data: data.decode("latin-1").replace("HTTP/1.1 200 OK\r\n", "", 1).strip()[:50],
)
def test_responses_that_cannot_be_trusted(data: bytes) -> None:
    assert read_response(data, data.index(b"\r\n\r\n")) is None


def test_a_blank_line_inside_is_no_response_head() -> None:
    data = response(b"A: b") + response(b"C: d")
    assert read_response(data, len(data) - 4) is None


@pytest.mark.parametrize(
    ("line", "fields", "keep"),
    [
        (b"HTTP/1.1 200 OK", [], True),
        (b"HTTP/1.1 200 OK", [b"Connection: keep-alive"], True),
        (b"HTTP/1.1 200 OK", [b"Connection: close"], False),
        (b"HTTP/1.1 200 OK", [b"Connection: close, keep-alive"], False),
        (b"HTTP/1.1 200 OK", [b"Connection: close", b"Connection: Keep-Alive, x"], False),
        (b"HTTP/1.1 200 OK", [b"Connection:\tCLOSE"], False),
        (b"HTTP/1.1 200 OK", [b"Connection:"], True),
        (b"HTTP/1.0 200 OK", [], False),
        (b"HTTP/1.0 200 OK", [b"Connection: keep-alive"], True),
        (b"HTTP/1.0 200 OK", [b"Connection: keep-alive", b"Connection: close"], False),
    ],
)
def test_whether_the_backend_goes_on(line: bytes, fields: list[bytes], keep: bool) -> None:
    assert answered(response(b"Content-Length: 0", *fields, line=line)).keep is keep


def test_fields_of_one_connection_are_cut_from_a_response() -> None:
    data = response(
        b"Connection: X-Private, keep-alive",
        b"X-Private: 1",
        b"Keep-Alive: timeout=5",
        b"Trailer: X-Sum",
        b"Upgrade: h2c",
        b"Proxy-Connection: keep-alive",
        b"Set-Cookie: a",
        b"Set-Cookie: b",
    )
    head = answered(data)
    assert not head.upgrade
    assert cut(data[: head.end - 2], head.cuts) == b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"


def test_switching_protocols_is_read() -> None:
    head = answered(response(b"Connection: Upgrade", b"Upgrade: websocket", line=b"HTTP/1.1 101 Switching Protocols"))
    assert (head.status, head.upgrade) == (101, True)


def test_cutting_a_thousand_fields_takes_no_time() -> None:
    data = response(*[b"Trailer: a"] * 5000)
    head = answered(data)
    assert cut(data[: head.end - 2], head.cuts) == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        (response(b"Content-Length: 2") + b"ok", True),
        (response(b"Content-Length:  02 ") + b"ok", True),
        (response(b"Content-Length: 2", line=b"HTTP/1.1 404 Not Found") + b"no", True),
        (response(b"Content-Length: 0", line=b"HTTP/1.1 205 Reset Content"), True),
        (response(b"Content-Length: 2", b"Connection: keep-alive") + b"ok", True),
        (response(b"Content-Length: 2", b"A : b") + b"ok", False),
        (response(b"Content-Length: 2", b"A: \x00") + b"ok", False),
        (response(b"Content-Length: 2", b"A: b\nC: d") + b"ok", False),
        (response(b"Content-Length: +2") + b"ok", False),
        (response(b"Content-Length: 1_0") + b"0123456789", False),
        (response(b"Content-Length: 2", line=b"HTTP/1.1 2000 OK") + b"ok", False),
    ],
)
def test_the_fast_way_of_a_response_agrees_with_the_general_one(data: bytes, accepted: bool) -> None:
    assert (plain_status(data) is not None and check_ordinary_response(data)) is accepted
    assert (read_response(data, data.index(b"\r\n\r\n")) is not None) is accepted
    assert check_ordinary_response(response(b"Content-Length: 2") + b"ok")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK", 200),
        (b"HTTP/1.1 404", 404),
        (b"HTTP/1.1 599 \xfcber", 599),
        (b"HTTP/1.1 204 No Content", None),
        (b"HTTP/1.1 304 Not Modified", None),
        (b"HTTP/1.1 101 Switching Protocols", None),
        (b"HTTP/1.0 200 OK", None),
        (b"HTTP/1.1 200 O\0K", None),
        (b"HTTP/1.1 200OK", None),
        (b"HTTP/1.1 600 OK", None),
    ],
)
def test_plain_responses_are_those_with_a_body(line: bytes, status: int | None) -> None:
    assert plain_status(line + b"\r\nA: b\r\n\r\n") == status


def test_a_status_line_with_control_characters_is_not_trusted() -> None:
    data = response(b"Content-Length: 0", line=b"HTTP/1.1 200 O\0K")
    assert read_response(data, data.index(b"\r\n\r\n")) is None
