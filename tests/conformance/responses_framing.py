"""Where a response ends: lengths, chunks, the end of the connection, and what may not have a body."""

from __future__ import annotations

from tests.conformance.case import Responses, get
from tests.support.wire import chunked

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HELLO = b"Content-Length: 5\r\n\r\nhello"
BODY = b"\r\n" + chunked(b"hello")
OLD_CLIENT = get(line=b"GET %b HTTP/1.0")
GET = get(line=b"GET %b HTTP/1.1")
HEAD = get(line=b"HEAD %b HTTP/1.1")

LENGTH = Responses("length of a response", "RFC 9112 section 6.2 and 6.3")
LENGTH.take("a length", OK + HELLO)
LENGTH.take("0", OK + b"Content-Length: 0\r\n\r\n", body=b"")
LENGTH.take("zeros before it", OK + b"Content-Length: 005\r\n\r\nhello")
LENGTH.take("no blank", OK + b"Content-Length:5\r\n\r\nhello")
LENGTH.take("in capitals", OK + b"CONTENT-LENGTH: 5\r\n\r\nhello")
LENGTH.take("blank lines in the body", OK + b"Content-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n", body=b"\r\n\r\n\r\n\r\n")
LENGTH.take(
    "a response in the body",
    OK + b"Content-Length: 38\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    body=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)
LENGTH.take("closed behind it", OK + HELLO, end="close", reused=False)
for name, text, cve in (
    ("two", b"Content-Length: 5\r\nContent-Length: 6", ""),
    ("the same twice", b"Content-Length: 5\r\nContent-Length: 5", ""),
    ("a list", b"Content-Length: 5, 5", ""),
    ("plus", b"Content-Length: +5", ""),
    ("minus", b"Content-Length: -5", ""),
    ("an underscore", b"Content-Length: 0_5", ""),
    ("a blank within", b"Content-Length: 5 5", ""),
    ("hexadecimal", b"Content-Length: 0x5", ""),
    ("empty", b"Content-Length:", ""),
    ("letters", b"Content-Length: abc", ""),
    ("20 digits", b"Content-Length: 18446744073709551621", ""),
    ("blank before the colon", b"Content-Length : 5", ""),
    ("folded", b"Content-Length:\r\n 5", ""),
    ("named in Connection", b"Connection: content-length\r\nContent-Length: 5", ""),
):
    LENGTH.refuse(name, OK + text + b"\r\n\r\nhello", cve=cve)

CODING = Responses("coding of a response", "RFC 9112 section 6.1 and 6.3")
CODING.take("chunked", OK + CHUNKED + BODY, fields={"transfer-encoding": (b"chunked",)}, absent=("content-length",))
CODING.take("in capitals", OK + b"TRANSFER-ENCODING: CHUNKED\r\n" + BODY)
CODING.take(
    "for a client of HTTP/1.0", OK + CHUNKED + BODY, request=OLD_CLIENT, kept=False, absent=("transfer-encoding",)
)
CODING.take("with an extension", OK + CHUNKED + b"\r\n5;a=b\r\nhello\r\n0\r\n\r\n")
CODING.take(
    "with a trailer field",
    OK + CHUNKED + b"Trailer: X-A\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
    absent=("x-a", "trailer"),
)
CODING.take("several chunks", OK + CHUNKED + b"\r\n" + chunked(b"h", b"el", b"lo"))
CODING.take("no chunks", OK + CHUNKED + b"\r\n" + chunked(), body=b"")
CODING.take("closed behind it", OK + CHUNKED + BODY, end="close", reused=False)
for name, text in (
    ("beside a length", b"Content-Length: 5\r\n" + CHUNKED),
    ("before a length", CHUNKED + b"Content-Length: 5\r\n"),
    ("twice", CHUNKED * 2),
    ("in a list", b"Transfer-Encoding: chunked, chunked\r\n"),
    ("gzip", b"Transfer-Encoding: gzip\r\n"),
    ("gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n"),
    ("identity", b"Transfer-Encoding: identity\r\n"),
    ("identity beside a length", b"Transfer-Encoding: identity\r\nContent-Length: 20\r\n"),
    ("empty", b"Transfer-Encoding:\r\n"),
    ("vertical tab", b"Transfer-Encoding: \x0bchunked\r\n"),
    ("blank before the colon", b"Transfer-Encoding : chunked\r\n"),
    ("folded", b"Transfer-Encoding:\r\n chunked\r\n"),
    ("named in Connection", CHUNKED + b"Connection: transfer-encoding\r\n"),
):
    CODING.refuse(name, OK + text + BODY)
CODING.refuse("in HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + CHUNKED + BODY)

CHUNKS = Responses("chunks of a response", "RFC 9112 section 7.1")
for name, rest in (
    ("letters for a size", b"zz\r\nhello\r\n0\r\n\r\n"),
    ("minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("size of 17 digits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("blank behind a size", b"5 \r\nhello\r\n0\r\n\r\n"),
    ("size ended by LF", b"5\nhello\r\n0\r\n\r\n"),
    ("data longer than its size", b"4\r\nhello\r\n0\r\n\r\n"),
    ("data ended by LF", b"5\r\nhello\n0\r\n\r\n"),
    ("data ended by two letters", b"5\r\nhelloXX0\r\n\r\n"),
    ("LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("a bad trailer", b"5\r\nhello\r\n0\r\nX A: b\r\n\r\n"),
    ("a response for a trailer", b"5\r\nhello\r\n0\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
):
    CHUNKS.cut(name, OK + CHUNKED + b"\r\n" + rest)

BREAKS = Responses("a response that breaks off", "RFC 9112 section 8")
for name, raw in (
    ("in a length", OK + b"Content-Length: 10\r\n\r\nhello"),
    ("before a body", OK + b"Content-Length: 5\r\n\r\n"),
    ("between chunks", OK + CHUNKED + b"\r\n5\r\nhello\r\n"),
    ("within a chunk", OK + CHUNKED + b"\r\na\r\nhello"),
    ("within a size", OK + CHUNKED + b"\r\n5\r\nhello\r\n1"),
    ("before the last line", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n"),
    ("before the first chunk", OK + CHUNKED + b"\r\n"),
):
    BREAKS.cut(name, raw, end="close")
    BREAKS.cut(name + ", reset", raw, end="reset")
BREAKS.cut("until the end, reset", OK + b"\r\nhello", end="reset")
BREAKS.cut("until the end, reset, for a client of HTTP/1.0", OK + b"\r\nhello", end="reset", request=OLD_CLIENT)
BREAKS.cut(
    "in a length, for a client of HTTP/1.0", OK + b"Content-Length: 9\r\n\r\nhello", end="close", request=OLD_CLIENT
)
BREAKS.cut(
    "between chunks, for a client of HTTP/1.0", OK + CHUNKED + b"\r\n5\r\nhello\r\n", end="close", request=OLD_CLIENT
)
CHUNKS.cut("letters for a size, for HTTP/1.0", OK + CHUNKED + b"\r\n5\r\nhello\r\nzz\r\n", request=OLD_CLIENT)
BREAKS.refuse("within the head", OK + b"X-A: b\r\n", end="close")
BREAKS.refuse("within the status line", b"HTTP/1.1 20", end="close")

CLOSES = Responses("until the end of the connection", "RFC 9112 section 6.3, item 8")
CLOSES.take("HTTP/1.1", OK + b"\r\nhello", end="close", reused=False, fields={"transfer-encoding": (b"chunked",)})
CLOSES.take("HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nhello", end="close", reused=False)
CLOSES.take("nothing", OK + b"\r\n", end="close", reused=False, body=b"")
CLOSES.take("for a client of HTTP/1.0", OK + b"\r\nhello", end="close", reused=False, request=OLD_CLIENT, kept=False)

NO_BODY = Responses("responses without a body", "RFC 9110 section 6.4.1, RFC 9112 section 6.3, item 1")
NO_BODY.take(
    "HEAD with a length", OK + b"Content-Length: 5\r\n\r\n", request=HEAD, body=b"", fields={"content-length": (b"5",)}
)
NO_BODY.take("HEAD chunked", OK + CHUNKED + b"\r\n", request=HEAD, body=b"")
NO_BODY.take("HEAD without either", OK + b"\r\n", request=HEAD, body=b"")
NO_BODY.take("204", b"HTTP/1.1 204 No Content\r\n\r\n", status=204, body=b"")
NO_BODY.take(
    "204 with a length of 0",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    status=204,
    body=b"",
    absent=("content-length",),
)
NO_BODY.take(
    "204 that says chunked",
    b"HTTP/1.1 204 No Content\r\n" + CHUNKED + b"\r\n",
    status=204,
    body=b"",
    absent=("transfer-encoding",),
)
NO_BODY.take("304", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", status=304, body=b"", fields={"etag": (b"x",)})
NO_BODY.take("304 with a length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status=304, body=b"")
NO_BODY.take("205 with a length of 0", b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", status=205, body=b"")

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
MORE = Responses("bytes behind a response", "RFC 9112 section 9.2")
NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
for name, said, more in (
    ("one", OK + HELLO, b"x"),
    ("a line end", OK + HELLO, b"\r\n"),
    ("NUL", OK + HELLO, b"\0"),
    ("a response", OK + HELLO, POISON),
    ("a response behind chunks", OK + CHUNKED + BODY, POISON),
    ("an interim response", OK + HELLO, b"HTTP/1.1 100 Continue\r\n\r\n"),
):
    MORE.take(name, said + more, reused=False, ends=len(said))
for name, asked, status, said, more in (
    ("a body for HEAD", HEAD, 200, OK + b"Content-Length: 5\r\n\r\n", b"hello"),
    ("a response for HEAD", HEAD, 200, OK + b"Content-Length: 5\r\n\r\n", POISON),
    ("a body for 304", GET, 304, NOT_MODIFIED, b"hello"),
    ("a body for 204", GET, 204, NO_CONTENT, b"hello"),
    ("a response behind 204", GET, 204, NO_CONTENT, POISON),
    ("a response behind a length of 0", GET, 200, OK + b"Content-Length: 0\r\n\r\n", POISON),
):
    MORE.take(name, said + more, request=asked, status=status, body=b"", reused=False, ends=len(said))
