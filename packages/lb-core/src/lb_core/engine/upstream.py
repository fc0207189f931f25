"""The backend's side of a connection: reads a response, checks its framing, passes it on.

    HEAD     waiting for a response head; without an exchange the connection is idle, and a byte that arrives, or the
             end, closes it
    LENGTH   counting down Content-Length
    CHUNKED  walking from chunk to chunk
    CLOSE    the body ends with the connection (RFC 9112 section 6.3, item 8)
    PASSING  the body, however framed, passes through what a plugin has assigned (`transforming`)

After a 101 the connection belongs to a tunnel.

The commonest response of all (HTTP/1.1, a Content-Length, whole in one read, nothing to change) is passed on in one
write, as received, once llhttp has accepted it. Everything else takes the general path; both give the same answers.

A connection is kept for the next exchange only when this one left nothing behind: the response ended exactly where its
framing said, the request had been sent to its end, and both sides meant to go on.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

from lb_core.engine.chunks import ChunkError, ChunkScanner
from lb_core.engine.flow import HIGH_WATER, PEER, Reader
from lb_core.engine.heads import KEPT_ALIVE, cut, is_digits
from lb_core.engine.response_heads import (
    MAX_RESPONSE_HEAD,
    OK_LINE,
    RESPONSE_LINES,
    ResponseHead,
    check_ordinary_head,
    check_ordinary_response,
    plain_status,
    read_response,
)
from lb_core.engine.transforming import Transforming
from lb_core.engine.tunnel import open_tunnel
from lb_core.errors import BackendReset, InvalidResponse
from lb_core.speedups import scan_response

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.engine.forwarding import Forwarding

HEAD, LENGTH, CHUNKED, CLOSE, PASSING = range(5)
MAX_INTERIM = 16
INTERIM = object()
"""The key in an exchange's state of how many it has passed on."""


class Upstream(Reader):
    """One connection to a backend."""

    __slots__ = (
        "__weakref__",
        "backend",
        "buffer",
        "exchange",
        "idle_since",
        "keep",
        "left",
        "mode",
        "rechunk",
        "scanner",
        "transforming",
        "used",
    )

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.transport = cast("asyncio.Transport", None)  # until connected
        self.held = 0
        self.exchange: Forwarding | None = None
        self.mode = HEAD
        self.buffer = b""
        self.keep = True
        self.left = 0
        self.scanner: ChunkScanner | None = None
        self.rechunk = False
        self.transforming: Transforming | None = None
        self.used = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.backend.idle.pop(self, None)
            self.transport.abort()
        elif self.mode == HEAD:
            if scan_response is not None and exchange.downstream.plain and not self.buffer:
                whole = scan_response(data)
                if whole is not None:
                    if exchange.downstream.close:
                        data = _closing(data, KEPT_ALIVE + b"\r" in data[: len(data) - whole[1]])
                    self._pass_whole(exchange, data, *whole)
                    return
            status = 200 if data[:17] == OK_LINE else plain_status(data)
            if (
                status is None
                or self.buffer
                or not exchange.downstream.plain
                or not self._pass_ordinary(exchange, status, data)
            ):
                self._read_head(exchange, data)
        else:
            self._read_body(exchange, data)

    def _read_body(self, exchange: Forwarding, data: bytes) -> None:
        mode = self.mode
        if mode == LENGTH:
            self._read_length(exchange, data)
        elif mode == CHUNKED:
            self._read_chunks(exchange, data)
        elif mode == PASSING:
            self._read_passing(exchange, data)
        else:
            self._pass(exchange, b"%x\r\n%b\r\n" % (len(data), data) if self.rechunk else data)

    def _pass_ordinary(self, exchange: Forwarding, status: int, data: bytes) -> bool:
        """The fast path, for heads with nothing to change; False leaves the data to the general one."""
        blank = data.find(b"\r\n\r\n")
        lines = RESPONSE_LINES(data, 0, blank)
        line = lines[0] if lines else b""
        if len(lines) == 2:
            if line == KEPT_ALIVE:
                line = lines[1]
            elif lines[1] != KEPT_ALIVE:
                return False
        elif len(lines) != 1:
            return False
        if line[:16].lower() != b"\ncontent-length:":
            return line.lower() == b"\ntransfer-encoding: chunked" and self._pass_chunked(exchange, status, data, line)
        try:
            length = int(line[16:])
        except ValueError:
            return False
        left = length - (len(data) - blank - 4)
        if left or length < 0:
            return left > 0 and length > 0 and self._pass_first(exchange, status, data, line, left)
        if not check_ordinary_response(data):
            self._invalid(exchange, "malformed response")
            return True
        if exchange.downstream.close:
            data = _closing(data, len(lines) == 2)
        self._pass_whole(exchange, data, status, length)
        return True

    def _pass_whole(self, exchange: Forwarding, data: bytes, status: int, length: int) -> None:
        """A whole response that was accepted, in one write."""
        downstream = exchange.downstream
        exchange.status = status
        exchange.bytes_out = length
        exchange.first_byte = now = monotonic()
        route = exchange.route
        if route.on_response is not None:
            exchange.response_head = data
            try:
                route.on_response(exchange)
            except Exception as error:
                route.contain(error, "on_response")
            if exchange._response_headers is not None:
                changed = exchange.changed_response_head()
                if changed is not None:
                    if exchange.transform is not None:
                        self.keep = True
                        self._begin_passing(exchange, data, changed)
                        return
                    data = b"%b\r\n%b" % (changed, data[-length:] if length else b"")
        downstream.transport.write(data)
        if self.held:
            self.release(self.held)  # the client does not keep up; that is no matter of the next exchange
        self.exchange = None
        self.used = True
        self.idle_since = now
        self.backend.idle[self] = None
        exchange.finish(now)

    def _pass_first(self, exchange: Forwarding, status: int, data: bytes, line: bytes, left: int) -> bool:
        """An ordinary head with the first part of its body."""
        if not is_digits(line[16:].strip(b" \t")):  # Python's int() reads `+5`, `1_000` and any number of digits
            return False
        end = data.index(b"\r\n\r\n") + 4
        if exchange.downstream.close or not check_ordinary_head(data[:end], line):
            return False
        exchange.begin_response(status, data)
        changed = exchange.changed_response_head()
        self.keep = True
        if changed is not None:
            if exchange.transform is not None:
                self._begin_passing(exchange, data, changed)
                return True
            data = b"%b\r\n%b" % (changed, data[end:])
        self.mode = LENGTH
        self.left = left
        exchange.bytes_out = len(data) - end
        self._pass(exchange, data, counted=False)
        return True

    def _pass_chunked(self, exchange: Forwarding, status: int, data: bytes, line: bytes) -> bool:
        """An ordinary head with a chunked body, or its first part."""
        end = data.index(b"\r\n\r\n") + 4
        if exchange.downstream.close or not check_ordinary_head(data[:end], line):
            return False
        scanner = ChunkScanner()
        try:
            out = scanner.feed(data[end:])
        except ChunkError:
            return False  # the general path cuts, as it does wherever in the body chunks turn out to be malformed
        exchange.begin_response(status, data)
        changed = exchange.changed_response_head()
        if changed is not None and exchange.transform is not None:
            self.keep = True
            self._begin_passing(exchange, data, changed)
            return True
        head = data[:end] if changed is None else changed + b"\r\n"
        self.keep = not scanner.rest
        exchange.bytes_out = len(out)
        self._pass(exchange, head + out, counted=False)
        if scanner.finished:
            self._finish(exchange)
        else:
            self.mode = CHUNKED
            self.scanner = scanner
        return True

    def _read_head(self, exchange: Forwarding, data: bytes) -> None:
        """The general path: any response head."""
        if self.buffer:
            data = self.buffer + data
            self.buffer = b""
        blank = data.find(b"\r\n\r\n")
        if blank < 0 or blank > MAX_RESPONSE_HEAD:
            if len(data) > MAX_RESPONSE_HEAD:
                self._invalid(exchange, f"response head over {MAX_RESPONSE_HEAD} bytes")
            elif data[:5] != b"HTTP/"[: len(data)]:  # another protocol, which may never say an empty line
                self._invalid(exchange, f"what it says is not HTTP: {data[:20]!r}")
            else:
                self.buffer = data
            return
        head = read_response(data, blank)
        if head is None or head.status < 100 or head.status > 599:
            self._invalid(exchange, "malformed response head, or framing that cannot be trusted")
        elif head.status >= 200:
            self._pass_head(exchange, head, data)
        elif head.status == 101:
            self._switch(exchange, head, data)
        else:
            self._pass_interim(exchange, head, data)

    def _pass_interim(self, exchange: Forwarding, head: ResponseHead, data: bytes) -> None:
        """1xx: passed on to clients of HTTP/1.1, a small number of them (RFC 9110 section 15.2)."""
        passed = exchange.state.get(INTERIM, 0) + 1  # by all attempts together
        exchange.state[INTERIM] = passed
        if passed > MAX_INTERIM or head.length >= 0 or head.chunked:
            self._invalid(exchange, "too many interim responses, or one with a body")
            return
        if not exchange.http10:
            exchange.downstream.transport.write(cut(data[: head.end - 2], head.cuts) + b"\r\n")
        if len(data) > head.end:
            self._read_head(exchange, data[head.end :])

    def _switch(self, exchange: Forwarding, head: ResponseHead, data: bytes) -> None:
        """101: from here on bytes pass both ways, if it is what the client asked for."""
        if not exchange.wants_tunnel:
            self._invalid(exchange, "101 Switching Protocols that nobody asked for")
        elif not head.upgrade or head.protocol != b"websocket" or data[:9] != b"HTTP/1.1 ":
            self._invalid(exchange, "101 Switching Protocols, but not to a WebSocket")
        elif head.chunked or head.length > 0:
            self._invalid(exchange, "101 Switching Protocols with a body")
        else:
            if head.length == 0:
                head.cuts.append(b"content-length:")
            open_tunnel(exchange, self, head, data)

    def _pass_head(self, exchange: Forwarding, head: ResponseHead, data: bytes) -> None:
        downstream = exchange.downstream
        self.keep = head.keep
        without_body = exchange.raw_method == b"HEAD" or head.status in (204, 304)
        until_close = not without_body and not head.chunked and head.length < 0
        decode = head.chunked and exchange.http10
        self.rechunk = until_close and not exchange.http10
        self.scanner = ChunkScanner(decode=decode) if head.chunked and not without_body else None
        if decode or (until_close and exchange.http10) or not downstream.request_complete:
            downstream.close = True
        if decode or head.status == 204:
            head.cuts.append(b"transfer-encoding:")
        if head.status == 204:
            head.cuts.append(b"content-length:")
        exchange.begin_response(head.status, data)
        changed = exchange.changed_response_head()
        if changed is not None and not without_body and exchange.transform is not None:
            self._begin_passing(exchange, data, changed)
            return
        lines = changed or data[: head.end - 2]
        if lines[:8] == b"HTTP/1.0":
            lines = b"HTTP/1.1" + lines[8:]  # our version, not the backend's (RFC 9110 section 2.5)
        lines = cut(lines, [*head.cuts, b"connection:"] if downstream.close or exchange.http10 else head.cuts)
        block = downstream.connection_field(exchange.http10)
        if self.rechunk:
            block += b"Transfer-Encoding: chunked\r\n"
        body = data[head.end :]
        if without_body:
            self.keep = self.keep and not body
            downstream.transport.write(b"%b%b\r\n" % (lines, block))
            self._finish(exchange)
            return
        self.mode = LENGTH if head.length >= 0 else CHUNKED if head.chunked else CLOSE
        self.left = head.length
        if self.mode == LENGTH and len(body) >= head.length:
            self.keep = self.keep and len(body) == head.length
            self._pass(exchange, b"%b%b\r\n%b" % (lines, block, body[: head.length]), counted=False)
            exchange.bytes_out = head.length
            self._finish(exchange)
        elif self.mode == LENGTH:
            self.left -= len(body)
            exchange.bytes_out = len(body)
            self._pass(exchange, b"%b%b\r\n%b" % (lines, block, body), counted=False)
        else:
            self._pass(exchange, b"%b%b\r\n" % (lines, block), counted=False)
            if body:
                self._read_body(exchange, body)

    def _read_length(self, exchange: Forwarding, data: bytes) -> None:
        left = self.left - len(data)
        if left < 0:
            self.keep = False
            data = data[: self.left]
        self.left = left
        self._pass(exchange, data)
        if left <= 0:
            self._finish(exchange)

    def _read_chunks(self, exchange: Forwarding, data: bytes) -> None:
        scanner = self.scanner
        if scanner is None:
            raise AssertionError("a chunked body without its scanner")
        try:
            out = scanner.feed(data)
        except ChunkError:
            self._cut_short(exchange)
            return
        if out:
            self._pass(exchange, out)
        if scanner.finished:
            self.keep = self.keep and not scanner.rest
            self._finish(exchange)

    def _begin_passing(self, exchange: Forwarding, data: bytes, lines: bytes) -> None:
        """A head whose body passes through a transform, and what of that is here; `lines` is the head as changed."""
        head = read_response(data, data.index(b"\r\n\r\n"))
        transform = exchange.transform
        if head is None or transform is None:  # neither can be: both have been looked at
            self._cut_short(exchange)
            return
        downstream = exchange.downstream
        body = self.transforming = Transforming(transform, head)
        out = self._transformed(exchange, body, data[head.end :])
        if out is None:
            return
        framing = b""
        if body.ended:
            framing = b"Content-Length: %d\r\n" % len(out)
        elif exchange.http10:
            downstream.close = True
        else:
            framing = b"Transfer-Encoding: chunked\r\n"
            out = body.begin_chunks(out)
        if not downstream.request_complete:
            downstream.close = True
        cuts = [*head.cuts, b"content-length:", b"transfer-encoding:"]
        if downstream.close or exchange.http10:
            cuts.append(b"connection:")
        lines = cut(b"HTTP/1.1" + lines[8:], cuts)
        block = downstream.connection_field(exchange.http10)
        self.mode = PASSING
        exchange.bytes_out = len(out)
        self._pass(exchange, b"%b%b%b\r\n%b" % (lines, block, framing, out), counted=False)
        self._end_passing(exchange, body)

    def _read_passing(self, exchange: Forwarding, data: bytes | None) -> None:
        """More of a body that passes through a transform; None for its end, where that is the connection's."""
        body = self.transforming
        if body is None:
            raise AssertionError("a body on its way through nothing")
        out = self._transformed(exchange, body, data)
        if out is None:
            return
        if out:
            self._pass(exchange, out)
        else:
            exchange.downstream.progress(exchange)  # it came on, and nothing is due to the client yet
        self._end_passing(exchange, body)

    def _transformed(self, exchange: Forwarding, body: Transforming, data: bytes | None) -> bytes | None:
        """What comes of a part of a body; None where the response had to be cut short."""
        try:
            return body.close() if data is None else body.feed(data)
        except ChunkError:
            pass
        except Exception as error:
            exchange.route.report(error, "transform", "the response was cut short")
        self._cut_short(exchange)
        return None

    def _end_passing(self, exchange: Forwarding, body: Transforming) -> None:
        if body.ended:
            self.transforming = None
            self.keep = self.keep and body.clean and not body.until_close
            self._finish(exchange)

    def _pass(self, exchange: Forwarding, data: bytes, *, counted: bool = True) -> None:
        downstream = exchange.downstream
        if counted:
            exchange.bytes_out += len(data)
        downstream.transport.write(data)
        downstream.progress(exchange)

    def _finish(self, exchange: Forwarding) -> None:
        """The response has ended where its framing said."""
        now = monotonic()
        self.exchange = None
        self.mode = HEAD
        self.scanner = None
        self.used = True
        if self.keep and exchange.downstream.request_complete and not self.transport.is_closing():
            if self.held:
                self.release(self.held)
            self.idle_since = now
            self.backend.idle[self] = None
        else:
            self.transport.close()
        exchange.finish(now)

    def _invalid(self, exchange: Forwarding, detail: str) -> None:
        self.abandon()
        exchange.failed(InvalidResponse(f"backend {self.backend.name}: {detail}"))

    def _cut_short(self, exchange: Forwarding) -> None:
        """The response broke off: the client's connection is cut too, so that it can tell."""
        self.abandon()
        exchange.cut_short("reset")

    def abandon(self) -> None:
        """Leave the exchange and close at once, whatever is under way."""
        self.exchange = None
        self.transforming = None
        self.mode = HEAD
        if self.transport is not None:
            self.transport.abort()

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.downstream.hold(PEER)

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.downstream.take_more()

    def eof_received(self) -> bool:
        self.backend.idle.pop(self, None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self.exchange
        if exchange is None:
            self.backend.idle.pop(self, None)
            return
        mode = self.mode
        if mode == PASSING and exc is None and self.transforming is not None and self.transforming.until_close:
            self._read_passing(exchange, None)
            return
        self.exchange = None
        self.mode = HEAD
        if mode == HEAD and not self.buffer:
            how = "reset" if exc else "closed"
            exchange.failed(
                BackendReset(f"backend {self.backend.name} {how} the connection before answering", reused=self.used)
            )
        elif mode == HEAD:
            exchange.failed(InvalidResponse(f"backend {self.backend.name} closed within the response head"))
        elif mode == CLOSE and exc is None:
            if self.rechunk:
                exchange.downstream.transport.write(b"0\r\n\r\n")
            exchange.finish(monotonic())
        else:
            exchange.cut_short("reset")


def _closing(data: bytes, kept_alive: bool) -> bytes:
    """An ordinary response that says it is the last on its connection."""
    if kept_alive:
        return data.replace(KEPT_ALIVE + b"\r", b"\nConnection: close\r", 1)
    return data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
