"""The head of a response: status line, fields, interim responses, what is between the backend and us only."""

from __future__ import annotations

from tests.conformance.case import HOST, Responses, get

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = b"Content-Length: 5\r\n\r\nhello"
OLD_CLIENT = get(line=b"GET %b HTTP/1.0")
KEEPING_OLD_CLIENT = get(HOST + b"Connection: keep-alive\r\n", b"GET %b HTTP/1.0")

STATUS = Responses("status line", "RFC 9112 section 4")
for status in (200, 201, 206, 301, 400, 401, 404, 418, 429, 500, 503, 599):
    STATUS.take(str(status), b"HTTP/1.1 %d Said\r\n" % status + HELLO, status=status)
STATUS.take("no reason", b"HTTP/1.1 200 \r\n" + HELLO)
STATUS.take("no reason and no blank", b"HTTP/1.1 200\r\n" + HELLO)
STATUS.take("high bytes in the reason", b"HTTP/1.1 200 \xc3\xa4\r\n" + HELLO)
STATUS.take("HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + HELLO, reused=False)
STATUS.take("HTTP/1.0, kept alive", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + HELLO)
for name, line in (
    ("HTTP/2.0", b"HTTP/2.0 200 OK"),
    ("HTTP/1.2", b"HTTP/1.2 200 OK"),
    ("HTTP/0.9", b"HTTP/0.9 200 OK"),
    ("http/1.1", b"http/1.1 200 OK"),
    ("no version", b"200 OK"),
    ("ICY", b"ICY 200 OK"),
    ("two blanks", b"HTTP/1.1  200 OK"),
    ("tab", b"HTTP/1.1\t200 OK"),
    ("99", b"HTTP/1.1 099 No"),
    ("600", b"HTTP/1.1 600 No"),
    ("999", b"HTTP/1.1 999 No"),
    ("two digits", b"HTTP/1.1 20 OK"),
    ("four digits", b"HTTP/1.1 2000 OK"),
    ("letters", b"HTTP/1.1 abc OK"),
    ("minus", b"HTTP/1.1 -20 OK"),
    ("plus", b"HTTP/1.1 +20 OK"),
    ("no status", b"HTTP/1.1"),
    ("NUL in the reason", b"HTTP/1.1 200 O\0K"),
    ("a control character in the reason", b"HTTP/1.1 200 O\x01K"),
    ("CR in the reason", b"HTTP/1.1 200 O\rK"),
    ("LF in the reason", b"HTTP/1.1 200 O\nK: b"),
    ("a blank before it", b" HTTP/1.1 200 OK"),
    ("a request line", b"GET / HTTP/1.1"),
    ("another protocol", b"SSH-2.0-OpenSSH_9.2"),
):
    STATUS.refuse(name, line + b"\r\n" + HELLO)
STATUS.refuse("an empty line before it", b"\r\n" + OK + HELLO)
STATUS.refuse("HTTP/0.9, a body alone", b"<html>hello</html>\r\n\r\n")

FIELDS = Responses("fields of a response", "RFC 9112 section 5, RFC 9110 section 5.5")
FIELDS.take("several", OK + b"X-A: b\r\nX-A: c\r\n" + HELLO, fields={"x-a": (b"b", b"c")})
FIELDS.take(
    "Set-Cookie twice", OK + b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n" + HELLO, fields={"set-cookie": (b"a=b", b"c=d")}
)
FIELDS.take("high bytes", OK + b"X-A: \x80\xff\r\n" + HELLO, fields={"x-a": (b"\x80\xff",)})
FIELDS.take("empty", OK + b"X-A:\r\n" + HELLO, fields={"x-a": (b"",)})
FIELDS.take("a long one", OK + b"X-A: " + b"b" * 20_000 + b"\r\n" + HELLO, fields={"x-a": (b"b" * 20_000,)})
FIELDS.take("an underscore", OK + b"Content_Length: 9\r\n" + HELLO)
for name, text, cve in (
    ("no colon", b"X-A", ""),
    ("no name", b": b", "CVE-2023-25725"),
    ("blank before the colon", b"X-A : b", ""),
    ("blank in a name", b"X A: b", ""),
    ("folded", b"X-A: b\r\n c", ""),
    ("folded at once", b" X-A: b", ""),
    ("NUL in a value", b"X-A: b\0", ""),
    ("a control character in a value", b"X-A: b\x01", ""),
    ("DEL in a value", b"X-A: b\x7f", ""),
    ("CR in a value", b"X-A: b\rX-B: c", "CVE-2016-2216"),
    ("LF in a value", b"X-A: b\nX-B: c", "CVE-2016-2216"),
    ("LF at the end", b"X-A: b\n", ""),
    ("a whole response behind LFs", b"X-A: b\n\nHTTP/1.1 200 OK\nContent-Length: 0\n", "CVE-2016-2216"),
):
    FIELDS.refuse(name, OK + text + b"\r\n" + HELLO, cve=cve)
FIELDS.refuse("LF throughout", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello\r\n\r\n")
FIELDS.refuse("a head without end", OK + b"X-A: " + b"b" * 70_000)
FIELDS.refuse("fields without end", OK + b"X-A: b\r\n" * 9_000)

HOPS = Responses("hop-by-hop fields of a response", "RFC 9110 section 7.6.1")
GONE = ("keep-alive", "proxy-connection", "upgrade", "trailer", "x-a")
for name, text, reused in (
    ("Keep-Alive", b"Keep-Alive: timeout=5", True),
    ("Proxy-Connection", b"Proxy-Connection: keep-alive", True),
    ("Upgrade", b"Upgrade: h2c", True),
    ("Connection: keep-alive", b"Connection: keep-alive", True),
    ("Connection: Keep-Alive", b"Connection: Keep-Alive", True),
    ("Connection: close", b"Connection: close", False),
    ("Connection: Close, in a list", b"Connection: x-a, Close", False),
    ("two Connections", b"Connection: keep-alive\r\nConnection: close", False),
    ("a named field", b"X-A: b\r\nConnection: x-a", True),
    ("a named field, before and behind", b"X-A: b\r\nConnection: X-A\r\nx-a: c", True),
    ("an upgrade that is offered", b"Connection: upgrade\r\nUpgrade: websocket", True),
):
    HOPS.take(name, OK + text + b"\r\n" + HELLO, absent=GONE, reused=reused)
HOPS.take("for a client of HTTP/1.0", OK + HELLO, request=OLD_CLIENT, kept=False, fields={"connection": (b"close",)})
HOPS.take("for one that keeps alive", OK + HELLO, request=KEEPING_OLD_CLIENT, fields={"connection": (b"keep-alive",)})
HOPS.take(
    "close for the client",
    OK + HELLO,
    request=get(HOST + b"Connection: close\r\n", b"GET %b HTTP/1.1"),
    kept=False,
    fields={"connection": (b"close",)},
)
HOPS.refuse("a name that is no token", OK + b"Connection: a b\r\n" + HELLO)
HOPS.refuse("Host", OK + b"Connection: host\r\n" + HELLO)

INTERIM = Responses("interim responses", "RFC 9110 section 15.2")
INTERIM.take("103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + HELLO, interim=(103,))
INTERIM.take("100", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + HELLO, interim=(100,))
INTERIM.take("three", b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + OK + HELLO, interim=(102,) * 3)
INTERIM.take(
    "before chunks",
    b"HTTP/1.1 103 Hints\r\n\r\n" + OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    interim=(103,),
)
INTERIM.take("hidden from HTTP/1.0", b"HTTP/1.1 103 Hints\r\n\r\n" + OK + HELLO, request=OLD_CLIENT, kept=False)
INTERIM.refuse("too many", b"HTTP/1.1 102 Processing\r\n\r\n" * 40 + OK + HELLO, interim=(102,) * 16)
INTERIM.refuse("one with a length", b"HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\nhello" + OK + HELLO)
INTERIM.refuse("one that is chunked", b"HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + OK + HELLO)
INTERIM.refuse("one that is malformed", b"HTTP/1.1 103 Hints\r\nX A: b\r\n\r\n" + OK + HELLO)
INTERIM.refuse(
    "a malformed one behind", b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nX A: b\r\n" + HELLO, interim=(103,)
)
INTERIM.refuse("101 that nobody asked for", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
INTERIM.refuse(
    "101 to a WebSocket that nobody asked for",
    b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
)
INTERIM.refuse(
    "101 for h2c",
    b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    request=get(HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"GET %b HTTP/1.1"),
)
INTERIM.refuse(
    "101 without Upgrade",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    request=get(HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"GET %b HTTP/1.1"),
)
