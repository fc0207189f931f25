"""The balancer inside somebody's ASGI application.

The same Downstream that serves a socket is given a transport that is none: what the ASGI server has read is written
down as HTTP/1.1 again and fed to it, and what it writes is read as a response and sent as ASGI messages. So there is
one implementation of framing, limits, retries and hooks, and a request that reaches us through another server passes
the same checks.

Back-pressure holds both ways: `receive` is awaited only while Downstream reads, and Downstream is told to pause while
`send` has not taken what was written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes

from lb_core.engine.chunks import ChunkScanner
from lb_core.engine.downstream import Downstream
from lb_core.engine.flow import HIGH_WATER
from lb_core.engine.response_heads import ResponseHead, read_response
from lb_core.errors import RequestError
from lb_core.response import Response

if TYPE_CHECKING:
    from lb_core.config import ListenerConfig

log = logging.getLogger("lb.engine")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_OURS = frozenset((b"connection", b"keep-alive", b"transfer-encoding"))
_DROPPED = frozenset((b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer", b"host"))
"""What is between the client and the server only, or written anew; Connection stays, for what it names must go too."""


class ServerState:
    """uvicorn's, as far as Downstream uses it."""

    def __init__(self) -> None:
        self.connections: set[Downstream] = set()


class EmbeddedSettings:
    """What Downstream reads from uvicorn's config."""

    def __init__(self, app: Any, listener: ListenerConfig) -> None:
        self.app = app
        self.listener = listener
        self.admission = None  # how many requests are served at a time is for the ASGI server to say


class AsgiBridge:
    """The ASGI callable of one balancer."""

    def __init__(self, app: Any, listener: ListenerConfig) -> None:
        self._settings = EmbeddedSettings(app, listener)
        self._state = ServerState()
        self._app = app
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: http, or the lifespan of a balancer that is the whole application."""
        if scope["type"] == "http":
            self._check_running()
            await _Exchanged(self._settings, self._state, scope, receive, send).run()
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1011, "reason": "WebSocket is not proxied when embedded"})
        else:
            raise ValueError(f"ASGI scope {scope['type']!r} is none of http, websocket, lifespan")

    def _check_running(self) -> None:
        """Say once that nobody has entered the lifespan: a mounted application is not given one by Starlette."""
        if not self._warned and not self._app.running:
            self._warned = True
            log.warning(
                "the balancer serves without its lifespan: no health checks, no timeouts, no access log; "
                "pass lifespan=balancer.lifespan to the application it is mounted in"
            )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        phase = "startup"
        try:
            async with self._app.lifespan(self._app):
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as error:
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


class _Exchanged(asyncio.Transport):
    """One request as a connection of its own: the transport Downstream writes to, and the response it is read as."""

    def __init__(
        self, settings: EmbeddedSettings, state: ServerState, scope: Scope, receive: Receive, send: Send
    ) -> None:
        super().__init__()
        self._scope = scope
        self._receive = receive
        self._send = send
        self._reading = asyncio.Event()
        self._reading.set()
        self._written = asyncio.Event()
        self._out: list[dict[str, Any]] = []
        self._size = 0
        self._paused = False
        self._closing = False
        self._broken = False
        self._status = 0
        self._scanner: ChunkScanner | None = None
        self._left = 0
        self._ended = False
        self._downstream = Downstream(settings, state)
        self._is_head = scope["method"] == "HEAD"

    async def run(self) -> None:
        """Feed the request, send the response; returns when that is complete, raises when it was cut.

        The first message comes first of all: how the body is framed hangs on it, and no time limit of ours runs yet.
        """
        first = await self._receive()
        if first["type"] == "http.disconnect":
            return
        try:
            head, chunked = _request_head(self._scope, first)
        except RequestError as error:
            self.write(Response.problem(error.status, error.word, error.detail).encode())
            await self._drain()
            return
        self._downstream.connection_made(self)
        feeding = asyncio.create_task(self._feed(head, first, chunked))
        try:
            await self._drain()
        finally:
            self._closing = True
            feeding.cancel()
            await asyncio.wait([feeding])
            self._downstream.connection_lost(None)
            del self._downstream  # the two hold each other; what is written from now on is dropped
        if self._broken:
            raise ConnectionResetError("the response was cut short, and so is the connection to the client")

    async def _feed(self, head: bytes, message: dict[str, Any], chunked: bool) -> None:
        """Hand the request to Downstream, as far as it reads."""
        try:
            self._downstream.data_received(head + _piece(message, chunked))
            while message["type"] != "http.disconnect" and not self._closing:
                await self._reading.wait()
                message = await self._receive()
                data = _piece(message, chunked)
                if data and not self._closing:
                    self._downstream.data_received(data)
            self._leave()
        except Exception:
            log.exception("the embedded request could not be read")
            self.abort()

    def _leave(self) -> None:
        """The client has gone."""
        self._closing = True
        self._written.set()

    async def _drain(self) -> None:
        """Send what Downstream has written, until the response has ended."""
        while not (self._ended and not self._out):
            await self._written.wait()
            self._written.clear()
            messages, self._out, self._size = self._out, [], 0
            for message in messages:
                await self._send(message)
            if self._paused and self._size <= HIGH_WATER:
                self._paused = False
                self._downstream.resume_writing()
            if self._closing and not self._out:
                return

    def _queue(self, message: dict[str, Any]) -> None:
        self._out.append(message)
        self._size += len(message.get("body", b""))
        self._written.set()

    # what Downstream calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        rest = bytes(data) if self._status else self._read_head(bytes(data))
        if rest and not self._ended:
            self._read_body(rest)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._downstream.pause_writing()

    def close(self) -> None:
        """Every response is framed, by length or in chunks: one that is closed before its end was cut."""
        self.abort()

    def abort(self) -> None:
        self._broken = not self._ended
        self._closing = True
        self._written.set()

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return tuple(self._scope["client"]) if self._scope.get("client") else default
        if name == "sslcontext":
            return True if self._scope.get("scheme") == "https" else default
        if name == "sockname":
            host, port = self._scope.get("server") or ("", None)  # a server on a unix socket has a path and no port
            return host, port or (443 if self._scope.get("scheme") == "https" else 80)
        return default

    # the response, as Downstream frames it

    def _read_head(self, data: bytes) -> bytes:
        """Read heads up to that of the final response, which ASGI has no interim ones for; returns what follows it.

        Downstream writes a head in one piece.
        """
        while data:
            head = read_response(data, data.index(b"\r\n\r\n"))
            if head is None:
                self.abort()
                return b""
            lines, data = data[: head.end - 4].split(b"\r\n")[1:], data[head.end :]
            if head.status >= 200:
                self._begin(head, lines)
                return data
        return b""

    def _begin(self, head: ResponseHead, lines: list[bytes]) -> None:
        self._status = head.status
        fields = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
        fields = [field for field in fields if field[0] not in _OURS]
        self._queue({"type": "http.response.start", "status": head.status, "headers": fields})
        if self._is_head or head.status in (204, 304) or head.length == 0:
            self._finish()
        elif head.chunked:
            self._scanner = ChunkScanner(decode=True)
        else:
            self._left = head.length

    def _read_body(self, data: bytes) -> None:
        if self._scanner is not None:
            data = self._scanner.feed(data)
            done = self._scanner.finished
        else:
            self._left -= len(data)
            done = self._left <= 0
        if data:
            self._queue({"type": "http.response.body", "body": data, "more_body": True})
        if done:
            self._finish()

    def _finish(self) -> None:
        self._ended = True
        self._queue({"type": "http.response.body", "body": b"", "more_body": False})


def _request_head(scope: Scope, first: dict[str, Any]) -> tuple[bytes, bool]:
    """The request as HTTP/1.1, and whether its body is sent in chunks; `first` is its first ASGI message."""
    headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
    target = _target(scope)
    if scope.get("query_string"):
        target += b"?" + scope["query_string"]
    http10 = scope.get("http_version") == "1.0"
    _check_framing(headers, http10)
    has_body = bool(first.get("body") or first.get("more_body"))
    chunked = has_body and b"content-length" not in dict(headers)
    lines = [b"%b %b HTTP/1.1" % (scope["method"].encode("latin-1"), target)]
    host = [value for name, value in headers if name == b"host"] or [_server(scope)]
    lines += [b"Host: %b" % value for value in host]
    dropped = _DROPPED | {b"expect"} if http10 else _DROPPED
    lines += [b"%b: %b" % field for field in headers if field[0] not in dropped]
    lines += [b"Transfer-Encoding: chunked"] if chunked else []
    lines += [b"Connection: close"]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    if not head.count(b"\n") == head.count(b"\r") == len(lines) + 1:
        raise RequestError(400, "bad_head", "a field or the path holds a line break")
    return head, chunked


def _check_framing(headers: list[tuple[bytes, bytes]], http10: bool) -> None:
    """Refuse codings that the server may have read otherwise than we would, and that we take off with its chunks."""
    codings = [value.strip(b" \t").lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and (codings != [b"chunked"] or http10 or b"content-length" in dict(headers)):
        raise RequestError(400, "bad_framing", "Transfer-Encoding must be exactly one `chunked` and stand alone")


def _target(scope: Scope) -> bytes:
    """The path as sent, below the place where the balancer is mounted (ASGI's `root_path`, which is decoded)."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    root: bytes = scope.get("root_path", "").rstrip("/").encode()
    segments = raw.split(b"/")
    depth = root.count(b"/") + 1
    if root and unquote_to_bytes(b"/".join(segments[:depth])) == root:
        return b"/" + b"/".join(segments[depth:])
    return raw


def _server(scope: Scope) -> bytes:
    """What stands for a missing Host field."""
    host, port = scope.get("server") or ("", None)
    host = f"[{host}]" if ":" in host else host
    return (host if port is None else f"{host}:{port}").encode()


def _piece(message: dict[str, Any], chunked: bool) -> bytes:
    """A message's part of the body, as it goes into the connection."""
    body: bytes = message.get("body", b"")
    if not chunked or message["type"] != "http.request":
        return body
    data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return data if message.get("more_body") else data + b"0\r\n\r\n"
