"""One open listener: its sockets, its connections, and how they end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.server import ServerState

from lb_core.engine.admission import Admission
from lb_core.engine.downstream import Downstream
from lb_core.engine.preface import Preface, Refusals
from lb_core.engine.shared_admission import SharedAdmission
from lb_core.listening import BACKLOG, BARE, accept_waiting, listen, url
from lb_core.socket_files import SocketFile

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer
    from lb_core.config import ListenerConfig

LOOK_AT_DRAIN = 0.02


class ListenerSettings(uvicorn.Config):
    """What the protocol class finds as its `config`: the balancer as `app`, and the listener."""

    def __init__(self, balancer: LoadBalancer, listener: ListenerConfig) -> None:
        super().__init__(
            balancer,
            http=Downstream,
            **BARE,
            backlog=BACKLOG,
        )
        self.listener = listener
        self.admission = _admission(balancer, listener)
        self.refusals = Refusals(balancer.notify)


def _admission(balancer: LoadBalancer, listener: ListenerConfig) -> Admission:
    counts = balancer.listener_counts
    if counts is None or not balancer.sharing.seat:
        return Admission(balancer.engine, listener.name, balancer.notify)
    return SharedAdmission(balancer.engine, listener, balancer.notify, counts)


class OpenListener:
    """One listener's sockets and connections: uvicorn's server without its main loop and its signal handlers.

    It opens its sockets, unless it is given some that were opened elsewhere. With `file` it looks after the file of a
    unix socket, as one process must.
    """

    def __init__(
        self,
        balancer: LoadBalancer,
        listener: ListenerConfig,
        sockets: Iterable[socket.socket] | None = None,
        *,
        file: bool = True,
    ) -> None:
        self.sockets = list(listen(listener) if sockets is None else sockets)
        self._file = SocketFile(listener.path) if listener.path and file else None
        self.settings = ListenerSettings(balancer, listener)
        self._state = ServerState()
        self._servers: dict[socket.socket, asyncio.AbstractServer] = {}
        self._late: list[socket.socket] = []
        self._hurried = False
        self.use(listener)

    def use(self, listener: ListenerConfig) -> None:
        """Take these settings for new connections; where it says port 0, they see the port that was given."""
        if self._file is not None:
            os.chmod(listener.path, listener.mode)
        elif not listener.path and not listener.port and self.sockets:
            listener = listener.model_copy(update={"port": self.sockets[0].getsockname()[1]})
        self.settings.listener = listener
        self.settings.http = self.settings.http_protocol_class = (
            Downstream if listener.proxy_protocol is None else Preface
        )
        limits = listener.limits
        accepted = cast("set[object]", self._state.connections)
        connections = [each for each in accepted if isinstance(each, Downstream)]
        self.settings.admission.use(limits.connections, limits.per_client, connections)

    @property
    def urls(self) -> list[str]:
        """Where it can be reached from this machine."""
        return list(dict.fromkeys(url(bound) for bound in self.sockets))  # a predecessor's workers had one each

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._state.connections)

    async def accept(self) -> None:
        """Begin to accept connections, also on sockets that were added since."""
        if not self.settings.loaded:
            self.settings.load()
        loop = asyncio.get_running_loop()
        for each in self.sockets:
            if each not in self._servers:
                self._servers[each] = await loop.create_server(
                    self._protocol, sock=each, ssl=self.settings.ssl, backlog=BACKLOG
                )

    def leave(self, sockets: Iterable[socket.socket]) -> None:
        """Accept no more on these, which live on elsewhere: what waits in them is left there."""
        for each in list(sockets):
            if each in self.sockets:
                self.sockets.remove(each)
            if each in self._servers:
                self._servers.pop(each).close()
            each.close()

    def hand_over(self) -> None:
        """Accept no more on any, and leave the file: another process has them all now."""
        self.leave(self.sockets)
        if self._file is not None:
            self._file.keep()

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections live on, and those nobody has accepted yet are left to `drain`."""
        self._late += accept_waiting(self.sockets)
        self.close()

    def close(self) -> None:
        """Close the listening sockets; connections live on."""
        for server in self._servers.values():
            server.close()
        for opened in self.sockets:
            opened.close()
        if self._file is not None:
            self._file.remove()

    async def drain(self, grace: float) -> int:
        """Let each connection finish its exchange, for `grace` seconds; returns how many had to be cut."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        self.stop_accepting()
        for accepted in self._late:
            with suppress(OSError):  # its client has gone
                await loop.connect_accepted_socket(self._protocol, accepted, ssl=self.settings.ssl)
        connections: set[Any] = self._state.connections
        told: set[Any] = set()
        while True:
            for connection in connections - told:
                connection.shutdown()
                told.add(connection)
            await asyncio.sleep(LOOK_AT_DRAIN)  # some that the loop has accepted are only now being made
            if not connections or self._hurried or loop.time() >= end:
                return await self._cut()

    def _protocol(self) -> asyncio.Protocol:
        factory: Any = self.settings.http_protocol_class
        made: asyncio.Protocol = factory(config=self.settings, server_state=self._state)
        return made

    def hurry(self) -> None:
        """End a drain that is under way."""
        self._hurried = True

    async def _cut(self) -> int:
        state = self._state
        rest = [transport for transport in map(_transport, list(state.connections)) if transport is not None]
        for transport in rest:
            transport.abort()
        for task in list(state.tasks):
            task.cancel()
        if rest:
            await asyncio.sleep(0)  # connection_lost is called on the next turn of the loop
        return len(rest)


def _transport(connection: Any) -> asyncio.Transport | None:
    return getattr(connection, "transport", None)
