"""The places of a crew: who fills them, who replaces whom, and who has which sockets meanwhile.

a place is empty            the others take its sockets at once; a new worker starts, at once or after a pause
a new worker accepts        it has the sockets of its place; whoever had that place before leaves
a worker leaves             it stops accepting, drains and ends; what waits in its sockets is the next one's
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Protocol

from lb_core.sharing import Memory
from lb_core.units import counted
from lb_core.workers.backoff import Backoff

if TYPE_CHECKING:
    from lb_core.listening import Address
    from lb_core.workers.nursery import Nursery
    from lb_core.workers.seated import Seated
    from lb_core.workers.sockets import Sockets

OVERTIME = 5.0
"""Seconds beyond the grace after which a worker that leaves is killed."""
STARTS_TRIED = 3
"""Workers that may end before any has served; then the start has failed."""
AGAIN = 0.5
"""Seconds until a seat is looked for again where those who drain have all of them."""


class Tell(Protocol):
    """Tells an event about a worker, or about all."""

    def __call__(self, kind: str, message: str, worker: Seated | None = None, **details: object) -> None:
        """Tell it."""


class Places:
    """`workers` are all there are, by seat; `count` is how many there shall be.

    `hire(seat, place)` makes a worker's side here and sends it what it needs. `grace` is how long one may drain.
    """

    def __init__(
        self,
        nursery: Nursery,
        sockets: Sockets,
        count: int,
        *,
        hire: Callable[[int, int], Seated],
        lost: Callable[[int, str], None],
        tell: Tell,
        grace: float,
    ) -> None:
        self.workers: dict[int, Seated] = {}
        self.count = count
        self.served = False
        """Whether any worker has ever served."""
        self.ending = False
        self._nursery = nursery
        self._sockets = sockets
        self._hire = hire
        self._lost = lost
        self._tell = tell
        self._grace = grace
        self._backoffs: dict[int, Backoff] = {}
        self._retries: dict[int, asyncio.TimerHandle] = {}
        self._failed_starts: list[str] = []
        self._last = ""
        self._rolling: asyncio.Task[None] | None = None

    # who is there

    def staying(self) -> Iterator[Seated]:
        """Those who are not on their way out."""
        return (each for each in list(self.workers.values()) if each.stays)

    @property
    def full(self) -> bool:
        """Whether somebody serves at every place."""
        return self._filled().keys() >= set(range(self.count))

    @property
    def no_start(self) -> str:
        """Why nobody serves and nobody will; empty where that is not so."""
        failed = self._failed_starts
        if self.served or not failed:
            return ""
        told = next((each for each in failed if each), "")
        return told or (f"no worker starts: the last one ended by {self._last}" if len(failed) >= STARTS_TRIED else "")

    def _filled(self) -> dict[int, Seated]:
        """Who serves at each place; of two the newer one."""
        serving = (each for each in self.staying() if each.state == "serving" and each.place < self.count)
        return {each.place: each for each in sorted(serving, key=lambda each: each.since)}

    # filling

    def fill(self, place: int) -> Seated | None:
        """Start a worker for a place; None where there is no seat, or nobody who could fork one."""
        seat = next((each for each in range(1, Memory.SEATS) if each not in self.workers), None)
        if seat is None or not self._nursery.alive or self.ending:
            return None
        worker = self._hire(seat, place)
        self.hand_out()
        try:
            self._nursery.fork(seat, worker.theirs)
        except OSError as error:
            self._lost(seat, f"no process: {error}")
            return None
        worker.theirs.close()
        return worker

    def have(self, count: int) -> None:
        """There shall be so many."""
        self.count = count
        for worker in self.staying():
            if worker.place >= count:
                self.let_go(worker)
        for place in range(count):
            if not any(each.place == place for each in self.staying()):
                self.refill(place, 0.0)
        self.hand_out()

    def refill(self, place: int, pause: float) -> None:
        """Start a worker for a place after a pause, if it is still needed then."""
        if not self.ending and place < self.count and place not in self._retries:
            loop = asyncio.get_running_loop()
            self._retries[place] = loop.call_later(pause, self._refill, place)

    def _refill(self, place: int) -> None:
        self._retries.pop(place, None)
        there = [each for each in self.staying() if each.place == place]
        useless = any(each.state == "starting" or not each.failure for each in there)
        if place < self.count and not useless and self.fill(place) is None and self._nursery.alive:
            self.refill(place, AGAIN)

    def hand_out(self) -> None:
        """Give every worker its share of the sockets; one that starts gets it beside whoever has it now."""
        filled = self._filled()
        starting = [each for each in self.staying() if each.state == "starting" and each.place < self.count]
        for address, bound in self._sockets.bound.items():
            shares = bound.share(self.count, filled)
            for place, worker in filled.items():
                worker.hold(address, bound, shares[place])
            for worker in starting:
                own = bound.share(self.count, {*filled, worker.place})[worker.place]
                worker.hold(address, bound, own)

    # what becomes of a worker

    def serves(self, worker: Seated) -> None:
        """It accepts; whoever had its place may leave."""
        self.served = True
        worker.serves()
        if not worker.stays:
            return
        for each in self.staying():
            if each.place == worker.place and each is not worker and each.state == "serving":
                self.let_go(each)
        self.hand_out()
        self._tell("worker_started", f"seat {worker.seat}, pid {worker.pid}", worker)

    def fails(self, worker: Seated, error: str) -> None:
        """It cannot apply a configuration: it serves with the one it has until it is replaced."""
        worker.failure = error
        if worker.state == "starting" and not self.served:
            return  # it ends, and the start with it
        self._tell("worker_failed", f"seat {worker.seat}, pid {worker.pid}: {error}", worker)
        if worker.state == "serving":
            self.refill(worker.place, 0.0)

    def ended(self, worker: Seated, how: str, *, killed: bool) -> None:
        """It is no more, though nobody had sent it away; `killed` from outside, as far as anybody can tell."""
        if not self.served:
            self._last = how
            self._failed_starts.append(worker.failure)
        elif not worker.hung:
            what = f"seat {worker.seat}, pid {worker.pid}: {worker.failure or how} after {worker.lived:.1f} s"
            self._tell("worker_died", what, worker, how=how)
        self.hand_out()
        if not self._nursery.alive:
            return  # nobody comes after it, which an event has said
        backoff = self._backoffs.setdefault(worker.place, Backoff())
        pause = backoff.ended(worker.lived, killed=killed)
        if backoff.crashes > 1 and not killed and self.served:
            message = f"{counted(backoff.crashes, 'time')} in a row; the next one starts in {pause:g} s"
            self._tell("worker_crash_loop", message, worker, crashes=backoff.crashes)
        self.refill(worker.place, pause)

    def let_go(self, worker: Seated) -> None:
        """Send one away: its sockets live on, and have others already or will have."""
        worker.leave(self._grace)
        worker.ends_by = time.monotonic() + self._grace + OVERTIME

    # all of them

    @property
    def rolling(self) -> bool:
        """Whether they are being renewed."""
        return self._rolling is not None and not self._rolling.done()

    def roll(self) -> None:
        """Begin to renew all, one after the other."""
        self._rolling = asyncio.create_task(self._roll())

    async def _roll(self) -> None:
        self._tell("workers_restarting", f"{counted(self.count, 'worker')}, one after the other")
        for place in range(self.count):
            if self.ending or place >= self.count:
                return
            worker = self.fill(place)
            while worker is None and self._nursery.alive:
                await asyncio.sleep(AGAIN)
                worker = self.fill(place)
            if worker is None or not await worker.ready:
                why = worker.failure if worker is not None and worker.failure else "the new one did not start"
                self._tell("workers_restart_failed", f"{why}; the others go on as they are")
                return
        self._tell("workers_restarted", counted(self.count, "worker"))

    def end(self, kept: Collection[Address]) -> None:
        """Let all drain and end; the sockets of `kept` live on in another process."""
        self.ending = True
        for timer in self._retries.values():
            timer.cancel()
        if self._rolling is not None:
            self._rolling.cancel()
        for each in self.workers.values():
            each.leave(self._grace, last=True, kept=kept)
            each.ends_by = min(each.ends_by, time.monotonic() + self._grace + OVERTIME)
