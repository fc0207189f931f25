"""The access log: one line for each exchange, in JSON or in the Combined Log Format.

Lines are formatted as bytes, a few at a time, or one by one in C where lb-speedups is installed, into a buffer that is
handed on once a second, at 64 KiB, and at the end.
What comes from the client is escaped: in the usual case one pass over it shows that there is nothing to escape. Of the
request's fields only User-Agent and Referer are read; credentials and cookies are never looked at.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from lb_core.defaults.log_writer import LogWriter
from lb_core.hooks import hookimpl
from lb_core.speedups import log_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lb_core.exchange import Exchange

Format = Literal["json", "clf"]

FLUSH_AT = 64 * 1024
BATCH = 4
"""Exchanges whose lines are made together."""
FLUSH_EVERY = 1.0
NAMES_MOST = 4096

_THOUSAND = [b"%03d" % number for number in range(1000)]
"""Three digits of a fraction: to look them up costs a tenth of formatting a float."""
_QUOTE, _BACKSLASH, _TAB = b'"\\\t'
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_SPECIAL = re.compile(rb'[^\x20-\x7e]|["\\]')

_JSON = (
    b'{"time":"%b.%bZ","request_id":"%b","client":"%b","method":"%b","host":"%b","target":"%b","status":%d,'
    b'"bytes_in":%d,"bytes_out":%d,"duration":%d.%b%b,"route":"%b","backend":"%b","attempts":%d,"flags":"%b",'
    b'"user_agent":"%b","referer":"%b"}\n'
)
_CLF = b'%b - - [%b] "%b %b HTTP/%b" %d %d "%b" "%b"\n'


class AccessLog:
    """Writes a line when an exchange ends; registered for every route.

    `file` is a path, or `-` for standard output. Where other processes write to it too, `together` is the descriptor
    of a file that all of them have open, to take turns by. Raises StartError where it cannot be opened. `lifespan`
    flushes once a second and writes in a thread; without it `flush` writes at once.
    """

    def __init__(
        self,
        format: Format,  # noqa: A002
        file: str = "-",
        *,
        clock: Callable[[], float] = time.time,
        together: int | None = None,
    ) -> None:
        if format not in ("json", "clf"):
            raise ValueError(f"access log format {format!r} is not json or clf")
        self._writer = LogWriter(file, together=together)
        self._clock = clock
        self._line = self._json if format == "json" else self._clf
        self._stamp = b""
        self._second = 0
        self._pattern = "%Y-%m-%dT%H:%M:%S" if format == "json" else "%d/%b/%Y:%H:%M:%S +0000"
        self._escape = _for_json if format == "json" else _for_clf
        self._names: dict[object, bytes] = {None: b""}
        self._buffer = bytearray()
        self._waiting: list[tuple[float, Exchange]] = []
        self._compiled = log_json if format == "json" else None

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """Make the line of an exchange that has ended; in Python with those of others, when caches are warm for it."""
        if self._compiled is not None:
            now = self._clock()
            self._buffer += self._ordinary(self._compiled, now, exchange) or self._json(now, exchange)
            if len(self._buffer) >= FLUSH_AT:
                self.flush()
            return
        waiting = self._waiting
        waiting.append((self._clock(), exchange))
        if len(waiting) >= BATCH:
            self._format()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Flush once a second, and at the end."""
        self._writer.start()
        flushing = asyncio.create_task(self._flush_regularly())
        try:
            yield
        finally:
            flushing.cancel()
            self.close()

    def flush(self) -> None:
        """Hand the lines so far to the file."""
        if self._waiting:
            self._format()
        if self._buffer:
            lines = bytes(self._buffer)
            self._buffer.clear()
            self._writer.write(lines)

    def reopen(self) -> None:
        """Open the file by its name again, after it was rotated."""
        self.flush()
        self._writer.reopen()

    def close(self) -> None:
        """Write what is left and let go of the file."""
        self.flush()
        self._writer.close()

    def _format(self) -> None:
        """Make the lines of a batch; hand them on when there are enough."""
        waiting, self._waiting = self._waiting, []
        self._buffer += b"".join([self._line(when, exchange) for when, exchange in waiting])
        if len(self._buffer) >= FLUSH_AT:
            self.flush()

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            self.flush()
            self._names.clear()  # lest routes and backends that a reload has replaced live on here

    def _ordinary(self, compiled: Callable[..., bytes | None], now: float, exchange: Exchange) -> bytes | None:
        """The line of an exchange without flags in which nothing needs escaping; else None."""
        if exchange.flags:
            return None
        second = int(now)
        if second != self._second:
            self._tick(second)
        method, target, _, head, _, _ = exchange.request
        names = self._names
        return compiled(
            self._stamp,
            exchange.raw_request_id,
            exchange.client.encode("latin-1", "replace"),
            method,
            exchange.raw_host,
            target,
            names.get(exchange.route) or self._name(exchange.route),
            names.get(exchange.backend) or self._name(exchange.backend),
            head,
            int((now - second) * 1000),
            exchange.status,
            exchange.bytes_in,
            exchange.bytes_out,
            int((exchange.ended - exchange.started) * 1e6 + 0.5),
            exchange.attempts,
        )

    def _json(self, now: float, exchange: Exchange) -> bytes:
        second = int(now)
        if second != self._second:
            self._tick(second)
        _, target, _, head, _, _ = exchange.request
        method, host, request_id = exchange.raw_method, exchange.raw_host, exchange.raw_request_id
        client = exchange.client.encode("latin-1", "replace")
        agent, referer = _agent_and_referer(head)
        if not _is_plain(head, b"".join((request_id, client, method, host, target, agent, referer))):
            escape = self._escape
            request_id, client, method = escape(request_id), escape(client), escape(method)
            host, target, agent, referer = escape(host), escape(target), escape(agent), escape(referer)
        names = self._names
        micros = int((exchange.ended - exchange.started) * 1e6 + 0.5)
        return _JSON % (
            self._stamp,
            _THOUSAND[int((now - second) * 1000)],
            request_id,
            client,
            method,
            host,
            target,
            exchange.status,
            exchange.bytes_in,
            exchange.bytes_out,
            micros // 1_000_000,
            _THOUSAND[micros // 1000 % 1000],
            _THOUSAND[micros % 1000],
            names.get(exchange.route) or self._name(exchange.route),
            names.get(exchange.backend) or self._name(exchange.backend),
            exchange.attempts,
            " ".join(exchange.flags).encode("latin-1") if exchange.flags else b"",
            agent,
            referer,
        )

    def _clf(self, now: float, exchange: Exchange) -> bytes:
        second = int(now)
        if second != self._second:
            self._tick(second)
        agent, referer = _agent_and_referer(exchange.head)
        client = exchange.client.encode("latin-1", "replace")
        method, target = exchange.raw_method, exchange.raw_target
        if not _is_plain(exchange.head, b"".join((client, method, target, agent, referer))):
            escape = self._escape
            client, method, target, agent, referer = map(escape, (client, method, target, agent, referer))
        version = b"1.0" if exchange.head.partition(b"\r\n")[0].endswith(b" HTTP/1.0") else b"1.1"
        return _CLF % (
            client or b"-",
            self._stamp,
            method,
            target,
            version,
            exchange.status,
            exchange.bytes_out,
            referer or b"-",
            agent or b"-",
        )

    def _tick(self, second: int) -> None:
        self._second = second
        self._stamp = time.strftime(self._pattern, time.gmtime(second)).encode("ascii")

    def _name(self, named: object) -> bytes:
        """The name of a route or a backend, escaped once and kept for a second."""
        if named is None:
            return b""
        if len(self._names) >= NAMES_MOST:
            self._names.clear()
        name = self._names[named] = self._escape(str(getattr(named, "name", "")).encode())
        return name


def _is_plain(head: bytes, text: bytes) -> bool:
    """Whether nothing in the text needs escaping.

    Of control characters an accepted head holds tabs at most; what a refused request held is looked at byte by byte.
    """
    if not head:
        return not text.translate(None, _PLAIN)
    return text.isascii() and _QUOTE not in text and _BACKSLASH not in text and _TAB not in text


def _agent_and_referer(head: bytes) -> tuple[bytes, bytes]:
    """The two fields; a client that writes one as browsers do is taken to write the other so too."""
    begin = head.find(b"\r\nUser-Agent: ")
    if begin < 0:
        lowered = head.lower()
        return _field(head, lowered, b"\r\nuser-agent:"), _field(head, lowered, b"\r\nreferer:")
    agent = head[begin + 14 : head.find(b"\r", begin + 14)]
    begin = head.find(b"\r\nReferer: ")
    return agent, b"" if begin < 0 else head[begin + 11 : head.find(b"\r", begin + 11)]


def _field(head: bytes, lowered: bytes, name: bytes) -> bytes:
    begin = lowered.find(name)
    if begin < 0:
        return b""
    begin += len(name)
    return head[begin : head.find(b"\r", begin)].strip(b" \t")


def _for_json(value: bytes) -> bytes:
    """The inside of a JSON string; bytes that are no UTF-8 are shown as `\\xff`."""
    return json.dumps(value.decode("utf-8", "backslashreplace"))[1:-1].encode("ascii")


def _for_clf(value: bytes) -> bytes:
    """Quotes, backslashes and everything unprintable escaped, as httpd does."""
    return _SPECIAL.sub(_show_byte, value)


def _show_byte(match: re.Match[bytes]) -> bytes:
    byte = match[0]
    return b"\\" + byte if byte in b'"\\' else b"\\x%02x" % byte[0]
