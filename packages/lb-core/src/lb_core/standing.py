"""How this node stands, told to the outside: to who asks at its readiness endpoint, and to the service manager.

    start       the endpoint says `starting`, from before the first listener accepts
    ready       all listeners accept; a reload in between changes nothing for who asks
    end         not ready at once; connections are accepted for `shutdown_delay` more, so that who sends traffic here
                learns of it before anything is refused

In an upgrade in place the next process takes the endpoint over when it is ready, so that who asks notices nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lb_core.errors import StartError
from lb_core.events import Event
from lb_core.systemd import Systemd
from lb_core.units import counted, format_duration

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping

    from lb_core.balancer import LoadBalancer
    from lb_core.handover import Predecessor
    from lb_core.readiness import Readiness

EVERY = 1.0


class Standing:
    """Tells how a balancer's node stands; `environ` holds what the service manager has told this process."""

    def __init__(self, balancer: LoadBalancer, environ: Mapping[str, str]) -> None:
        self.systemd = Systemd(environ)
        self.readiness: Readiness | None = None
        """The endpoint, once there has been one."""
        self._balancer = balancer
        self._node = balancer.node
        self.leaving = False
        """Whether the end has begun, and connections are still accepted."""
        self._inherited: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, predecessor: Predecessor | None = None) -> None:
        """Open the endpoint; raises StartError.

        Where a predecessor answers at the same address, that goes on until this process is ready.
        """
        if predecessor is not None:
            self._inherited = predecessor.take_readiness(self._address)
        if not self._inherited:
            await self._follow()
        self._node.config = _version_of(self._balancer.config.files)
        self._tasks = [
            asyncio.create_task(self._count()),
            asyncio.create_task(self.systemd.keep_telling(self._line, lambda: self._node.reason != "no_worker")),
        ]

    async def ready(self) -> None:
        """Connections are accepted."""
        self._node.opened()
        if self._inherited:
            inherited, self._inherited = self._inherited, []
            await self._follow(inherited)
        self.systemd.ready()

    @property
    def endpoint(self) -> tuple[str, list[socket.socket]]:
        """The address of the endpoint and its sockets, for a successor."""
        return (self.readiness.address, self.readiness.sockets) if self.readiness is not None else ("", [])

    async def hand_over(self, pid: int) -> None:
        """Another process is this node from now on: say no more, in no way."""
        self.systemd.hand_over(pid)
        await self.close()

    def reloading(self) -> None:
        """A reload begins."""
        self.systemd.reloading()

    async def reloaded(self, loaded: bool = True) -> None:
        """A reload is over; where it was `loaded`, the configuration that is in force may be another."""
        if loaded:  # what stands in refused files is in force nowhere
            self._node.config = _version_of(self._balancer.config.files)
        try:
            await self._follow()
        except StartError as error:
            self._balancer.notify(Event("listener_failed", str(error)))
        self.systemd.ready()

    async def leave(self, hurry: asyncio.Event) -> None:
        """Say that the end has begun, and let it be heard for `shutdown_delay`, or until `hurry`."""
        self._node.ends()
        self.systemd.stopping()
        delay = self._balancer.config.shutdown_delay
        if not delay or hurry.is_set():
            return
        self.leaving = True
        message = f"not ready; connections are accepted for {format_duration(delay)} more; a second signal skips that"
        self._balancer.notify(Event("leaving", message))
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await hurry.wait()
        self.leaving = False

    async def close(self) -> None:
        """Tell nobody any more."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.readiness is not None:
            await self.readiness.close()

    async def _follow(self, sockets: list[socket.socket] | None = None) -> None:
        if self.readiness is None and self._address:
            from lb_core.readiness import Readiness  # its protocol takes 20 ms to import, and few want it

            self.readiness = Readiness(self._node)
        if self.readiness is not None:
            await self.readiness.follow(self._address, sockets)

    @property
    def _address(self) -> str:
        configured = self._balancer.config.readiness
        return configured.address if configured is not None else ""

    async def _count(self) -> None:
        while True:
            self._node.sample()
            await asyncio.sleep(EVERY)

    def _line(self) -> str:
        """How it goes, as `systemctl status` shows it."""
        node, balancer = self._node, self._balancer
        load = node.load()
        backends = balancer.engine.backends
        up = sum(backend.available for backend in backends)
        parts = [
            node.reason or "ready",
            f"{node.requests_per_second:.1f} requests/s",
            f"{load.in_flight} in flight",
            counted(load.connections, "connection"),
            f"{up} of {counted(len(backends), 'backend')} up",
        ]
        if balancer.config.workers != 1:
            parts.insert(1, counted(load.workers, "worker"))
        return ", ".join(parts)


def _version_of(files: Iterable[str]) -> str:
    """What tells one content of these files from another; empty where there are none."""
    digest, some = hashlib.sha256(), False
    for file in files:
        with suppress(OSError):
            digest.update(Path(file).read_bytes())
            some = True
    return digest.hexdigest()[:8] if some else ""
