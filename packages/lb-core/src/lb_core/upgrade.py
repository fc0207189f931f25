"""Upgrade in place: a new process of the same command takes the sockets over, then this one drains and ends.

    begin       SIGUSR2: the new process is started, with this one's command line and environment
    hand over   it inherits the listening sockets, and is told what this one knows of backends when it asks
    change      it accepts and says so; this one accepts no more, without closing what the other has, and drains
    fail        it ends, or does not serve within a minute: it is ended, this one goes on, and an event says why

What waits in the sockets in between is taken by whoever looks first, so no connection is refused and none is lost.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from lb_core import __version__
from lb_core.events import Event
from lb_core.handover import Offer, State
from lb_core.successor import Successor, UpgradeFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.balancer import LoadBalancer
    from lb_core.carrier import Traffic
    from lb_core.control.listener import ControlSocket
    from lb_core.handover import Predecessor
    from lb_core.standing import Standing

log = logging.getLogger("lb.upgrade")


class Upgrade:
    """The way from this process to the next. `done`: another one serves, and this one is to drain."""

    def __init__(
        self, balancer: LoadBalancer, traffic: Traffic, standing: Standing, control: ControlSocket | None
    ) -> None:
        self.done = False
        self._balancer = balancer
        self._traffic = traffic
        self._standing = standing
        self._control = control

    async def run(self, ending: Callable[[], bool]) -> None:
        """Start the next process and hand over to it; `ending` tells whether this one's own end has begun meanwhile.

        Where the next one does not serve, an event says why; cancelled before it does, it is ended.
        """
        address, sockets = self._standing.endpoint
        successor = Successor(Offer(self._traffic.sockets, address, sockets, self._balancer.node.run))
        self._balancer.notify(Event("upgrading", f"pid {os.getpid()}, version {__version__}, starts the next process"))
        try:
            await successor.start(self._state)
        except UpgradeFailed as error:
            await successor.end()
            self._balancer.notify(Event("upgrade_failed", str(error)))
            return
        except BaseException:
            await successor.end()
            raise
        if ending():
            await successor.end()
            return
        self.done = True
        await self._hand_over(successor)

    async def _hand_over(self, successor: Successor) -> None:
        self._traffic.hand_over(successor.taken)
        if self._control is not None:
            await self._control.close()
        await self._standing.hand_over(successor.pid)
        await successor.left()
        message = f"pid {successor.pid}, version {successor.version}, serves; pid {os.getpid()}, {__version__}, drains"
        details = {"pid": successor.pid, "version": successor.version}
        self._balancer.notify(Event("upgraded", message, details=details))

    def _state(self) -> State:
        return State(self._balancer.sharing.snapshots(nodes=False), self._balancer.node.drained)


async def adopt(balancer: LoadBalancer, predecessor: Predecessor) -> None:
    """Go on with what the process knew whose place this one takes: states of backends, of circuits, of ejections."""
    state = await predecessor.state()
    for topic, message in state.messages:
        balancer.sharing.deliver(topic, message)
    for pool in balancer.config.pools:
        if pool.health_check is None:  # nobody would ever find that one is up again
            for backend in balancer.pools[pool.name].backends:
                balancer.pools[pool.name].set_health(backend, "up")
    if state.drained:
        balancer.node.drain("as before the upgrade")
