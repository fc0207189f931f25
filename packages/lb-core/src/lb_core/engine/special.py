"""What a request head says beyond the ordinary: framing, hop-by-hop fields, what a proxy in front of us has said."""

from __future__ import annotations

import re
from typing import ClassVar

from lb_core.engine.heads import MUST_STAY, field_value, is_digits, is_token
from lb_core.errors import RequestError

is_plain_length = re.compile(rb" (?:0|[1-9][0-9]{0,17})").fullmatch
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,200}").fullmatch


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
        """The value of a field that stands there once, else nothing; `name` is lower-case with colon."""
        low = self.low
        return field_value(self.head, low, name) if low.count(b"\n" + name) == 1 else b""

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
        if self.length < 0 and is_plain_length(value):
            self.length = int(value)
            return
        value = value.strip(b" \t")
        if self.length >= 0 or not is_digits(value):
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
                if not is_token(token):
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
            wanted = self.tunnel and not self.http10
            if wanted and self.has_body:
                raise RequestError(400, "bad_framing", "a request to upgrade carries no body")
            if not wanted or head[:4] != b"GET ":  # only GET can (RFC 6455 section 4.1)
                self.upgrade = b""
                self.cuts.append(b"upgrade:")
        for name in self.named:
            if name in MUST_STAY:
                raise RequestError(400, "bad_head", f"Connection must not name {name[:-1].decode('latin-1')!r}")
        self.cuts += self.named
        self.passes = not (
            self.cuts or self.request_ids or self.http10 or self.absolute_host or self.upgrade or self.restated
        )


class Plain:
    """What most heads that are not ordinary say: a Content-Length in its plain form, or `Connection: close`, or both.

    It answers like a Special; all but these two is the same for every one of them.
    """

    __slots__ = ("close", "length")

    chunked = http10 = expect = False
    passes = True
    upgrade = request_id = absolute_host = restated = b""
    cuts: ClassVar[list[bytes]] = []
    forwarded_for: ClassVar[list[bytes]] = []

    def __init__(self, length: int, close: bool) -> None:
        self.length = length
        self.close = close

    @property
    def has_body(self) -> bool:
        """Whether body bytes follow the head."""
        return self.length > 0

    def value(self, name: bytes) -> bytes:
        """No field of interest is there."""
        del name
        return b""
