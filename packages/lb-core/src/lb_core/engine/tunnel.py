"""Tunnels: after a 101, bytes pass both ways until both ends have closed.

Both connections are given new protocols; Downstream and Upstream stand behind them for the deadline, for back-pressure
and for the drain, as before.

    bytes      client -> ClientEnd -> backend's transport      backend -> BackendEnd -> client's transport
    pressure   an end that does not take what is written to it makes the other end's reading stop (`flow`)
    FIN        goes on behind the bytes before it; the other direction lives until it ends too, or is silent for
               HALF_CLOSED seconds
    reset      ends both; what had come before is still delivered, within FLUSH seconds where the backend takes it
    silence    of both directions for `timeouts.tunnel_idle` ends both. While bytes wait for an end that does not take
               them, the other is not read, so that nobody would notice its going: then a client has `timeouts.write`
               to take them, as in any answer, and a backend `timeouts.idle` to take them or send some
    account    the exchange ends with the tunnel: until then it counts as in flight
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from lb_core.engine.deadlines import NEVER
from lb_core.engine.flow import PEER, PIPELINED, end_writing
from lb_core.engine.heads import cut

if TYPE_CHECKING:
    from lb_core.engine.forwarding import Forwarding
    from lb_core.engine.response_heads import ResponseHead
    from lb_core.engine.upstream import Upstream

HALF_CLOSED = 30.0
FLUSH = 2.0
_NAMES_OF_THE_SWITCH = (b"connection:", b"upgrade:")


class Tunnel:
    """What the two ends share: the exchange, how long they may be silent, and who has sent FIN."""

    __slots__ = ("downstream", "exchange", "finished", "limit", "upstream")

    def __init__(self, exchange: Forwarding, upstream: Upstream) -> None:
        self.exchange = exchange
        self.downstream = exchange.downstream
        self.upstream = upstream
        self.limit = exchange.route.tunnel_timeout
        self.finished: End | None = None

    def set_limit(self, *, pressed: bool) -> None:
        """How long both may be silent; `pressed` while bytes wait for the backend."""
        route = self.exchange.route
        limit = route.tunnel_timeout
        if self.finished is not None:
            limit = min(limit, HALF_CLOSED)
        self.limit = min(limit, route.idle_timeout) if pressed else limit
        self.alive()

    def alive(self) -> None:
        """Bytes have passed: the silence begins anew."""
        downstream = self.downstream
        if not downstream.stalled:
            downstream.deadline = downstream.deadlines.now + self.limit

    def lost(self, flag: str) -> None:
        """An end has gone without being asked to."""
        if not self.exchange.ended:
            self.exchange.flag(flag)
            self.end()

    def end(self) -> None:
        """Close both, behind what is still to be delivered, and account for the exchange."""
        upstream, downstream = self.upstream, self.downstream
        self.finished = upstream.exchange = None
        _close(upstream.transport)
        if not downstream.stalled:
            downstream.deadline = downstream.deadlines.now + (downstream.timeouts.write or NEVER)
        self.exchange.finish(monotonic())  # closes the client's connection


class End(asyncio.Protocol):
    """One end: what comes in here goes out at the other, `to`."""

    __slots__ = ("to", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, to: asyncio.Transport) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.to = to
        transport.set_protocol(self)

    def eof_received(self) -> bool:
        """FIN: pass it on. True keeps the connection open for the other direction."""
        tunnel = self.tunnel
        if tunnel.finished is self or tunnel.exchange.ended:
            return True  # seen before: asyncio tells it again when reading is resumed
        if tunnel.finished is not None or not (self.transport.can_write_eof() and self.to.can_write_eof()):
            tunnel.end()  # TLS knows no half-closed connections here
            return self.transport.can_write_eof()
        tunnel.finished = self
        tunnel.set_limit(pressed=tunnel.downstream.held & PEER != 0)
        if not self.to.is_closing():
            end_writing(self.to)
        return True


class ClientEnd(End):
    """The client's."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        tunnel = self.tunnel
        tunnel.exchange.bytes_in += len(data)
        self.to.write(data)
        tunnel.alive()

    def pause_writing(self) -> None:
        self.tunnel.downstream.pause_writing()

    def resume_writing(self) -> None:
        self.tunnel.downstream.resume_writing()
        if not self.tunnel.exchange.ended:
            self.tunnel.alive()

    def connection_lost(self, exc: Exception | None) -> None:
        self.tunnel.lost("client_gone")
        self.tunnel.downstream.connection_lost(exc)


class BackendEnd(End):
    """The backend's."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        tunnel = self.tunnel
        tunnel.exchange.bytes_out += len(data)
        self.to.write(data)
        tunnel.alive()

    def pause_writing(self) -> None:
        tunnel = self.tunnel
        tunnel.upstream.pause_writing()
        if not tunnel.exchange.ended:
            tunnel.set_limit(pressed=True)

    def resume_writing(self) -> None:
        tunnel = self.tunnel
        tunnel.upstream.resume_writing()
        if not tunnel.exchange.ended:
            tunnel.set_limit(pressed=False)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.tunnel.lost("reset")


def open_tunnel(exchange: Forwarding, upstream: Upstream, head: ResponseHead, data: bytes) -> None:
    """Pass the backend's 101 on, with what came behind it, and tie both connections together."""
    downstream = exchange.downstream
    exchange.begin_response(101, data)
    lines = exchange.changed_response_head() or data[: head.end - 2]
    lines = cut(lines, [name for name in head.cuts if name not in _NAMES_OF_THE_SWITCH])
    early = downstream.begin_tunnel()
    tunnel = Tunnel(exchange, upstream)
    client = ClientEnd(tunnel, downstream.transport, upstream.transport)
    BackendEnd(tunnel, upstream.transport, downstream.transport)
    exchange.bytes_out = len(data) - head.end
    downstream.transport.write(b"%b\r\n%b" % (lines, data[head.end :]))
    tunnel.alive()
    if early:  # sent ahead of the answer: no request then, but the tunnel's first bytes
        client.data_received(early)
    downstream.release(PIPELINED)


def _close(transport: asyncio.Transport) -> None:
    """Close behind what is still to be written, if that is taken in time."""
    transport.close()
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(FLUSH, transport.abort)
