"""Limits of head and body; the listener of the bench takes 1 KiB of target, 4 KiB of head and 20 fields."""

from __future__ import annotations

from tests.conformance.case import HOST, Requests, Seen, field_line, get, line, post
from tests.support.wire import chunked

HEAD = Requests("limits of a head", "RFC 9110 section 5.4, RFC 6585 section 5")
LONG = b"/" + b"a" * 1000
HEAD.take("a long target", line(b"GET " + LONG + b" HTTP/1.1"), Seen(target=LONG))
HEAD.take("a long head", field_line(b"X-A: " + b"b" * 3950), Seen(fields={"x-a": (b"b" * 3950,)}))
HEAD.take("many fields", get(HOST + b"X-A: b\r\n" * 18), Seen(fields={"x-a": (b"b",) * 18}))
HEAD.refuse("a target too long", line(b"GET /" + b"a" * 1100 + b" HTTP/1.1"), 414)
HEAD.refuse("an absolute target too long", line(b"GET http://example.com/" + b"a" * 1100 + b" HTTP/1.1"), 414)
HEAD.refuse("a method too long", line(b"A" * 1100 + b" / HTTP/1.1"), 414, methods=(b"GET",))
HEAD.refuse("a head too long", field_line(b"X-A: " + b"b" * 4200), 431)
HEAD.refuse("a name too long", field_line(b"X" * 4200 + b": b"), 431)
HEAD.refuse("too many fields", get(HOST + b"X-A: b\r\n" * 21), 431)
HEAD.refuse("too many short fields", get(HOST + b"A:\r\n" * 120), 431)

BODY = Requests("limits of a body", "RFC 9110 section 15.5.14")
ROOM = ("limited",)
BODY.take("at the limit", post(b"Content-Length: 8", b"hellohel"), Seen(b"POST", body=b"hellohel"), lanes=ROOM)
BODY.take(
    "chunks at the limit",
    post(b"Transfer-Encoding: chunked", chunked(b"hell", b"ohel")),
    Seen(b"POST", body=b"hellohel"),
    lanes=ROOM,
)
BODY.refuse("past it", post(b"Content-Length: 9", b"hellohell"), 413, kept=None, followed=False, lanes=ROOM)
BODY.refuse("far past it", post(b"Content-Length: 999999999999999999", b"hello"), 413, lanes=ROOM)
BODY.refuse(
    "chunks past it",
    post(b"Transfer-Encoding: chunked", chunked(b"hell", b"ohell")),
    413,
    kept=None,
    partial=True,
    followed=False,
    lanes=ROOM,
)
