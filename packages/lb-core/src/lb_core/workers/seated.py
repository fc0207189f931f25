"""One worker, seen from the control process."""

from __future__ import annotations

import os
import signal
import socket
import time
from asyncio import Future, get_running_loop
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from lb_core.workers import messages, whereabouts
from lb_core.workers.beats import Pulse
from lb_core.workers.link import Link

if TYPE_CHECKING:
    from lb_core.listening import Address
    from lb_core.workers.sockets import Bound

State = Literal["starting", "serving", "leaving"]

DESCRIPTORS_AT_ONCE = 48


class Seated:
    """A worker: its link, its process, what it has been given.

    `ready` is settled when it serves (True) or has ended before that (False). `failure` is what it said of a start or a
    configuration that failed. Needs the running loop.
    """

    def __init__(
        self,
        seat: int,
        place: int,
        generation: int,
        receive: Callable[[Seated, Any], None],
        lost: Callable[[Seated], None],
    ) -> None:
        ours, self.theirs = socket.socketpair()
        self.seat = seat
        self.place = place
        self.generation = generation
        self.state: State = "starting"
        self.since = time.time()
        self.pid = 0
        self.pidfd = -1
        self.failure = ""
        self.hung = False
        self.pulse = Pulse()
        self.ready: Future[bool] = get_running_loop().create_future()
        self.ends_by = float("inf")
        self._began = time.monotonic()
        self._link = Link(ours, lambda message, _: receive(self, message), lambda: lost(self))
        self._held: dict[Address, set[int]] = {}

    @property
    def lived(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    @property
    def stays(self) -> bool:
        """Whether it is not on its way out."""
        return self.state != "leaving"

    def send(self, message: object) -> None:
        """Tell it something."""
        self._link.send(message)

    def forked(self, pid: int, pidfd: int) -> None:
        """It exists."""
        self.pid, self.pidfd = pid, pidfd

    def serves(self) -> None:
        """It accepts connections."""
        if self.state == "starting":
            self.state = "serving"
        if not self.ready.done():
            self.ready.set_result(True)

    def leave(self, grace: float, *, last: bool = False, kept: Collection[Address] = ()) -> None:
        """Let it stop accepting, drain and end; its sockets live on unless this is the end of all but those `kept`."""
        if self.stays:
            self.state = "leaving"
            self.send(messages.Leave(grace, last, tuple(kept)))

    def end_hung(self) -> None:
        """It hangs: let it write where, then end it."""
        self.hung = True
        if self.pidfd >= 0:
            whereabouts.ask(self.pidfd)
        get_running_loop().call_later(whereabouts.WITHIN, self.kill)

    def kill(self) -> None:
        """End it at once."""
        if self.pidfd >= 0:
            with suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def hold(self, address: Address, bound: Bound, keys: Collection[int]) -> None:
        """Let it accept on these sockets of an address, and on no others."""
        held = self._held.setdefault(address, set())
        if held == set(keys):
            return
        new = [(key, each) for key in sorted(set(keys) - held) for each in bound.keys[key]]
        kept = tuple(keys)
        for begin in range(0, max(len(new), 1), DESCRIPTORS_AT_ONCE):
            part = new[begin : begin + DESCRIPTORS_AT_ONCE]
            message = messages.Hold(address, kept, tuple(key for key, _ in part))
            self._link.send(message, [each.fileno() for _, each in part])
        held.clear()
        held.update(keys)

    def forget(self, address: Address) -> None:
        """The listener is gone."""
        self._held.pop(address, None)

    def ended(self) -> None:
        """Its process is over: take what it still said."""
        self._link.finish()
        self.theirs.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if not self.ready.done():
            self.ready.set_result(False)


def how_it_ended(status: int | None) -> str:
    """A status of waitpid as a person reads it."""
    if status is None:
        return "an unknown cause"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(ValueError):  # those for real time have no names
            return signal.Signals(number).name
        return f"signal {number}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
