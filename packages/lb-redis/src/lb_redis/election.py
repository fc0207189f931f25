"""What follows from the lease: `sharing.leads`, its end in time, and an event when another node leads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lb_core import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_redis.lease import Holder, Lease


class Election:
    """Keeps `set_leads` true to the lease, from whatever side it ends."""

    def __init__(self, lease: Lease, *, set_leads: Callable[[bool], None], tell: Callable[[Event], None]) -> None:
        self.lease = lease
        self._set_leads = set_leads
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None
        self._last: str | None = None
        self._led = False

    def start(self) -> None:
        """Nobody leads before it has been elected."""
        self._set_leads(False)

    def heard(self, holder: Holder | None, asked: float | None) -> None:
        """What a beat has found; `asked` is when it was sent if it asked for the lease."""
        self.lease.heard(holder, asked)
        self._follow()
        if holder is not None and holder.boot != self._last:
            self._last = holder.boot
            own = holder.boot == self.lease.boot
            message = f"{holder.node} leads" + (", which is this node" if own else "")
            details = {"leader": holder.node, "token": holder.token, "own": own}
            self._tell(Event("leader_changed", message, details=details))

    def stop(self) -> None:
        """Lead no more."""
        self.lease.give_up()
        self._follow("it ends")

    def _follow(self, why: str = "its lease is over") -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        leads = self.lease.leads
        if leads:
            self._timer = asyncio.get_running_loop().call_later(self.lease.remaining, self._follow)
        self._set_leads(leads)
        if self._led and not leads and self._last == self.lease.boot:
            self._last = None
            message = f"this node leads no more: {why}, and another may lead"
            self._tell(Event("leader_changed", message, details={"leader": "", "token": 0, "own": False}))
        self._led = leads
