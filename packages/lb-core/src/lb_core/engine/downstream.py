"""The client's side of a connection: uvicorn's `http=` class.

    HEAD      waiting for a request head, or in the midst of one
    LENGTH    reading a body by Content-Length
    CHUNKED   reading a chunked body
    WAITING   the request is complete; its answer is under way; further requests wait in `buffer` (pipelining)
    TUNNEL    after a 101: bytes come and go by `tunnel`
    LINGER    the last answer is written; what the client still sends is discarded, so that a reset does not destroy
              the answer before it is read (RFC 9112 section 9.6)
    GONE      closed

Of the answers of one connection only one is ever under way, in the order of the requests. After anything that casts
doubt on where the next request begins, the connection is closed instead of kept.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from lb_core.engine.backlog import unacknowledged
from lb_core.engine.chunks import ChunkError, ChunkScanner
from lb_core.engine.deadlines import NEVER
from lb_core.engine.flow import CONNECTING, HIGH_WATER, PEER, PIPELINED, Reader, end_writing, reset, unread
from lb_core.engine.forwarding import Forwarding
from lb_core.engine.request_heads import RequestHead, read_request
from lb_core.engine.retries import EVENTS
from lb_core.engine.special import Plain, Special
from lb_core.errors import RequestError
from lb_core.speedups import scan_request

if TYPE_CHECKING:
    from lb_core.engine.admission import Admission
    from lb_core.engine.engine import Engine
    from lb_core.engine.proxy_protocol import End
    from lb_core.response import Response
    from lb_core.route import Route

HEAD, LENGTH, CHUNKED, WAITING, TUNNEL, LINGER, GONE = range(7)

NOT_LOOKED = -1
LINGER_SECONDS = 2.0
LINGER_BYTES = 1024 * 1024
LAST_REQUEST_GRACE = 0.2
MAX_EMPTY_LINES = 4


def _scan_or_read(data: bytes, blank: int, max_fields: int) -> RequestHead:
    """The ordinary request head in C, every other in Python."""
    return scan_request(data, blank, max_fields, Plain) or read_request(data, blank, max_fields)  # type: ignore[misc]


read = read_request if scan_request is None else _scan_or_read


class Downstream(Reader):
    """One connection from a client."""

    __slots__ = (
        "admission",
        "backlog",
        "buffer",
        "client_key",
        "close",
        "deadline",
        "deadlines",
        "engine",
        "exchange",
        "keep_alive",
        "left",
        "limits",
        "listener",
        "max_fields",
        "max_requests",
        "max_target",
        "origin",
        "peer",
        "plain",
        "port",
        "scanner",
        "scheme",
        "served",
        "server_state",
        "stalled",
        "state",
        "timeouts",
        "told",
    )

    def __init__(self, config: Any, server_state: Any, app_state: Any = None, _loop: Any = None) -> None:
        del app_state, _loop
        self.held = 0
        self.engine: Engine = config.app.engine
        self.deadlines = self.engine.deadlines
        self.listener = config.listener
        self.timeouts = config.listener.timeouts
        self.limits = limits = config.listener.limits
        self.max_target = limits.target
        self.max_fields = limits.fields
        self.max_requests = limits.requests or NEVER
        self.keep_alive = self.timeouts.keep_alive or NEVER
        self.server_state = server_state
        self.admission: Admission | None = config.admission
        self.client_key = ""
        self.buffer = b""
        self.state = HEAD
        self.exchange: Forwarding | None = None
        self.scanner: ChunkScanner | None = None
        self.left = 0
        self.served = 0
        self.close = False
        self.plain = False
        self.stalled = False
        self.backlog = NOT_LOOKED
        self.deadline = NEVER
        self.told: tuple[End, End] | None = None
        """What a PROXY header said of both ends."""

    # connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        told = self.told
        peername = transport.get_extra_info("peername") if told is None else told[0]
        self.peer = peername[0] if isinstance(peername, tuple) else ""
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self.port = self.listener.port if told is None else told[1].port
        if not self.port:
            sockname = transport.get_extra_info("sockname")  # port 0 is any free port; a unix socket has none
            self.port = sockname[1] if isinstance(sockname, tuple) and (told is None or told[0].host) else 0
        self.origin = self.engine.origin(self.peer, self.scheme, self.port)
        if self.admission is not None and not self.admission.admit(self):
            return
        self.server_state.connections.add(self)
        self.deadlines.connections.add(self)
        self.deadline = self.deadlines.clock() + (self.timeouts.header or NEVER)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # gone is gone
        self.state = GONE
        self.server_state.connections.discard(self)
        self.deadlines.connections.discard(self)
        if self.admission is not None and self.client_key:
            self.admission.left(self)
        if self.exchange is not None:
            self.exchange.abandoned()

    def eof_received(self) -> bool:
        return False

    def shutdown(self) -> None:
        """uvicorn is stopping: close when idle; let an exchange end, with `Connection: close` on its answer."""
        self.close = True
        if self.state == HEAD and not self.buffer:
            # a request may be on the way: closed now, it would be lost; answered, it says `Connection: close`
            asyncio.get_running_loop().call_later(LAST_REQUEST_GRACE, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.state == HEAD and not self.buffer and not unread(self.transport):
            self.transport.close()

    # request

    def data_received(self, data: bytes) -> None:
        if self.state != HEAD:
            self._read_more(data)
            return
        begun = self.buffer
        if begun:
            data = begun + data
            self.buffer = b""
        if data[0] <= 32:
            data = self._skip_empty_lines(data)
            if not data:
                return
        # a request without a body usually ends the data: then there is nothing to search
        blank = len(data) - 4 if data[-4:] == b"\r\n\r\n" else data.find(b"\r\n\r\n")
        try:
            if blank < 0:
                self._check_partial(data, begun)
                self.buffer = data
                return
            if blank > self.max_target:
                blank = data.index(b"\r\n\r\n")
                self._check_lengths(data, blank)
            request = method, target, host, head, special, end = read(data, blank, self.max_fields)
            table = self.engine.table
            entry = table.learned.get(host) or table.learn(host or b"")  # type: ignore[arg-type]  # None is no key
            route = entry.route or entry.find(method, target, head, self._client(special)) or self.engine.unmatched
            self.served = served = self.served + 1
            if served >= self.max_requests:
                self.close = True
            if special is None:
                self.state = WAITING
                self.plain = method != b"HEAD"
                if len(data) != end:
                    self.buffer = data[end:]
                self.exchange = exchange = Forwarding(route, self, self.peer, request, entry.host)
                exchange.begin(b"")
            else:
                self._begin_special(route, request, special, entry.host, data)
        except RequestError as error:
            self._refuse(error, data)

    def _read_more(self, data: bytes) -> None:
        """Bytes that begin no request head."""
        state = self.state
        if state in (LENGTH, CHUNKED):
            self._read_body(data)
        elif state == WAITING:
            self.buffer += data
            if len(self.buffer) > HIGH_WATER:
                self.hold(PIPELINED)
        elif state == LINGER:
            self.left -= len(data)
            if self.left < 0:
                self.transport.abort()

    def _skip_empty_lines(self, data: bytes) -> bytes:
        """Empty lines before a request line are skipped, a few of them (RFC 9112 section 2.2)."""
        rest = data.lstrip(b"\r\n")
        skipped = len(data) - len(rest)
        half = b"" if rest else b"\r"  # its line feed may be on the way
        if skipped > 2 * MAX_EMPTY_LINES or data[:skipped].replace(b"\r\n", b"") not in (b"", half):
            self._refuse(RequestError(400, "bad_head", "malformed empty lines before a request line"), b"")
            return b""
        if not rest:
            self.buffer = data
        return rest

    def _check_partial(self, data: bytes, begun: bytes) -> None:
        """A head that is not complete yet: refuse what can no longer become acceptable."""
        if self.served and not begun.strip():
            # the first bytes of a further request: from here to the end of its head, however it trickles
            self.deadline = self.deadlines.clock() + (self.timeouts.header or NEVER)
        if len(data) > self.max_target:
            self._check_lengths(data, len(data))

    def _check_lengths(self, data: bytes, blank: int) -> None:
        line = data.find(b"\r\n", 0, blank + 2)
        if (line if line >= 0 else blank) > self.max_target:
            raise RequestError(414, "target_too_long", f"the request line exceeds {self.max_target} bytes")
        if blank + 4 > self.limits.head:
            raise RequestError(431, "head_too_large", f"the request head exceeds {self.limits.head} bytes")

    def _begin_special(
        self, route: Route, request: RequestHead, special: Special | Plain, host: bytes, data: bytes
    ) -> None:
        """A request with a body, or with fields that need a closer look."""
        if special.close:
            self.close = True
        end = request[5]
        if special.length == len(data) - end and type(special) is Plain:
            # the whole request is here: most that have a body are short
            self.state = WAITING
            self.plain = request[0] != b"HEAD"
            self.exchange = exchange = Forwarding(route, self, self.peer, request, host)
            if route.max_body and special.length > route.max_body:
                exchange.begin_refused(_body_too_large(route.max_body))
            else:
                exchange.begin(data[end:])
            return
        body = self._frame(data[end:], special.length, special.chunked)
        self.plain = self.state == WAITING and self._may_be_plain(request[0], special)
        self.exchange = exchange = Forwarding(route, self, self._client(special), request, host)
        if route.max_body and self._too_large(special.length, route.max_body):
            exchange.begin_refused(_body_too_large(route.max_body))
        else:
            exchange.begin(body)

    def _client(self, special: Special | Plain | None) -> str:
        return self.origin.client(special) if self.origin.trusted else self.peer

    def _may_be_plain(self, method: bytes, special: Special | Plain | None) -> bool:
        """Whether an ordinary response may pass as it is."""
        return method != b"HEAD" and (special is None or not (special.upgrade or special.http10))

    def _too_large(self, length: int, limit: int) -> bool:
        return length > limit or (self.scanner is not None and self.scanner.payload > limit)

    def _frame(self, data: bytes, length: int, chunked: bool) -> bytes:
        """The part of a body that came with its head; sets the state. Raises RequestError."""
        if chunked:
            self.scanner = ChunkScanner()
            self.state = CHUNKED
            return self._scan(data) if data else b""
        self.scanner = None
        length = max(length, 0)
        self.left = length - len(data)
        if self.left > 0:
            self.state = LENGTH
            return data
        self.state = WAITING
        if self.left < 0:
            self.buffer = data[length:]
            data = data[:length]
        return data

    def _scan(self, data: bytes) -> bytes:
        scanner = self.scanner
        if scanner is None:
            raise AssertionError("a chunked body without its scanner")
        try:
            out = scanner.feed(data)
        except ChunkError as error:
            raise RequestError(400, "bad_framing", f"chunked body: {error}") from None
        if scanner.finished:
            self.state = WAITING
            self.buffer = scanner.rest
        return out

    def _read_body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            raise AssertionError("a body without its exchange")
        arrived = len(data)
        if self.state == CHUNKED:
            try:
                data = self._scan(data)
            except RequestError as error:
                exchange.broken_request(error)
                return
            limit = exchange.route.max_body
            if limit and self._too_large(0, limit):
                exchange.broken_request(_body_too_large(limit))
                return
        else:
            self.left -= len(data)
            if self.left <= 0:
                self.state = WAITING
                if self.left < 0:
                    self.buffer = data[self.left :]
                    data = data[: self.left]
        if self.state == WAITING:
            exchange.asked = monotonic()
            self.plain = self._may_be_plain(exchange.raw_method, exchange.request[4])
            if not self.stalled:
                self.deadline = min(self.deadlines.now + exchange.route.header_timeout, exchange.latest)
        else:
            self._expect_more(exchange, arrived)
        if data:
            exchange.send_body(data)

    def _expect_more(self, exchange: Forwarding, arrived: int) -> None:
        """The body goes on: its deadline moves only as far as `limits.body_rate` allows for the bytes that came."""
        if self.stalled:
            return  # it does not read what is said to it already: that deadline rules
        deadline = self.deadlines.now + (self.timeouts.body or NEVER)
        rate = self.limits.body_rate
        if rate:
            deadline = min(deadline, self.deadline + arrived / rate)
        self.deadline = min(deadline, exchange.latest)

    def take_more(self) -> None:
        """The backend takes the body again: the time in which it did not was not the client's."""
        self.release(PEER)
        if self.state in (LENGTH, CHUNKED) and not self.stalled and self.exchange is not None:
            self.deadline = min(self.deadlines.now + (self.timeouts.body or NEVER), self.exchange.latest)

    def _refuse(self, error: RequestError, data: bytes) -> None:
        """Answer a request that cannot be read, and close: nobody knows where the next one would begin."""
        line = data[: max(data.find(b"\r\n"), 0)].split(b" ")[:2]
        method, target = line if len(line) == 2 else (b"", b"")
        self.close = True
        self.buffer = b""
        request: RequestHead = (method, target[: self.max_target], None, b"", None, 0)
        exchange = Forwarding(self.engine.unmatched, self, self.peer, request, b"")
        self.exchange = exchange
        exchange.begin_refused(error)

    # what the exchange asks for

    def wait(self, latest: float) -> None:
        """There is no backend yet: read no more of a body, and let other timeouts rule until `latest`."""
        if not self.request_complete:
            self.hold(CONNECTING)
        self.deadline = latest

    @property
    def request_complete(self) -> bool:
        """Whether the request under way has been read to its end."""
        return self.state >= WAITING

    def sending(self, exchange: Forwarding) -> None:
        """The head is on its way; read on for the body, or wait for the answer."""
        self.release(CONNECTING)
        limit = exchange.route.header_timeout if self.request_complete else self.timeouts.body or NEVER
        self.deadline = min(self.deadlines.now + limit, exchange.latest)

    def progress(self, exchange: Forwarding) -> None:
        """Bytes of the answer went out."""
        if not self.stalled:
            route = exchange.route
            if exchange.unusual & EVENTS:
                self.deadline = self.deadlines.now + route.tunnel_timeout
            else:
                self.deadline = min(self.deadlines.now + route.idle_timeout, exchange.latest)

    def connection_field(self, http10: bool) -> bytes:
        """The Connection field of the answer: none where HTTP/1.1 goes on."""
        if self.close:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if http10 else b""

    def send_answer(self, response: Response, exchange: Forwarding) -> None:
        """Write an answer made here."""
        if not self.request_complete:
            self.close = True
        head_only = exchange.raw_method == b"HEAD"
        self.transport.write(response.encode(connection=self.connection_field(exchange.http10), without_body=head_only))

    def finished(self) -> None:
        """The exchange has ended: go on with the next request, or close."""
        self.exchange = None
        if self.held:
            self.release(CONNECTING | PEER)
        if self.close or self.state != WAITING:
            if self.state != GONE:
                self._end(complete=self.state in (WAITING, TUNNEL))
            return
        self.state = HEAD
        self.deadline = self.deadlines.now + self.keep_alive
        if self.buffer or self.stalled:
            # a pipelined request, taken through the loop, so that a thousand of them do not recurse; or a client that
            # must read its answers before it may ask for more
            self.state = WAITING
            if self.stalled:
                self._await_reader()
            else:
                asyncio.get_running_loop().call_soon(self._next)
        elif self.held:
            self.release(PIPELINED)

    def _next(self) -> None:
        if self.state != WAITING or self.exchange is not None or self.stalled:
            return
        data, self.buffer = self.buffer, b""
        self.state = HEAD
        if self.held:
            self.release(PIPELINED)
        if data:
            self.data_received(data)

    def _end(self, *, complete: bool) -> None:
        """Close after the last answer; while the client still sends, linger."""
        if complete or self.transport.is_closing() or not self.transport.can_write_eof():
            self._await_reader()
            self.transport.close()
            return
        self.state = LINGER
        self.left = LINGER_BYTES
        self.deadline = self.deadlines.clock() + LINGER_SECONDS
        if self.held:
            self.release(self.held)
        end_writing(self.transport)

    # tunnel

    def begin_tunnel(self) -> bytes:
        """The backend has switched protocols: no request follows. Returns what the client has sent ahead."""
        self.state = TUNNEL
        self.close = True
        early, self.buffer = self.buffer, b""
        return early

    # flow and time

    def pause_writing(self) -> None:
        self.stalled = True
        self._await_reader()
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.hold(PEER)

    def resume_writing(self) -> None:
        self.stalled = False
        exchange = self.exchange
        if exchange is not None:
            if exchange.upstream is not None:
                exchange.upstream.release(PEER)
            self.progress(exchange)
        elif self.state == WAITING:
            self.deadline = self.deadlines.now + self.keep_alive
            self._next()

    def _await_reader(self) -> None:
        """What has been written waits for the client: look half a `timeouts.write` from now, and then again."""
        self.backlog = NOT_LOOKED
        self.deadline = self.deadlines.now + (self.timeouts.write or NEVER) / 2

    def _still_reads(self, now: float) -> bool:
        """Whether a client that lets an answer wait reads it at `limits.read_rate`, or has half its time left."""
        exchange = self.exchange
        latest = exchange.latest if exchange is not None else NEVER
        window = (self.timeouts.write or NEVER) / 2
        before, self.backlog = self.backlog, unacknowledged(self.transport)
        if now >= latest:
            return False
        if before != NOT_LOOKED and before - self.backlog < max(self.limits.read_rate * window, 1):
            return False
        self.deadline = min(now + window, latest)
        return True

    def expired(self, now: float) -> None:
        """The deadline has passed."""
        closing = self.transport.is_closing()
        if self.stalled or closing:
            if self._still_reads(now):
                return
            reset(self.transport)  # else the kernel would keep what it holds for this client, for minutes
        if self.exchange is not None:
            self.deadline = NEVER
            self.exchange.expire()
        elif self.state == HEAD and self.buffer:
            self._refuse(RequestError(408, "head_timeout", "the request head did not come in time"), self.buffer)
        elif self.state == HEAD and unread(self.transport):
            self.deadline = now + LINGER_SECONDS  # a request came in time, and the loop has not come to it yet
        else:
            self.transport.abort() if self.stalled or closing else self.transport.close()
            self.deadline = now + LINGER_SECONDS


def _body_too_large(limit: int) -> RequestError:
    return RequestError(413, "body_too_large", f"the request body exceeds {limit} bytes")
