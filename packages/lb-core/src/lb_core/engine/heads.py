"""Bytes of message heads: read, checked and rewritten without Python work per header.

A head goes on nearly verbatim. llhttp (httptools, strict, without callbacks) judges its syntax in C; one regular
expression finds the few lines that may matter to us; what must not pass is cut out and one block of our own is
appended. Every rule of framing and routing that llhttp does not enforce stands here, once, for both directions:

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

The ordinary request (HTTP/1.1, origin form, no body, nothing special) has no Special: nothing is allocated for it but
the slices.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httptools

from lb_core.errors import RequestError

REQUEST_LINES = re.compile(rb"\n(?:[HTUKPEXFhtukpexf\r][OTERPXoterpx_\n-]|[Cc][Oo][Nn])[^\r]*").findall
"""The field lines that may matter, by their first letters, each with the line feed before it: most lines cost one look, and
those of a browser that get a second one are Host and Connection. A blank line shows as `\\n\\r`."""
_SPECIAL = frozenset(
    b"\n" + name
    for name in (
        b"connection content-length content_length transfer-encoding transfer_encoding te trailer upgrade keep-alive"
        b" proxy-connection proxy_connection expect http2-settings forwarded"
    ).split()
)
_SPECIAL_X = re.compile(rb"\nx[-_](?:forwarded[-_]|real[-_]ip$|request[-_]id$)").match
RESPONSE_FIELDS = re.compile(
    rb"\n(?:con(?:nection|tent-length):|t(?:ransfer-encoding|railer):|upgrade:|keep-alive:|proxy-connection:|[ \t]|\r)[^\r]*"
).findall
RESPONSE_LINES = re.compile(rb"\n(?:[TKUPtkup\r][RERPrerp\n]|[Cc][Oo][Nn](?:[Nn]|[Tt][Ee][Nn][Tt]-[Ll]))[^\r]*").findall
"""The same for responses: an ordinary one shows Content-Length, and perhaps Connection."""
_DIGITS = re.compile(rb"[0-9]{1,18}").fullmatch
_PLAIN_LENGTH = re.compile(rb" (?:0|[1-9][0-9]{0,17})").fullmatch
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,200}").fullmatch
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?").fullmatch

_KEPT_ALIVE_LOW = b"\nconnection: keep-alive"
KEPT_ALIVE = b"\nConnection: keep-alive"
"""The commonest field of all, left in place: the cut saved is the fastest cut."""

PLAIN_RESPONSES = {b"HTTP/1.1 %d" % code: code for code in range(200, 600) if code not in (204, 304)}
"""Responses that always have a body, by their first twelve bytes."""

MAX_RESPONSE_HEAD = 64 * 1024


class _NoCallbacks:
    """What the parser is given: without callbacks it is a validator that costs half a microsecond."""


_SILENT = _NoCallbacks()
_request_parser = httptools.HttpRequestParser(_SILENT)
_response_parser = httptools.HttpResponseParser(_SILENT)


class Special:
    """What a request head says beyond the ordinary.

    `length` is its Content-Length (-1 without one), `cuts` the lower-case names with colon that must not pass,
    `passes` whether the head goes on as it is, `restated` the field lines of framing that pass in their plain form,
    because they were written in an odd one (a tab, leading zeros): nobody behind us shall read them differently.
    """

    __slots__ = (
        "absolute_host",
        "chunked",
        "close",
        "cuts",
        "expect",
        "forwarded_for",
        "head",
        "http10",
        "length",
        "named",
        "passes",
        "request_id",
        "request_ids",
        "restated",
        "upgrade",
        "upgrade_named",
    )

    def __init__(self) -> None:
        self.http10 = False
        self.close = False
        self.length = -1
        self.chunked = False
        self.expect = False
        self.upgrade = b""
        self.upgrade_named = False
        self.cuts: list[bytes] = []
        self.named: list[bytes] = []
        self.forwarded_for: list[bytes] = []
        self.request_ids = 0
        self.request_id = b""
        self.absolute_host = b""
        self.restated = b""
        self.passes = False
        self.head = b""

    @property
    def low(self) -> bytes:
        """The head in lower case."""
        return self.head.lower()

    def value(self, name: bytes) -> bytes:
        """The value of a field; `name` is lower-case with colon."""
        return field_value(self.head, self.low, name)

    def note(self, name: bytes, value: bytes) -> None:
        """Take one special field into account, name and value in lower case. Raises RequestError."""
        if b"_" in name:
            self.cuts.append(name)
        elif name == b"content-length:":
            self._content_length(value)
        elif name == b"connection:":
            self._connection(value)
        elif name == b"transfer-encoding:":
            if self.chunked or value.strip(b" \t") != b"chunked":
                raise RequestError(400, "bad_framing", "Transfer-Encoding must be exactly one `chunked`")
            self.chunked = True
            if value != b" chunked":
                self.cuts.append(name)
                self.restated = b"Transfer-Encoding: chunked\r\n"
        elif name == b"x-request-id:":
            self.request_ids += 1
        elif name == b"expect:":
            if value.strip(b" \t") != b"100-continue":
                raise RequestError(417, "bad_expect", "the only expectation known is 100-continue")
            self.expect = True
        elif name == b"upgrade:":
            # a second one makes it a list, which is no `websocket`; so does an empty one
            self.upgrade = b"%b,%b" % (self.upgrade, value) if self.upgrade else value.strip(b" \t") or b","
        else:
            if name == b"x-forwarded-for:":
                self.forwarded_for.append(value.strip(b" \t"))
            self.cuts.append(name)

    def _content_length(self, value: bytes) -> None:
        if self.length < 0 and _PLAIN_LENGTH(value):
            self.length = int(value)
            return
        value = value.strip(b" \t")
        if self.length >= 0 or not _DIGITS(value):
            raise RequestError(400, "bad_framing", f"Content-Length must be one number, not {value[:40]!r}")
        self.length = int(value)
        self.cuts.append(b"content-length:")
        self.restated = b"Content-Length: %d\r\n" % self.length

    def _connection(self, value: bytes) -> None:
        self.cuts.append(b"connection:")
        for token in value.split(b","):
            token = token.strip(b" \t")
            if token == b"close":
                self.close = True
            elif token == b"upgrade":
                self.upgrade_named = True
            elif token and token != b"keep-alive":
                if not _TOKEN(token):
                    raise RequestError(400, "bad_head", f"Connection names {token[:40]!r}, which is no field name")
                self.named.append(token + b":")

    def _settle_request_id(self) -> None:
        """Keep the client's X-Request-Id when it sent one that is fit for logs: visible ASCII, at most 200 bytes."""
        usable = self.request_ids == 1 and b"x-request-id:" not in self.named
        value = self.value(b"x-request-id:") if usable else b""
        if _REQUEST_ID(value):
            self.request_id = value
        else:
            self.cuts.append(b"x-request-id:")

    @property
    def has_body(self) -> bool:
        """Whether body bytes follow the head."""
        return self.chunked or self.length > 0

    @property
    def tunnel(self) -> bool:
        """Whether the client asks for a WebSocket, the one upgrade that passes."""
        return self.upgrade == b"websocket" and self.upgrade_named

    def settle(self, head: bytes) -> None:
        """The whole head has been noted: check what concerns several fields. Raises RequestError."""
        self.head = head
        if self.request_ids:
            self._settle_request_id()
        if self.chunked and (self.length >= 0 or self.http10):
            raise RequestError(400, "bad_framing", "Transfer-Encoding beside Content-Length or in HTTP/1.0")
        if self.http10:
            self.close = self.close or b"\nconnection: keep-alive\r" not in self.low
            self.cuts.append(b"connection:")
            if self.expect:
                self.expect = False
                self.cuts.append(b"expect:")
        if self.upgrade:
            if self.tunnel and not self.http10:
                if self.has_body:
                    raise RequestError(400, "bad_framing", "a request to upgrade carries no body")
            else:
                self.upgrade = b""
                self.cuts.append(b"upgrade:")
        for name in self.named:
            if name in _MUST_STAY:
                raise RequestError(400, "bad_head", f"Connection must not name {name[:-1].decode('latin-1')!r}")
        self.cuts += self.named
        self.passes = not (
            self.cuts or self.request_ids or self.http10 or self.absolute_host or self.upgrade or self.restated
        )


_ORDINARY_LINE = re.compile(rb"(?!CONNECT |TRACE )([^ ]+) (/[^ ]*) HTTP/1\.1\r\n").match
_HASH = ord("#")  # looking for b"#" would make CPython raise and drop a TypeError first: a thousand instructions
_X = ord("x")
_CR = ord("\r")
_MUST_STAY = frozenset((b"host:", b"content-length:", b"transfer-encoding:"))
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))


RequestHead = tuple[bytes, bytes, bytes | None, bytes, Special | None, int]
"""A request head that was accepted: method, target, Host value, the head up to its blank line, Special, index behind it.

A plain tuple: a NamedTuple costs a quarter of a microsecond, a hundredth of a request."""


def read_request(data: bytes, blank: int, max_fields: int) -> RequestHead:
    """Read the head of `data` whose blank line is at index `blank`.

    `host` is the raw value of the Host field (leading blank included, the key of the learned table). Raises RequestError.
    What this does not look at (folded lines, control characters, blanks before a colon) llhttp refuses.
    """
    global _request_parser
    head = data[: blank + 2]
    special: Special | None = None
    ordinary = _ORDINARY_LINE(head)
    if ordinary is not None:
        method, target = ordinary.groups()
        if _HASH in target:
            raise _fragment()
    else:
        special, method, target = _unusual_line(head)
    host: bytes | None = None
    for line in REQUEST_LINES(head):
        if line == KEPT_ALIVE:
            continue
        if line[:6] == b"\nHost:" and host is None:
            host = line[6:]
            continue
        colon = line.find(b":")
        name = line[:colon].lower()
        if name == b"\nhost":
            if host is not None:
                raise RequestError(400, "bad_host", "more than one Host field")
            host = line[6:]
        elif name in _SPECIAL or (name[1] == _X and _SPECIAL_X(name)):
            if special is None:
                special = Special()
            special.note(name[1:] + b":", line[colon + 1 :].lower())
        elif name[1] == _CR:
            # an earlier blank line: `blank` was guessed from the end of the data, and requests are pipelined
            return _read_first(data, blank, max_fields)
    if blank > 4 * max_fields and head.count(b"\n") > max_fields + 1:  # a field takes four bytes at least
        raise RequestError(431, "too_many_fields", f"more than {max_fields} header fields")
    end = blank + 4
    try:
        if special is None:
            _request_parser.feed_data(data if len(data) == end else data[:end])
            if host is not None:
                return method, target, host, head, None, end
        else:
            special.settle(head)
            # one of its own: a body, an upgrade or a close, Proxy-Connection's too, would change the shared one
            httptools.HttpRequestParser(_SILENT).feed_data(data[:end])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        _request_parser = httptools.HttpRequestParser(_SILENT)
        raise RequestError(400, "bad_head", f"malformed request head: {error}") from None
    if host is None and (special is None or not special.http10):
        raise RequestError(400, "bad_host", "an HTTP/1.1 request needs one Host field")
    if special is not None and special.absolute_host:
        if host is not None and not _AUTHORITY(host.strip(b" \t")):
            raise RequestError(400, "bad_host", "the Host field must be HOST or HOST:PORT")
        host = b" " + special.absolute_host.lower()
    return method, target, host, head, special, end


def _read_first(data: bytes, blank: int, max_fields: int) -> RequestHead:
    """The first of several requests in `data`."""
    first = data.index(b"\r\n\r\n")
    if first == blank:
        raise RequestError(400, "bad_head", "a line ends in LF without CR")
    return read_request(data, first, max_fields)


def _split(field: bytes) -> tuple[bytes, bytes]:
    """Name with colon, and value, of a line that a field expression found; a folded line has no colon at its name's end."""
    if field[1:2] in (b" ", b"\t", b"\r"):
        return field[1:2], field[2:]
    colon = field.index(b":") + 1
    return field[1:colon], field[colon:]


def _unusual_line(head: bytes) -> tuple[Special, bytes, bytes]:
    """A request line that is not the ordinary `METHOD /target HTTP/1.1`: what it asks for, its method and the origin form."""
    special = Special()
    try:
        method, target, version = head[: head.index(b"\r\n")].split(b" ")
    except ValueError:
        raise RequestError(400, "bad_head", "the request line is not METHOD TARGET VERSION") from None
    if version == b"HTTP/1.0":
        special.http10 = True
    elif version != b"HTTP/1.1":
        if re.fullmatch(rb"HTTP/\d(\.\d)?", version):
            raise RequestError(505, "bad_version", "HTTP/1.0 and HTTP/1.1 are spoken here")
        raise RequestError(400, "bad_head", "the request line is not METHOD TARGET VERSION")
    if _HASH in target:
        raise _fragment()
    if method in _REFUSED_METHODS:
        raise RequestError(405, "bad_method", f"{method.decode()} is refused")
    if target == b"*":
        if method != b"OPTIONS":
            raise RequestError(400, "bad_target", "the target * belongs to OPTIONS")
        return special, method, target
    if target[:1] == b"/":
        return special, method, target
    if target[:7].lower() != b"http://" and target[:8].lower() != b"https://":
        raise RequestError(400, "bad_target", f"unusable request target {target[:80]!r}")
    try:
        parts = urlsplit(target.decode("ascii"))
    except ValueError:
        raise RequestError(400, "bad_target", "unusable absolute request target") from None
    authority = parts.netloc.encode()
    if b"@" in authority or not _AUTHORITY(authority):
        raise RequestError(400, "bad_target", "the target's authority must be HOST or HOST:PORT")
    special.absolute_host = authority
    special.cuts.append(b"host:")
    after = target.index(b"//") + 2 + len(authority)
    path = target[after:] or (b"*" if method == b"OPTIONS" else b"/")
    return special, method, path if path[:1] in (b"/", b"*") else b"/" + path


def _fragment() -> RequestError:
    return RequestError(400, "bad_target", "a request target has no fragment")


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


_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))


class ResponseHead:
    """A response head that was accepted. `length` is -1 when no Content-Length says how long the body is."""

    __slots__ = ("chunked", "cuts", "end", "keep", "length", "status", "upgrade")

    def __init__(self) -> None:
        self.status = 0
        self.end = 0
        self.length = -1
        self.chunked = False
        self.keep = True
        self.upgrade = False
        self.cuts: list[bytes] = []


def check_ordinary_response(data: bytes) -> bool:
    """Whether llhttp accepts `data`, which holds one whole response with a Content-Length."""
    global _response_parser
    try:
        _response_parser.feed_data(data)
    except httptools.HttpParserError:
        _response_parser = httptools.HttpResponseParser(_SILENT)
        return False
    return True


def read_response(data: bytes, blank: int) -> ResponseHead | None:
    """Read the response head whose blank line is at index `blank`; None when it cannot be trusted."""
    low = data[: blank + 2].lower()
    head = ResponseHead()
    head.end = blank + 4
    if low[:9] not in (b"http/1.1 ", b"http/1.0 ") or not low[9:12].isdigit():
        return None
    head.status = int(low[9:12])
    http10 = low[7:8] == b"0"
    connection = b""
    for field in RESPONSE_FIELDS(low):
        if field == _KEPT_ALIVE_LOW and not http10:
            continue
        name, value = _split(field)
        if name == b"content-length:":
            value = value.strip(b" \t")
            if head.length >= 0 or not _DIGITS(value):
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
            head.cuts.append(name)
    if not _response_connection(head, connection, http10) or (head.chunked and head.length >= 0):
        return None
    try:
        httptools.HttpResponseParser(_SILENT).feed_data(data[: head.end])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    return head


def _response_connection(head: ResponseHead, value: bytes, http10: bool) -> bool:
    """Take the Connection fields into account; False when they name what they must not."""
    tokens = [token.strip(b" \t") for token in value.split(b",")] if value else []
    head.keep = b"close" not in tokens and (not http10 or b"keep-alive" in tokens)
    head.upgrade = b"upgrade" in tokens
    for token in tokens:
        if token and token not in _OPTIONS:
            if not _TOKEN(token) or token + b":" in _MUST_STAY:
                return False
            head.cuts.append(token + b":")
    return True
