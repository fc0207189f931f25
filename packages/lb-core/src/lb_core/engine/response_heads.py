"""Response heads: what is read from them, and what is not trusted (the rules stand in `heads`)."""

from __future__ import annotations

import re

import httptools

from lb_core.engine.heads import KEPT_ALIVE, MUST_STAY, SILENT, is_digits, is_token

MAX_RESPONSE_HEAD = 64 * 1024

RESPONSE_LINES = re.compile(rb"\n(?:[TKUPtkup\r][RERPrerp\n]|[Cc][Oo][Nn](?:[Nn]|[Tt][Ee][Nn][Tt]-[Ll]))[^\r]*").findall
"""The lines that may matter, by their first letters: an ordinary response shows Content-Length, perhaps Connection."""
_FIELDS = re.compile(
    rb"\n(?:con(?:nection|tent-length):|t(?:ransfer-encoding|railer):|upgrade:|keep-alive:|proxy-connection:|[ \t]|\r)"
    rb"[^\r]*"
).findall
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?").fullmatch
_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))

OK_LINE = b"HTTP/1.1 200 OK\r\n"
"""How most responses begin."""

_parser = httptools.HttpResponseParser(SILENT)


class ResponseHead:
    """A response head that was accepted. `length` is -1 when no Content-Length says how long the body is."""

    __slots__ = ("chunked", "cuts", "end", "keep", "length", "protocol", "status", "upgrade")

    def __init__(self) -> None:
        self.status = 0
        self.end = 0
        self.length = -1
        self.chunked = False
        self.keep = True
        self.upgrade = False
        self.protocol = b""
        self.cuts: list[bytes] = []


def check_ordinary_response(data: bytes) -> bool:
    """Whether llhttp accepts `data`, which holds one whole response with a Content-Length."""
    global _parser
    try:
        _parser.feed_data(data)
    except httptools.HttpParserError:
        _parser = httptools.HttpResponseParser(SILENT)
        return False
    return True


def check_ordinary_head(head: bytes, line: bytes) -> bool:
    """The same for a head whose framing line is `line`; llhttp is shown no body, so that it waits for none."""
    return check_ordinary_response(head.replace(line + b"\r", b"\nContent-Length: 0\r", 1))


def plain_status(data: bytes) -> int | None:
    """The status of an HTTP/1.1 response that always has a body; None for any other, and for a bad status line."""
    status = _STATUS_LINE(data[: data.find(b"\r")])
    if status is None or data[:9] != b"HTTP/1.1 " or int(status[1]) < 200 or status[1] in (b"204", b"304"):
        return None
    return int(status[1])


def read_response(data: bytes, blank: int) -> ResponseHead | None:
    """Read the response head whose blank line is at index `blank`; None when it cannot be trusted."""
    low = data[: blank + 2].lower()
    head = ResponseHead()
    head.end = blank + 4
    status = _STATUS_LINE(data[: data.index(b"\r\n")])
    if status is None:
        return None
    head.status = int(status[1])
    http10 = data[7:8] == b"0"
    connection = b""
    for field in _FIELDS(low):
        if field == KEPT_ALIVE.lower() and not http10:
            continue
        name, value = _split(field)
        if name == b"content-length:":
            value = value.strip(b" \t")
            if head.length >= 0 or not is_digits(value):
                return None
            head.length = int(value)
        elif name == b"transfer-encoding:":
            if head.chunked or http10 or value.strip(b" \t") != b"chunked":
                return None
            head.chunked = True
        elif name == b"connection:":
            connection = b"%b,%b" % (connection, value)
            head.cuts.append(name)
        elif name[-1:] != b":":
            return None
        else:
            if name == b"upgrade:":
                head.protocol = b"%b,%b" % (head.protocol, value) if head.protocol else value.strip(b" \t")
            head.cuts.append(name)
    if not _response_connection(head, connection, http10) or (head.chunked and head.length >= 0):
        return None
    try:
        httptools.HttpResponseParser(SILENT).feed_data(data[: head.end])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    return head


def _split(field: bytes) -> tuple[bytes, bytes]:
    """Name with colon, and value, of a line that `_FIELDS` found; a folded line has no colon at its name's end."""
    if field[1:2] in (b" ", b"\t", b"\r"):
        return field[1:2], field[2:]
    colon = field.index(b":") + 1
    return field[1:colon], field[colon:]


def _response_connection(head: ResponseHead, value: bytes, http10: bool) -> bool:
    """Take the Connection fields into account; False when they name what they must not."""
    tokens = [token.strip(b" \t") for token in value.split(b",")] if value else []
    head.keep = b"close" not in tokens and (not http10 or b"keep-alive" in tokens)
    head.upgrade = b"upgrade" in tokens
    for token in tokens:
        if token and token not in _OPTIONS:
            if not is_token(token) or token + b":" in MUST_STAY:
                return False
            head.cuts.append(token + b":")
    return True
