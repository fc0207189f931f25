"""What is malformed or ambiguous is refused: by us, before a backend sees it, and without harm to anybody else.

Each request of the table is sent whole, byte by byte, and pipelined behind a good one; each response is the backend's
answer to one client while another's must stay its own. Positive controls keep a balancer that refuses everything from
passing.
"""

from __future__ import annotations

import pytest

from tests.support.backends import CLOSE, RESET, Backend, Request, Steps
from tests.support.balancing import Running, balancing, until
from tests.support.client import Client
from tests.support.wire import Cut, chunked, request, response

HOST = b"Host: example.com\r\n"
LIMITS = {"limits": {"target": "1KiB", "head": "4KiB", "fields": 20}}


def get(lines: bytes = HOST, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return line + b"\r\n" + lines + b"\r\n"


def line(text: bytes) -> bytes:
    return get(line=text)


def field(text: bytes) -> bytes:
    return get(HOST + text + b"\r\n")


def post(text: bytes, body: bytes = b"") -> bytes:
    return get(HOST + text + b"\r\n", b"POST / HTTP/1.1") + body


def host(text: bytes) -> bytes:
    return get(text + b"\r\n")


CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n"

REFUSED: dict[str, tuple[bytes, int]] = {
    # framing: RFC 9112 section 6
    "length and chunked": (post(b"Content-Length: 5\r\n" + CHUNKED, SMUGGLED), 400),
    "chunked and length": (post(CHUNKED + b"\r\nContent-Length: 5", SMUGGLED), 400),
    "two lengths": (post(b"Content-Length: 5\r\nContent-Length: 6", b"hello!"), 400),
    "the same length twice": (post(b"Content-Length: 5\r\nContent-Length: 5", b"hello"), 400),
    "lengths in a list": (post(b"Content-Length: 5, 5", b"hello"), 400),
    "length with plus": (post(b"Content-Length: +5", b"hello"), 400),
    "length with minus": (post(b"Content-Length: -5", b"hello"), 400),
    "hexadecimal length": (post(b"Content-Length: 0x5", b"hello"), 400),
    "length with a space within": (post(b"Content-Length: 5 5", b"hello"), 400),
    "length with a letter": (post(b"Content-Length: 5a", b"hello"), 400),
    "length in quotes": (post(b'Content-Length: "5"', b"hello"), 400),
    "length with an underscore": (post(b"Content-Length: 1_0", b"hellohello"), 400),
    "no length at all": (post(b"Content-Length:"), 400),
    "length of 20 digits": (post(b"Content-Length: 18446744073709551621", b"hello"), 400),
    "length in other digits": (post("Content-Length: ٥".encode(), b"hello"), 400),
    "chunked twice in a list": (post(CHUNKED + b", chunked", SMUGGLED), 400),
    "chunked in two fields": (post(CHUNKED + b"\r\n" + CHUNKED, SMUGGLED), 400),
    "chunked and a comma": (post(CHUNKED + b",", SMUGGLED), 400),
    "identity": (post(b"Transfer-Encoding: identity", SMUGGLED), 400),
    "identity and length": (post(b"Transfer-Encoding: identity\r\nContent-Length: 5", b"hello"), 400),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", SMUGGLED), 400),
    "chunked, identity": (post(CHUNKED + b", identity", SMUGGLED), 400),
    "xchunked": (post(b"Transfer-Encoding: xchunked", SMUGGLED), 400),
    "chunked with a parameter": (post(CHUNKED + b";q=1", SMUGGLED), 400),
    "chunked in quotes": (post(b'Transfer-Encoding: "chunked"', SMUGGLED), 400),
    "no coding at all": (post(b"Transfer-Encoding:", SMUGGLED), 400),
    "chunked behind a vertical tab": (post(b"Transfer-Encoding: \x0bchunked", SMUGGLED), 400),
    "chunked, folded": (post(b"Transfer-Encoding:\r\n chunked", SMUGGLED), 400),
    "chunked, space before colon": (post(b"Transfer-Encoding : chunked", SMUGGLED), 400),
    "length, space before colon": (post(b"Content-Length : 5", b"hello"), 400),
    "chunked in HTTP/1.0": (get(HOST + CHUNKED + b"\r\n", b"POST / HTTP/1.0") + SMUGGLED, 400),
    # fields: RFC 9112 section 5, RFC 9110 section 5.5
    "folded": (field(b"X-A: b\r\n c: d"), 400),
    "folded with a tab": (field(b"X-A: b\r\n\tc"), 400),
    "folded at once": (get(b" X-A: b\r\n" + HOST), 400),
    "no colon": (field(b"X-A"), 400),
    "no name": (field(b": b"), 400),
    "space before colon": (field(b"X-A : b"), 400),
    "tab before colon": (field(b"X-A\t: b"), 400),
    "space in a name": (field(b"X A: b"), 400),
    "bracket in a name": (field(b"X(A): b"), 400),
    "quote in a name": (field(b'X"A: b'), 400),
    "high byte in a name": (field(b"X\xe9: b"), 400),
    "NUL in a name": (field(b"X\0A: b"), 400),
    "NUL in a value": (field(b"X-A: b\0c"), 400),
    "control character in a value": (field(b"X-A: b\x01c"), 400),
    "DEL in a value": (field(b"X-A: b\x7fc"), 400),
    "bare CR in a value": (field(b"X-A: b\rContent-Length: 5"), 400),
    "bare LF in a value": (field(b"X-A: b\nX-B: c"), 400),
    "bare LF after the request line": (b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400),
    "bare LF throughout": (b"GET / HTTP/1.1\nHost: example.com\n\n" + get(), 400),
    "bare CR throughout": (b"GET / HTTP/1.1\rHost: example.com\r\r" + get(), 400),
    "CR CR LF": (b"GET / HTTP/1.1\r\r\n" + HOST + b"\r\n", 400),
    # Host: RFC 9112 section 3.2
    "no Host": (get(b"X-A: b\r\n"), 400),
    "two Hosts": (host(b"Host: example.com\r\nHost: other.example"), 400),
    "the same Host twice": (host(b"Host: example.com\r\nhost: example.com"), 400),
    "Host with a space": (host(b"Host: example.com other"), 400),
    "Host with a path": (host(b"Host: example.com/x"), 400),
    "Host with a user": (host(b"Host: me@example.com"), 400),
    "Host with a name for its port": (host(b"Host: example.com:http"), 400),
    "Host with two ports": (host(b"Host: example.com:80:80"), 400),
    "Host with an open bracket": (host(b"Host: [::1"), 400),
    "Host with an angle bracket": (host(b"Host: <b>"), 400),
    "Host with a scheme": (host(b"Host: http://example.com"), 400),
    "Host with a backslash": (host(b"Host: example.com\\x"), 400),
    # request line: RFC 9112 sections 2.3 and 3
    "HTTP/1.2": (line(b"GET / HTTP/1.2"), 505),
    "HTTP/2.0": (line(b"GET / HTTP/2.0"), 505),
    "HTTP/0.9": (line(b"GET / HTTP/0.9"), 505),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.10": (line(b"GET / HTTP/1.10"), 400),
    "HTTP/01.1": (line(b"GET / HTTP/01.1"), 400),
    "http/1.1": (line(b"GET / http/1.1"), 400),
    "no version": (line(b"GET /"), 400),
    "RTSP/1.0": (line(b"SETUP rtsp://example.com/ RTSP/1.0"), 400),
    "RTSP in HTTP": (line(b"PLAY / RTSP/1.0"), 400),
    "two spaces before the target": (line(b"GET  / HTTP/1.1"), 400),
    "two spaces before the version": (line(b"GET /  HTTP/1.1"), 400),
    "space at the end": (line(b"GET / HTTP/1.1 "), 400),
    "space in the target": (line(b"GET /a b HTTP/1.1"), 400),
    "space at the start": (line(b" GET / HTTP/1.1"), 400),
    "tab": (line(b"GET\t/\tHTTP/1.1"), 400),
    "bracket in the method": (line(b"GE(T / HTTP/1.1"), 400),
    "no method": (line(b" / HTTP/1.1"), 400),
    "CONNECT": (line(b"CONNECT example.com:443 HTTP/1.1"), 405),
    "CONNECT with a path": (line(b"CONNECT / HTTP/1.1"), 405),
    "TRACE": (line(b"TRACE / HTTP/1.1"), 405),
    "fragment": (line(b"GET /a#b HTTP/1.1"), 400),
    "fragment, absolute": (line(b"GET http://example.com/#b HTTP/1.1"), 400),
    "* with GET": (line(b"GET * HTTP/1.1"), 400),
    "no slash": (line(b"GET index.html HTTP/1.1"), 400),
    "authority form": (line(b"GET example.com:80 HTTP/1.1"), 400),
    "user in the target": (line(b"GET http://me:secret@example.com/ HTTP/1.1"), 400),
    "another scheme": (line(b"GET ftp://example.com/ HTTP/1.1"), 400),
    "no authority": (line(b"GET http:///a HTTP/1.1"), 400),
    "two ports in the target": (line(b"GET http://example.com:80:80/ HTTP/1.1"), 400),
    "backslash in the authority": (line(b"GET http://example.com\\@evil.example/ HTTP/1.1"), 400),
    "NUL in the target": (line(b"GET /a\0b HTTP/1.1"), 400),
    "control character in the target": (line(b"GET /a\x01b HTTP/1.1"), 400),
    "DEL in the target": (line(b"GET /a\x7fb HTTP/1.1"), 400),
    "TLS on a plain port": (bytes.fromhex("16030100a5010000a10303") + b"x" * 20 + b"\r\n\r\n", 400),
    "five empty lines": (b"\r\n" * 5 + get(), 400),
    "an empty line without CR": (b"\n" + get(), 400),
    # limits
    "target over its limit": (line(b"GET /" + b"a" * 1100 + b" HTTP/1.1"), 414),
    "head over its limit": (field(b"X-A: " + b"b" * 4200), 431),
    "fields over their limit": (get(HOST + b"X-A: b\r\n" * 20), 431),
    # what is asked of the connection: RFC 9110 sections 7.6.1, 7.8, 10.1.1
    "Connection naming Host": (field(b"Connection: host"), 400),
    "Connection naming Content-Length": (
        post(b"Content-Length: 5\r\nConnection: content-length, close", b"hello"),
        400,
    ),
    "Connection naming Transfer-Encoding": (post(CHUNKED + b"\r\nConnection: Transfer-Encoding", SMUGGLED), 400),
    "Connection naming no token": (field(b"Connection: a b"), 400),
    "upgrade with a body": (post(b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5", b"hello"), 400),
    "unknown expectation": (post(b"Expect: 200-ok\r\nContent-Length: 0"), 417),
}

BAD_CHUNKS: dict[str, bytes] = {
    "letters for a size": b"zz\r\nhello\r\n",
    "minus": b"-5\r\nhello\r\n",
    "plus": b"+5\r\nhello\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "space before the size": b" 5\r\nhello\r\n",
    "space after the size": b"5 \r\nhello\r\n",
    "no size": b"\r\nhello\r\n",
    "extension without a size": b";a=b\r\nhello\r\n",
    "size of 17 digits": b"10000000000000005\r\nhello\r\n",
    "size ended by LF": b"5\nhello\r\n",
    "size ended by CR": b"5\rhello\r\n",
    "data longer than its size": b"4\r\nhello\r\n",
    "data shorter than its size": b"6\r\nhello\r\n0\r\n\r\n",
    "data ended by LF": b"5\r\nhello\n0\r\n\r\n",
    "control character in an extension": b"5;a=\x01\r\nhello\r\n",
    "bare LF in an extension": b"5;a=b\nc\r\nhello\r\n",
    "bare CR in an extension": b"5;a=b\rc\r\nhello\r\n",
    "an endless extension": b"5;" + b"a" * 5000,
    "extensions without number": b"".join(b"1;%b\r\nx\r\n" % (b"a" * 3000) for _ in range(6)),
    "trailer without colon": b"5\r\nhello\r\n0\r\nX-A\r\n\r\n",
    "trailer folded": b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n",
    "trailer with NUL": b"5\r\nhello\r\n0\r\nX-A: \0\r\n\r\n",
    "trailer with bare LF": b"5\r\nhello\r\n0\r\nX-A: b\nX-B: c\r\n\r\n",
    "trailers without number": b"5\r\nhello\r\n0\r\n" + b"X-A: %b\r\n" % (b"b" * 3000) * 6,
    "last chunk ended by LF": b"5\r\nhello\r\n0\r\n\nGET / HTTP/1.1\r\n\r\n",
}

TAKEN: dict[str, tuple[bytes, bytes, bytes]] = {
    # what is sent, the request line the backend sees, the body it sees
    "plain": (get(), b"GET / HTTP/1.1", b""),
    "two empty lines before": (b"\r\n\r\n" + get(), b"GET / HTTP/1.1", b""),
    "host in capitals": (host(b"HOST:EXAMPLE.COM:80"), b"GET / HTTP/1.1", b""),
    "no port behind the colon": (host(b"Host: example.com:"), b"GET / HTTP/1.1", b""),
    "IPv6 literal": (host(b"Host: [::1]:8080"), b"GET / HTTP/1.1", b""),
    "odd but allowed names": (field(b"!#$%&'*+-.^_`|~09azAZ: b"), b"GET / HTTP/1.1", b""),
    "odd but allowed values": (field(b"X-A:\t \x80\xff\t!~ \t"), b"GET / HTTP/1.1", b""),
    "empty value": (field(b"X-A:"), b"GET / HTTP/1.1", b""),
    "odd but allowed target": (
        line(b'GET //a/../%00?b=<c>&d={e}|"f" HTTP/1.1'),
        b'GET //a/../%00?b=<c>&d={e}|"f" HTTP/1.1',
        b"",
    ),
    "absolute form": (line(b"GET http://example.com/a?b HTTP/1.1"), b"GET /a?b HTTP/1.1", b""),
    "absolute form without a path": (line(b"GET HTTP://example.com:80 HTTP/1.1"), b"GET / HTTP/1.1", b""),
    "OPTIONS *": (line(b"OPTIONS * HTTP/1.1"), b"OPTIONS * HTTP/1.1", b""),
    "zeros before a length": (post(b"Content-Length: 005", b"hello"), b"POST / HTTP/1.1", b"hello"),
    "tabs around a length": (post(b"Content-Length:\t5\t", b"hello"), b"POST / HTTP/1.1", b"hello"),
    "tab before chunked": (post(b"Transfer-Encoding:\tCHUNKED", chunked(b"hello")), b"POST / HTTP/1.1", b"hello"),
    "TE": (field(b"TE: trailers, chunked"), b"GET / HTTP/1.1", b""),
    "Connection: close": (field(b"Connection: close"), b"GET / HTTP/1.1", b""),
    "twenty fields": (get(HOST + b"X-A: b\r\n" * 19), b"GET / HTTP/1.1", b""),
    "a head at its limit": (field(b"X-A: " + b"b" * 4000), b"GET / HTTP/1.1", b""),
    "a target at its limit": (line(b"GET /" + b"a" * 1000 + b" HTTP/1.1"), b"GET /" + b"a" * 1000 + b" HTTP/1.1", b""),
}


async def expect_refusal(client: Client, status: int) -> None:
    """The next answer refuses and says that the connection closes, and then it does."""
    answer = await client.answer()
    assert (answer.status, answer["connection"]) == (status, b"close"), answer
    assert await client.end() == b""


async def expect_own_answer(balancer: Running, backend: Backend) -> None:
    """Another client's request still gets its own answer."""
    answer = await balancer.ask(request("/mine"))
    assert answer.body == b"/mine"
    assert answer.complete


def echo_target(backend: Backend) -> Backend:
    backend.script = lambda seen: response(seen.message.target)
    return backend


@pytest.mark.parametrize("name", REFUSED)
async def test_malformed_requests_are_refused_before_a_backend_sees_them(name: str) -> None:
    raw, status = REFUSED[name]
    backend = echo_target(Backend())
    async with balancing(backend, listener=LIMITS) as balancer:
        async with await balancer.client() as client:
            await client.send(raw)
            await expect_refusal(client, status)
        if len(raw) < 500:
            async with await balancer.client() as client:
                await client.send_bytewise(raw)
                await expect_refusal(client, status)
        assert backend.received == b""
        assert all(exchange.flags for exchange in balancer.completed)
        async with await balancer.client() as client:
            await client.send(request("/first") + raw)
            assert (await client.answer()).body == b"/first"
            if name in ("five empty lines", "an empty line without CR"):
                return
            await expect_refusal(client, status)
        await expect_own_answer(balancer, backend)
        assert [message.target for message in backend.messages] == [b"/first", b"/mine"]


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_malformed_chunks_are_refused_and_no_backend_sees_a_whole_request(name: str) -> None:
    backend = echo_target(Backend())
    body = BAD_CHUNKS[name]
    head = request("/bad", b"", "Transfer-Encoding: chunked", method="POST")
    async with balancing(backend) as balancer:
        for wait in (0.0, 0.01):
            async with await balancer.client() as client:
                await client.send(head, wait, body)
                await expect_refusal(client, 400)
        if len(body) < 500:
            async with await balancer.client() as client:
                await client.send(head)
                await client.send_bytewise(body)
                await expect_refusal(client, 400)
        assert not any(message.complete for message in backend.messages)
        await until(lambda: all(connection.ended.is_set() for connection in backend.connections))
        await expect_own_answer(balancer, backend)


async def test_bad_chunks_behind_an_answer_cut_the_connection() -> None:
    """The backend has answered early and keeps its connection: that one must not be used again either."""

    async def early(seen: Request) -> None:
        seen.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        await seen.body()

    backend = Backend(early)
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.send(
            request("/", b"", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n", 0.05, b"zz\r\n"
        )
        with pytest.raises(Cut):
            await client.answer()
        await until(lambda: backend.connections[0].ended.is_set())


@pytest.mark.parametrize("name", TAKEN)
async def test_what_is_odd_but_allowed_passes(name: str) -> None:
    raw, start, body = TAKEN[name]
    backend = Backend()
    async with balancing(backend, listener=LIMITS) as balancer:
        for send in (Client.send, Client.send_bytewise):
            async with await balancer.client() as client:
                await send(client, raw)
                assert (await client.answer()).status == 200
            message = backend.messages[-1]
            assert (message.start, message.body) == (start, body)
            assert len(message.all("host")) == 1
            assert message.all("content-length") in ([], [b"5"])
            assert message.all("transfer-encoding") in ([], [b"chunked"])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 2000, 414),
        (b"a" * 2000, 414),
        (b"GET / HTTP/1.1\r\nX-A: " + b"b" * 5000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000, 431),
    ],
    ids=["target", "no space", "value", "fields"],
)
async def test_a_head_without_end_is_refused_at_its_limit(data: bytes, status: int) -> None:
    async with balancing(Backend(), listener=LIMITS) as balancer, await balancer.client() as client:
        for start in range(0, len(data), 500):
            await client.send(data[start : start + 500], 0, 0)
        await expect_refusal(client, status)


async def test_the_default_limits() -> None:
    async with balancing(Backend()) as balancer:
        for fields, status in (
            ([f"X-{i}: y" for i in range(99)], 200),
            ([f"X-{i}: y" for i in range(100)], 431),
            (["X: " + "y" * 16_300], 200),
            (["X: " + "y" * 16_400], 431),
        ):
            assert (await balancer.ask(request("/", b"", *fields))).status == status
        assert (await balancer.ask(request("/" + "a" * 8100))).status == 200
        assert (await balancer.ask(request("/" + "a" * 8200))).status == 414


OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

BAD_RESPONSES: dict[str, bytes] = {
    "length and chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked" + BODY,
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "the same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "lengths in a list": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "length with plus": OK + b"Content-Length: +5\r\n\r\nhello",
    "length with minus": OK + b"Content-Length: -5\r\n\r\nhello",
    "length with an underscore": OK + b"Content-Length: 0_5\r\n\r\nhello",
    "no length": OK + b"Content-Length:\r\n\r\nhello",
    "length of letters": OK + b"Content-Length: abc\r\n\r\nhello",
    "gzip": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked" + BODY,
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked" + BODY,
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked" + BODY,
    "chunked, space before colon": OK + b"Transfer-Encoding : chunked" + BODY,
    "length, space before colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "folded": OK + b"X-A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
    "folded length": OK + b"Content-Length:\r\n 5\r\n\r\nhello",
    "no colon": OK + b"X-A\r\nContent-Length: 5\r\n\r\nhello",
    "NUL in a value": OK + b"X-A: b\0\r\nContent-Length: 5\r\n\r\nhello",
    "bare CR in a value": OK + b"X-A: b\rX-B: c\r\nContent-Length: 5\r\n\r\nhello",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no version": b"200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status 99": b"HTTP/1.1 099 No\r\nContent-Length: 5\r\n\r\nhello",
    "status 600": b"HTTP/1.1 600 No\r\nContent-Length: 5\r\n\r\nhello",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 5\r\n\r\nhello",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a request": request("/"),
    "101 that nobody asked for": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "interim with a length": b"HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\nhello" + response(b"hello"),
    "interim without number": b"HTTP/1.1 102 Processing\r\n\r\n" * 40 + response(b"hello"),
    "Connection naming Content-Length": OK + b"Connection: content-length\r\nContent-Length: 5\r\n\r\nhello",
    "head without end": OK + b"X-A: " + b"b" * 70_000,
    "head that ends early": OK + b"X-A: b\r\n",
}


@pytest.mark.parametrize("name", BAD_RESPONSES)
async def test_malformed_responses_are_a_502_and_their_connection_is_not_used_again(name: str) -> None:
    raw = BAD_RESPONSES[name]
    backend = Backend()
    wait = (raw, CLOSE) if name == "head that ends early" else (raw, 5.0)
    backend.script = lambda seen: wait if seen.message.target == b"/bad" else response(seen.message.target)
    async with balancing(backend, ejection=False) as balancer, await balancer.client() as client:
        assert (await client.ask(request("/warm"))).body == b"/warm"
        answer = await client.ask(request("/bad"))
        assert answer.status == 502
        assert b"hello" not in answer.raw
        assert "invalid_response" in balancer.last.flags
        assert (await client.ask(request("/next"))).body == b"/next"
        await expect_own_answer(balancer, backend)
        assert len(backend.connections) == 2
        await until(lambda: backend.connections[0].ended.is_set())
        assert backend.received.count(b"GET /bad") == 1, "it was answered: nothing says that it may be sent again"


CUT: dict[str, bytes] = {
    "chunk of letters": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    "chunk data without its end": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello5\r\nhello\r\n",
    "chunk size of 17 digits": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10000000000000005\r\n",
    "bad trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX A: b\r\n\r\n",
    "length cut short": OK + b"Content-Length: 10\r\n\r\nhello",
    "chunked cut short": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "chunked cut within a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\na\r\nhello",
    "chunked cut before the last line": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
}


@pytest.mark.parametrize("name", CUT)
async def test_a_body_that_breaks_off_or_breaks_the_rules_is_a_cut_for_the_client(name: str) -> None:
    backend = Backend()
    backend.script = lambda seen: (
        (CUT[name], 0.02, CLOSE) if seen.message.target == b"/bad" else response(seen.message.target)
    )
    async with balancing(backend, ejection=False) as balancer:
        async with await balancer.client() as client:
            with pytest.raises(Cut) as cut:
                await client.ask(request("/bad"))
        assert cut.value.message is None or cut.value.message.body in (b"", b"hello")
        assert "reset" in balancer.last.flags
        assert balancer.last.status == 200
        await expect_own_answer(balancer, backend)


async def test_a_response_until_close_that_is_reset_is_a_cut() -> None:
    backend = Backend((OK + b"\r\nhello", 0.02, RESET))
    async with balancing(backend, ejection=False) as balancer, await balancer.client() as client:
        with pytest.raises(Cut):
            await client.ask(request("/bad"))


TOO_MUCH: dict[str, tuple[str, bytes, bytes]] = {
    "a byte": ("GET", response(b"hello") + b"x", b"hello"),
    "a line": ("GET", response(b"hello") + b"\r\n", b"hello"),
    "a response": ("GET", response(b"hello") + response(b"poison"), b"hello"),
    "a response, chunked": ("GET", OK + b"Transfer-Encoding: chunked" + BODY + response(b"poison"), b"hello"),
    "a body for HEAD": ("HEAD", response(b"hello"), b""),
    "a response for HEAD": ("HEAD", OK + b"Content-Length: 5\r\n\r\n" + response(b"poison"), b""),
    "a body for 304": ("GET", b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\nhello", b""),
    "a body for 204": ("GET", b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", b""),
}


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("name", TOO_MUCH)
async def test_a_backend_that_says_too_much_poisons_nobody(name: str, late: bool) -> None:
    method, raw, body = TOO_MUCH[name]
    at = raw.rindex(b"hello") if b"hello" in raw and not body and b"poison" not in raw else raw.find(b"HTTP/1.1", 10)
    at = len(response(b"hello")) if at < 0 else at
    script: Steps = (raw[:at], 0.02, raw[at:], 5.0) if late else (raw, 5.0)
    backend = Backend()
    backend.script = lambda seen: script if seen.message.target == b"/bad" else response(seen.message.target)
    async with balancing(backend, ejection=False) as balancer, await balancer.client() as client:
        answer = await client.ask(request("/bad", method=method))
        assert answer.body == body
        if late:
            await until(lambda: backend.connections[0].ended.is_set())
        for target in ("/one", "/two"):
            assert (await client.ask(request(target))).body == target.encode()
        await expect_own_answer(balancer, backend)
        assert len(backend.connections) == 2
