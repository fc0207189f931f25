"""What comes before HTTP on a listener with `proxy_protocol`: the PROXY header of a trusted peer.

    not trusted   plain HTTP from the first byte; a PROXY header is a malformed request then
    trusted       a header, whole within the timeout; then HTTP, and the client is whom it names. Without a valid one
                  the connection is closed without an answer: whoever sent it is not the proxy we were promised

The connection then becomes a Downstream, which is given the transport, the addresses and the bytes behind the header.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from lb_core.engine.downstream import LAST_REQUEST_GRACE, Downstream
from lb_core.engine.origin import is_trusted
from lb_core.engine.proxy_protocol import ProxyError, read
from lb_core.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.engine.proxy_protocol import Header


class Refusals:
    """Says that connections were closed for want of a PROXY header: once a second at most, with their number."""

    def __init__(self, notify: Callable[[Event], None], clock: Callable[[], float] = monotonic) -> None:
        self._notify = notify
        self._clock = clock
        self._count = 0
        self._next = float("-inf")

    def add(self, listener: str, peer: str, why: str) -> None:
        """One more."""
        self._count += 1
        now = self._clock()
        if now < self._next:
            return
        self._next = now + 1.0
        count, self._count = self._count, 0
        more = f" ({count} connections since this was last said)" if count > 1 else ""
        message = f"listener {listener}: closed a connection from {peer or 'a unix socket'}: {why}{more}"
        details = {"listener": listener, "peer": peer, "connections": count}
        self._notify(Event("proxy_header_refused", message, details=details))


class Preface(asyncio.Protocol):
    """A connection until its PROXY header has been read; uvicorn's `http=` class in place of Downstream."""

    __slots__ = ("_arguments", "_buffer", "_config", "_peer", "_stopping", "_timer", "transport")

    def __init__(self, config: Any, server_state: Any, app_state: Any = None, _loop: Any = None) -> None:
        self._config = config
        self._arguments = (config, server_state, app_state, _loop)
        self._buffer = b""
        self._peer = ""
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self.transport = cast("asyncio.Transport", None)  # until connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peername = transport.get_extra_info("peername")
        self._peer = peername[0] if isinstance(peername, tuple) else ""
        wanted = self._config.listener.proxy_protocol
        if wanted is None or not is_trusted(self._peer, wanted.trusted):
            self._become(None)
            return
        self._arguments[1].connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(wanted.timeout, self._too_late, wanted.timeout)

    def data_received(self, data: bytes) -> None:
        data = self._buffer = self._buffer + data
        try:
            header = read(data)
        except ProxyError as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._leave()
            self._become(header)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # gone is gone
        self._leave()

    def shutdown(self) -> None:
        """uvicorn is stopping: a header that is on its way, with its request, gets a moment."""
        self._stopping = True
        asyncio.get_running_loop().call_later(LAST_REQUEST_GRACE, self._close_unless_left)

    def _become(self, header: Header | None) -> None:
        """Be a Downstream from here on."""
        downstream = Downstream(*self._arguments)
        if header is not None and header.source is not None and header.destination is not None:
            downstream.told = header.source, header.destination
        self.transport.set_protocol(downstream)
        downstream.connection_made(self.transport)
        if self.transport.get_protocol() is not downstream:
            return  # there are too many connections already
        if self._stopping:
            downstream.shutdown()
        rest = self._buffer[header.length :] if header is not None else b""
        if rest:
            downstream.data_received(rest)

    def _too_late(self, timeout: float) -> None:
        self._refuse(f"no whole PROXY header within {timeout:g}s")

    def _refuse(self, why: str) -> None:
        self._leave()
        self._config.refusals.add(self._config.listener.name, self._peer, why)
        self.transport.abort()

    def _close_unless_left(self) -> None:
        if self in self._arguments[1].connections:
            self.transport.close()

    def _leave(self) -> None:
        self._arguments[1].connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
