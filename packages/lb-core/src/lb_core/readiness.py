"""Where others ask whether this node takes traffic: a load balancer in front, keepalived, an orchestrator.

    GET /live     200 while the process runs
    GET /ready    200 when traffic may be sent to it, else 503; {"ready": false, "reason": "draining"}

It is answered by the process that decides, never by a worker, on a port of its own, so that an exhausted listener does
not look like a dead node and nobody outside can ask. Whoever asks cannot get in the way of traffic: few connections,
short ones, one question each.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lb_core.errors import StartError
from lb_core.listener_sections import ListenerConfig
from lb_core.listening import BARE, listen, url

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from lb_core.node import Node

SECONDS = 5.0
"""How long a connection may last."""
CONNECTIONS = 64
LARGEST_HEAD = 4096
CLOSING = 0.01
"""uvloop closes sockets on its next turn; another may want the same port."""


class Question(H11Protocol):
    """A connection to the endpoint: one question, within a few seconds."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it live for a moment, and not at all where too many are open."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._end = self.loop.call_later(SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


class Readiness:
    """The endpoint of one node; `sockets` are those it listens on."""

    def __init__(self, node: Node) -> None:
        self.sockets: list[socket.socket] = []
        self._node = node
        self._wanted = ""
        self._server: uvicorn.Server | None = None

    @property
    def address(self) -> str:
        """The address it was told to listen on; empty while there is no endpoint."""
        return self._wanted

    @property
    def urls(self) -> list[str]:
        """Where it can be reached from this machine."""
        return [url(bound) for bound in self.sockets]

    async def follow(self, wanted: str, sockets: list[socket.socket] | None = None) -> None:
        """Listen on this address, on none where it is empty; `sockets` are open ones to use instead of new ones.

        Raises StartError where that cannot be done; then it goes on as before.
        """
        if wanted == self._wanted:
            return
        before = self._wanted
        try:
            opened = sockets or _listen(wanted)
        except StartError:
            if not self.sockets:
                raise
            opened = await self._take_over(wanted, before)
        await self.close()
        await self._serve(wanted, opened)

    async def close(self) -> None:
        """Listen no more; who is connected is answered, in a moment at most."""
        server, self._server = self._server, None
        sockets, self.sockets, self._wanted = self.sockets, [], ""
        for opened in sockets:
            opened.close()
        if server is not None:
            for each in server.servers:
                each.close()
            for connection in list(server.server_state.connections):
                connection.shutdown()
            await asyncio.sleep(CLOSING)

    async def _take_over(self, wanted: str, before: str) -> list[socket.socket]:
        """Sockets for an address that may be taken by those there are: the old one is open again if it was not that."""
        await self.close()
        try:
            return _listen(wanted)
        except StartError:
            await self._serve(before, _listen(before))
            raise

    async def _serve(self, wanted: str, opened: list[socket.socket]) -> None:
        self._wanted, self.sockets = wanted, opened
        if opened:
            self._server = await _serve(self._node, opened)


def application(node: Node) -> Callable[[Mapping[str, Any], Any, Any], Any]:
    """The endpoint as an ASGI application."""

    async def answer(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        del receive  # no question has a body that matters
        status, body = _answer(node, scope["method"], scope["path"])
        text = json.dumps(body).encode() + b"\n"
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(text)),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})

    return answer


def _answer(node: Node, method: str, path: str) -> tuple[int, dict[str, object]]:
    if path not in ("/live", "/ready"):
        return 404, {"error": "there are /live and /ready"}
    if method not in ("GET", "HEAD"):
        return 405, {"error": "ask with GET or HEAD"}
    if path == "/live":
        return 200, {"live": True}
    reason = node.reason
    return (503, {"ready": False, "reason": reason}) if reason else (200, {"ready": True})


async def _serve(node: Node, sockets: list[socket.socket]) -> uvicorn.Server:
    config = uvicorn.Config(
        application(node),
        http=Question,
        **BARE,
        h11_max_incomplete_event_size=LARGEST_HEAD,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets)
    return server


def _listen(address: str) -> list[socket.socket]:
    if not address:
        return []
    try:
        return listen(ListenerConfig(name="readiness", address=address))
    except StartError as error:
        raise StartError(
            str(error).replace("choose another with --listen", "choose another for `readiness`")
        ) from error
