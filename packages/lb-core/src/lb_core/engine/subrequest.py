"""Requests of our own to the backends of a pool: a copy for a mirror, a question to an authentication service.

    answer = await subrequest.send(route.pools["auth"], "GET", "/check", [("Host", "auth.example")], timeout=3.0)

They go over the same kept connections as the clients' requests and are read by the same Upstream, so that the rules of
framing are the same. What Upstream takes for the client's side is a `_Collector`: it claims to be a client of
HTTP/1.0, to whom a body is passed on without chunks, and keeps what is written to it. Nothing is logged and no hook is
called; `backend.in_flight`, `requests` and `failures` count them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, cast

from lb_core.engine.connections import IDLE_LIMIT, connect, drop, retire
from lb_core.engine.proxy_protocol import write_local
from lb_core.engine.requests import compose
from lb_core.engine.retries import is_stale
from lb_core.errors import AttemptError, BackendReset, ConnectFailed, HeaderTimeout, NoRoom
from lb_core.headers import FRAMING, HOP_BY_HOP, Headers, check_field

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.engine.forwarding import Forwarding
    from lb_core.engine.upstream import Upstream
    from lb_core.exchange import Exchange
    from lb_core.pool import Pool

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET = re.compile(r"(?:/[!\"$-~\x80-\xff]*|\*)").fullmatch
_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))
_NOT_COPIED = HOP_BY_HOP | FRAMING | {"expect"}


class Answer:
    """What a backend answered. `truncated` says that its body was longer than asked for, and `body` its beginning."""

    __slots__ = ("body", "headers", "status", "truncated")

    def __init__(self, status: int, headers: Headers, body: bytes, truncated: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.truncated = truncated


class Copied(NamedTuple):
    """A request as a backend is asked it, without its body and the fields of one connection."""

    method: str
    target: str
    headers: list[tuple[str, str]]


async def send(
    pool: Pool,
    method: str,
    target: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    timeout: float,
    limit: int = 64 * 1024,
) -> Answer:
    """Ask the least busy backend of a pool, within `timeout` seconds over all; of the answer's body `limit` bytes.

    Host is the backend's own unless `headers` has one. A longer body ends the connection. Repeated once where a kept
    connection turns out to be closed and the method is safe. Raises AttemptError (NoRoom where every backend is full
    or unavailable), and ValueError for a method, target or field that must not go on the wire.
    """
    verb = method.encode("latin-1", "replace")
    lines = _lines(method, target, headers, body)
    backend = pool.with_room(pool.candidates)
    if backend is None:
        why = "is full" if pool.candidates else "is available"
        raise NoRoom(f"pool {pool.name}: {'every' if pool.candidates else 'no'} backend {why}")
    if "\nhost:" not in lines.lower():
        line = lines.index("\n") + 1
        lines = f"{lines[:line]}Host: {backend.authority}\r\n{lines[line:]}"
    data = lines.encode("latin-1") + body
    backend.in_flight += 1
    try:
        answer = await _ask(backend, verb, data, monotonic() + timeout, limit)
    except AttemptError as error:
        backend.failures += not is_stale(error)
        raise
    finally:
        backend.in_flight -= 1
        if backend.freed is not None:
            backend.freed()
    backend.requests += 1
    return answer


def close(pool: Pool) -> None:
    """Close the connections of a pool of one's own, that no route has: the busy ones after their answer."""
    for backend in pool.backends:
        retire(backend)


def copy_of(exchange: Exchange) -> Copied:
    """The request of an exchange as its backend is asked it: rewritten, with our forwarding fields; for any hook."""
    head = compose(cast("Forwarding", exchange), b"")
    method, target, _ = head[: head.index(b"\r\n")].decode("latin-1").split(" ")
    headers = Headers.parse(head)
    named = {name.strip(" \t").lower() for name in headers.get("connection", "").split(",")}
    dropped = _NOT_COPIED | named
    return Copied(method, target, [field for field in headers.fields() if field[0].lower() not in dropped])


def _lines(method: str, target: str, headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes) -> str:
    """The head, every part of it checked. Raises ValueError."""
    if not _TOKEN(method) or method == "CONNECT":
        raise ValueError(f"{method!r} is no method of a request to a backend: write one like GET")
    if not _TARGET(target):
        raise ValueError(f"{target!r} is no target: write a path with its query, percent-encoded, beginning with /")
    lines = [f"{method} {target} HTTP/1.1"]
    if isinstance(headers, Headers):
        fields: Iterable[tuple[str, str]] = headers.fields()
    else:
        fields = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in fields:
        check_field(name, value)
        lines.append(f"{name}: {value}")
    if sum(line[:5].lower() == "host:" for line in lines) > 1:
        raise ValueError("a request has one Host field (RFC 9112 section 3.2)")
    if body or method.encode("latin-1") in _WITH_BODY:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", ""))


async def _ask(backend: Backend, method: bytes, data: bytes, end: float, limit: int) -> Answer:
    """Send, and once more where that is safe and a kept connection was closed already. Raises AttemptError."""
    try:
        return await _attempt(backend, method, data, end, limit, kept=True)
    except BackendReset as error:
        if not is_stale(error) or method not in _SAFE:
            raise
    return await _attempt(backend, method, data, end, limit, kept=False)


async def _attempt(backend: Backend, method: bytes, data: bytes, end: float, limit: int, *, kept: bool) -> Answer:
    """Send once, over a kept connection where there is one and it is wanted. Raises AttemptError."""
    connection = (_take(backend) if kept else None) or await _connected(backend, end)
    collector = _Collector(method, limit)
    connection.exchange = cast("Forwarding", collector)
    connection.transport.write(data)
    try:
        async with asyncio.timeout(end - monotonic()):
            return await collector.done
    except TimeoutError:
        raise HeaderTimeout(f"backend {backend.name}: no whole answer in time") from None
    finally:
        if connection.exchange is cast("Forwarding", collector):  # not read to its end
            connection.abandon()


def _take(backend: Backend) -> Upstream | None:
    """The freshest of the kept connections, if there is one that is not too old."""
    if not backend.idle:
        return None
    connection: Upstream = backend.idle.popitem()[0]  # type: ignore[assignment]  # what the engine has put there
    if connection.idle_since + IDLE_LIMIT > monotonic():
        return connection
    connection.transport.close()
    drop(backend)  # all others have been idle for longer
    return None


async def _connected(backend: Backend, end: float) -> Upstream:
    connection = await connect(backend, max(end - monotonic(), 0.001))
    if connection.transport.is_closing():
        raise ConnectFailed(f"backend {backend.name} closed the connection as soon as it was made")
    if backend.send_proxy != "off":
        connection.transport.write(write_local(backend.send_proxy))
    return connection


class _Collector:
    """The exchange, the client's side of it and that side's transport, as far as Upstream knows them."""

    __slots__ = (
        "_body",
        "_head",
        "_limit",
        "bytes_out",
        "close",
        "done",
        "first_byte",
        "raw_method",
        "state",
        "status",
    )

    http10 = True
    """So that the body comes without chunks, and interim responses not at all."""
    plain = False
    request_complete = True
    wants_tunnel = False

    def __init__(self, method: bytes, limit: int) -> None:
        self.raw_method = method
        self.state: dict[object, int] = {}
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.bytes_out = 0
        self.first_byte = 0.0
        self.close = False
        self._limit = limit
        self._head = b""
        self._body = bytearray()

    @property
    def downstream(self) -> _Collector:
        """The client's side: itself."""
        return self

    @property
    def transport(self) -> _Collector:
        """Where the answer is written to: itself."""
        return self

    # as an exchange

    def begin_response(self, status: int, data: bytes) -> None:
        """The head has been read."""
        del data
        self.status = status

    def changed_response_head(self) -> None:
        """Nobody changes it."""

    def finish(self, now: float) -> None:
        """The answer has ended where its framing said."""
        del now
        self._settle(truncated=False)

    def failed(self, error: AttemptError) -> None:
        """There is no answer."""
        if not self.done.done():
            self.done.set_exception(error)

    def cut_short(self, word: str) -> None:
        """The answer broke off."""
        del word
        self.failed(BackendReset("the backend's answer broke off before its end"))

    # as the client's side

    def connection_field(self, http10: bool) -> bytes:
        """None is needed."""
        del http10
        return b""

    def progress(self, exchange: object) -> None:
        """The one timeout over all holds."""

    def hold(self, reason: int) -> None:
        """The request is written already: there is nothing to hold back."""

    def take_more(self) -> None:
        """There is no more."""

    def write(self, data: bytes) -> None:
        """The head, in one piece, then the body."""
        if not self._head:
            self._head, _, data = data.partition(b"\r\n\r\n")
        if len(self._body) <= self._limit:
            self._body += data
            if len(self._body) > self._limit:
                self._settle(truncated=True)

    def _settle(self, *, truncated: bool) -> None:
        if not self.done.done():
            body = bytes(self._body[: self._limit])
            self.done.set_result(Answer(self.status, Headers.parse(self._head), body, truncated))
