"""Connection, hop-by-hop fields, Upgrade, Expect, HTTP/1.0 and pipelining."""

from __future__ import annotations

from tests.conformance.case import GOOD, HOST, Requests, Seen, field_line, get, line, post

NAMED = Requests("fields named in Connection", "RFC 9110 section 7.6.1")
NAMED.take("keep-alive", field_line(b"Connection: keep-alive"))
NAMED.take("close", field_line(b"Connection: close"), Seen(absent=("connection",)), kept=False)
NAMED.take("close, in capitals", field_line(b"CONNECTION: CLOSE"), Seen(absent=("connection",)), kept=False)
NAMED.take("close in a list", field_line(b"Connection: x-a,\tclose ,"), Seen(absent=("connection",)), kept=False)
NAMED.take("close in a second field", field_line(b"Connection: keep-alive\r\nConnection: close"), kept=False)
NAMED.take("one", field_line(b"X-A: b\r\nConnection: x-a"), Seen(absent=("x-a", "connection")))
NAMED.take("two", field_line(b"X-A: b\r\nX-B: c\r\nConnection: X-A, X-B"), Seen(absent=("x-a", "x-b", "connection")))
NAMED.take("every one of a name", field_line(b"X-A: b\r\nConnection: x-a\r\nX-A: c"), Seen(absent=("x-a",)))
NAMED.take(
    "in two Connections",
    field_line(b"Connection: x-a\r\nX-A: b\r\nConnection: x-b\r\nX-B: c"),
    Seen(absent=("x-a", "x-b")),
)
NAMED.take("one that is not there", field_line(b"Connection: x-a"), Seen(absent=("x-a", "connection")))
NAMED.take("a cookie", field_line(b"Cookie: a=b\r\nConnection: cookie"), Seen(absent=("cookie",)))
NAMED.take("an empty list", field_line(b"Connection: ,"), Seen(absent=("connection",)))
NAMED.take("empty", field_line(b"Connection:"), Seen(absent=("connection",)))
NAMED.take(
    "our own fields",
    field_line(b"Connection: close, X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, X-Forwarded-Host, Via"),
    Seen(fields={"x-forwarded-proto": (b"http",), "x-forwarded-host": (b"example.com",)}),
    kept=False,
    cve="CVE-2022-31813",
)
NAMED.take(
    "our own fields, kept alive",
    field_line(b"X-Forwarded-For: 192.0.2.1\r\nConnection: X-Forwarded-For, X-Request-Id, Forwarded"),
    Seen(absent=("connection", "forwarded")),
    cve="CVE-2022-31813",
)
NAMED.refuse("Host", field_line(b"Connection: host"))
NAMED.refuse("Content-Length", post(b"Content-Length: 5\r\nConnection: content-length, close", b"hello"))
NAMED.refuse("no token", field_line(b"Connection: a b"))
NAMED.refuse("a quoted one", field_line(b'Connection: "close"'))

HOPS = Requests("hop-by-hop fields", "RFC 9110 section 7.6.1")
for text in (
    b"TE: trailers",
    b"TE: chunked, trailers;q=0.5",
    b"Trailer: X-A",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
):
    HOPS.take(text.decode(), field_line(text), Seen(absent=(text.partition(b":")[0].decode().lower(),)))
HOPS.take("Proxy-Connection: close", field_line(b"Proxy-Connection: close"), Seen(absent=("proxy-connection",)))
HOPS.take("Proxy-Authorization", field_line(b"Proxy-Authorization: Basic YTpi"))
HOPS.take("Authorization", field_line(b"Authorization: Basic YTpi"), Seen(fields={"authorization": (b"Basic YTpi",)}))

UPGRADE = Requests("Upgrade", "RFC 9110 section 7.8, RFC 6455 section 4.1")
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13"
)
SWITCHED = Seen(fields={"upgrade": (b"websocket",), "connection": (b"Upgrade",)})
NOT_SWITCHED = Seen(absent=("upgrade", "connection", "http2-settings"))
NO_TUNNEL = "offers no tunnel"
UPGRADE.take("a WebSocket", field_line(WEBSOCKET), SWITCHED, answers=(101,), followed=False, asgi=NO_TUNNEL)
UPGRADE.take(
    "a WebSocket in capitals",
    field_line(WEBSOCKET.upper()),
    Seen(fields={"upgrade": (b"WEBSOCKET",)}),
    answers=(101,),
    followed=False,
    asgi=NO_TUNNEL,
)
UPGRADE.take(
    "a list in Connection",
    field_line(b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket"),
    SWITCHED,
    answers=(101,),
    followed=False,
    asgi=NO_TUNNEL,
)
for name, text in (
    ("h2c", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQA"),
    ("h2c without Connection", b"Upgrade: h2c"),
    ("h2c and a WebSocket", b"Connection: Upgrade\r\nUpgrade: h2c, websocket"),
    ("a WebSocket and h2c in two fields", b"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c"),
    ("a WebSocket without Connection", b"Upgrade: websocket"),
    ("Connection without Upgrade", b"Connection: Upgrade"),
    ("empty", b"Connection: Upgrade\r\nUpgrade:"),
    ("TLS/1.0", b"Connection: Upgrade\r\nUpgrade: TLS/1.0"),
    ("websocket/1", b"Connection: Upgrade\r\nUpgrade: websocket/1"),
):
    UPGRADE.take(name, field_line(text), NOT_SWITCHED)
UPGRADE.take("in HTTP/1.0", get(HOST + WEBSOCKET + b"\r\n", b"GET / HTTP/1.0"), NOT_SWITCHED, kept=False)
for name, text, body in (
    ("with a body", b"Content-Length: 5", b"hello"),
    ("with a chunked body", b"Transfer-Encoding: chunked", b"0\r\n\r\n"),
):
    asked = HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + text + b"\r\n"
    UPGRADE.refuse(name, get(asked) + body, asgi=NO_TUNNEL)
UPGRADE.refuse(
    "with POST", post(b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5", b"hello"), asgi=NO_TUNNEL
)

EXPECT = Requests("Expect", "RFC 9110 section 10.1.1")
EXPECT.take("100-continue", post(b"Expect: 100-continue\r\nContent-Length: 5", b"hello"), Seen(b"POST", body=b"hello"))
EXPECT.take("in capitals", post(b"Expect: 100-Continue\r\nContent-Length: 5", b"hello"), Seen(b"POST", body=b"hello"))
EXPECT.take(
    "chunked",
    post(b"Expect: 100-continue\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    Seen(b"POST", body=b"hello"),
)
EXPECT.take(
    "in HTTP/1.0",
    get(HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"POST / HTTP/1.0") + b"hello",
    Seen(b"POST", body=b"hello", absent=("expect",)),
    kept=False,
)
for text in (b"200-ok", b"100-continue, x", b"", b"100-continue;a=b", b'"100-continue"'):
    EXPECT.refuse(text.decode() or "empty", post(b"Expect: " + text + b"\r\nContent-Length: 0"), 417)

OLD = Requests("HTTP/1.0", "RFC 9112 appendix C.2.2")
OLD.take("no keep-alive", line(b"GET / HTTP/1.0"), kept=False)
OLD.take("keep-alive", get(HOST + b"Connection: keep-alive\r\n", b"GET / HTTP/1.0"), Seen(absent=("connection",)))
OLD.take("close", get(HOST + b"Connection: close\r\n", b"GET / HTTP/1.0"), Seen(absent=("connection",)), kept=False)
OLD.take("no Host", b"GET / HTTP/1.0\r\n\r\n", kept=False)
OLD.take(
    "a body",
    get(HOST + b"Content-Length: 5\r\n", b"POST / HTTP/1.0") + b"hello",
    Seen(b"POST", body=b"hello"),
    kept=False,
)
OLD.take(
    "absolute form",
    line(b"GET http://example.com/a HTTP/1.0"),
    Seen(target=b"/a"),
    kept=False,
    asgi="reads the path alone",
)
OLD.take(
    "named fields", get(HOST + b"X-A: b\r\nConnection: x-a\r\n", b"GET / HTTP/1.0"), Seen(absent=("x-a",)), kept=False
)
OLD.refuse("two Hosts", get(HOST + HOST, b"GET / HTTP/1.0"))

PIPELINING = Requests("pipelining", "RFC 9112 section 9.3.2")
TWO = (Seen(target=b"/good"), Seen(target=b"/good"))
PIPELINING.take("two", GOOD * 2, *TWO)
PIPELINING.take("seven", GOOD * 7, *[Seen(target=b"/good")] * 7, cve="CVE-2023-46137")
PIPELINING.take("behind a body", post(b"Content-Length: 5", b"hello") + GOOD, Seen(b"POST", body=b"hello"), TWO[0])
PIPELINING.take(
    "behind chunks",
    post(b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n") + GOOD,
    Seen(b"POST", body=b"hello"),
    TWO[0],
)
PIPELINING.take("empty lines between", GOOD + b"\r\n\r\n" + GOOD, *TWO)
PIPELINING.take("HEAD, then GET", line(b"HEAD /a HTTP/1.1") + GOOD, Seen(b"HEAD", b"/a"), TWO[0])
PIPELINING.take("behind close", field_line(b"Connection: close") + GOOD, Seen(), kept=False)
PIPELINING.take("behind HTTP/1.0", line(b"GET / HTTP/1.0") + GOOD, Seen(), kept=False)
PIPELINING.take(
    "a bad one behind", GOOD + field_line(b"X A: b"), TWO[0], answers=(200, 400), methods=(b"GET", b"GET"), kept=False
)
PIPELINING.take(
    "a doubly framed one behind",
    GOOD + post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    TWO[0],
    answers=(200, 400),
    methods=(b"GET", b"POST"),
    kept=False,
)
PIPELINING.take(
    "garbage behind", GOOD + b"garbage\r\n\r\n", TWO[0], answers=(200, 400), methods=(b"GET", b"GET"), kept=False
)
