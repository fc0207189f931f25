"""Request heads: what is read from them, and what is refused (the rules stand in `heads`).

The ordinary request (HTTP/1.1, origin form, no body, nothing special) has no Special: nothing is allocated for it but
the slices.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httptools

from lb_core.engine.heads import KEPT_ALIVE, SILENT
from lb_core.engine.special import Plain, Special, is_plain_length
from lb_core.errors import RequestError

REQUEST_LINES = re.compile(rb"\n(?:[HTUKPEXFhtukpexf\r][OTERPXoterpx_\n-]|[Cc][Oo][Nn])[^\r]*").findall
"""The field lines that may matter, by their first letters, each with the line feed before it: most lines cost one look,
and those of a browser that get a second one are Host and Connection. A blank line shows as `\\n\\r`."""
_SPECIAL = frozenset(
    b"\n" + name
    for name in (
        b"connection content-length content_length transfer-encoding transfer_encoding te trailer upgrade keep-alive"
        b" proxy-connection proxy_connection expect http2-settings forwarded"
    ).split()
)
_SPECIAL_X = re.compile(rb"\nx[-_](?:forwarded[-_]|real[-_]ip$|request[-_]id$)").match
_CLOSED = b"\nConnection: close"
_ORDINARY_LINE = re.compile(rb"(?!CONNECT |TRACE )([^ ]+) (/[^ ]*) HTTP/1\.1\r\n").match
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?").fullmatch
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
_HASH = ord("#")  # looking for b"#" would make CPython raise and drop a TypeError first: a thousand instructions
_X = ord("x")
_CR = ord("\r")

_parser = httptools.HttpRequestParser(SILENT)


RequestHead = tuple[bytes, bytes, bytes | None, bytes, Special | Plain | None, int]
"""An accepted request head: method, target, Host value, the head up to its blank line, Special, the index behind it.

A plain tuple: a NamedTuple costs a quarter of a microsecond, a hundredth of a request."""


def read_request(data: bytes, blank: int, max_fields: int) -> RequestHead:
    """Read the head of `data` whose blank line is at index `blank`.

    The Host value is raw (leading blank included): the key of the learned table. Raises RequestError. What
    this does not look at (folded lines, control characters, blanks before a colon) llhttp refuses.
    """
    global _parser
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
    length = -1
    close = False
    for line in REQUEST_LINES(head):
        if line == KEPT_ALIVE:
            continue
        if line[:6] == b"\nHost:" and host is None:
            host = line[6:]
            continue
        if line == _CLOSED and not close:
            close = True
            continue
        colon = line.find(b":")
        name = line[:colon].lower()
        if name == b"\ncontent-length" and length < 0 and is_plain_length(line, colon + 1):
            length = int(line[colon + 1 :])
            continue
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
    # a field takes four bytes at least; CPython replaces with memchr, and counts byte by byte at twice the cost
    if blank > 4 * max_fields and len(head) - len(head.replace(b"\n", b"")) > max_fields + 1:
        raise RequestError(431, "too_many_fields", f"more than {max_fields} header fields")
    end = blank + 4
    try:
        if special is None:
            if not close and length < 0:
                _parser.feed_data(data if len(data) == end else data[:end])
                if host is not None:
                    return method, target, host, head, None, end
            else:
                if close:
                    head = head.replace(_CLOSED + b"\r\n", b"\n", 1)
                if not close and len(data) == end + length:
                    _parser.feed_data(data)
                else:
                    # one of its own: the shared one would wait for a body, or for nothing ever again
                    httptools.HttpRequestParser(SILENT).feed_data(data[:end])
                if host is not None:
                    return method, target, host, head, Plain(length, close), end
        else:
            if close:
                special.note(b"connection:", b" close")
            if length >= 0:
                special.note(b"content-length:", b" %d" % length)
            special.settle(head)
            # one of its own: a body, an upgrade or a close, Proxy-Connection's too, would change the shared one
            httptools.HttpRequestParser(SILENT).feed_data(data[:end])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        _parser = httptools.HttpRequestParser(SILENT)
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


def _unusual_line(head: bytes) -> tuple[Special, bytes, bytes]:
    """A request line that is not `METHOD /target HTTP/1.1`: what it asks for, its method and the origin form."""
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
