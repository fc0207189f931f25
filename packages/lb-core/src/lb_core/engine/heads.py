"""Bytes of message heads: read, checked and rewritten without Python work per header.

A head goes on nearly verbatim. llhttp (httptools, strict, without callbacks) judges its syntax in C; one regular
expression finds the few lines that may matter to us; what must not pass is cut out and one block of our own is
appended. Every rule of framing and routing that llhttp does not enforce stands in `request_heads` and `response_heads`:

    Transfer-Encoding   one field, exactly `chunked`, HTTP/1.1 only, never beside Content-Length    RFC 9112 6.1, 6.3
    Content-Length      one field, digits only                                                      RFC 9112 6.2
    Host                exactly one in HTTP/1.1, grammar checked when it is first seen              RFC 9112 3.2
    request target      origin form, absolute form (its host wins), `*` for OPTIONS; no fragment    RFC 9112 3.2
    method              CONNECT and TRACE are refused                                               RFC 9110 9.3
    version             1.0 or 1.1                                                                  RFC 9112 2.3
    obsolete folding    refused                                                                     RFC 9112 5.2
    Connection          the fields it names go, with all of hop-by-hop                              RFC 9110 7.6.1
    Upgrade             one field, exactly `websocket`, and named in Connection; else it goes       RFC 9110 7.8
    underscores         a name that shadows one of these (`x_forwarded_for`) goes

Here is what both directions need.
"""

from __future__ import annotations

import re

KEPT_ALIVE = b"\nConnection: keep-alive"
"""The commonest field of all, left in place: the cut saved is the fastest cut."""
MUST_STAY = frozenset((b"host:", b"content-length:", b"transfer-encoding:"))
"""Fields that Connection must not name."""

is_digits = re.compile(rb"[0-9]{1,18}").fullmatch
is_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch


class NoCallbacks:
    """What a parser is given: without callbacks it is a validator that costs half a microsecond."""


SILENT = NoCallbacks()


def field_value(head: bytes, low: bytes, name: bytes) -> bytes:
    """The value of a field in its original case; `name` is lower-case with colon, `low` is `head` lower-cased."""
    start = low.find(b"\n" + name)
    if start < 0:
        return b""
    start += 1 + len(name)
    return head[start : head.index(b"\r", start)].strip(b" \t")


def cut(head: bytes, names: list[bytes]) -> bytes:
    """`head` (first line and field lines, ended by CRLF) without the fields of these lower-case names with colon."""
    low = head.lower()
    spans: list[tuple[int, int]] = []
    for name in set(names):
        key = b"\n" + name
        start = low.find(key)
        while start >= 0:
            end = low.index(b"\n", start + 1)
            spans.append((start + 1, end + 1))
            start = low.find(key, end)
    spans.sort()
    kept = []
    position = 0
    for start, end in spans:
        kept.append(head[position:start])
        position = end
    kept.append(head[position:])
    return b"".join(kept)
