"""The crew: the workers of a node in the place of listeners of its own, as the server drives it.

a configuration comes       it is packed before it is applied here, so that one which cannot travel changes nothing;
                            then every worker applies it, and one that cannot is replaced
the end                     every worker drains; a second signal, or overtime, ends it at once
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from lb_core.errors import LbError, StartError
from lb_core.events import Event
from lb_core.listening import Address, address_of
from lb_core.node import Load
from lb_core.sharing import Memory, Note
from lb_core.units import counted
from lb_core.workers import beats, messages, orphans
from lb_core.workers.asking import Questions
from lb_core.workers.beats import Beats
from lb_core.workers.counters import Sums
from lb_core.workers.figures import decisions, figures
from lb_core.workers.pickling import Packing
from lb_core.workers.places import Places
from lb_core.workers.seated import Seated, how_it_ended
from lb_core.workers.sockets import Sockets
from lb_core.workers.waiting import Waiting
from lb_core.workers.wanted import wanted_workers
from lb_core.workers.watch import Watch

if TYPE_CHECKING:
    import socket

    from lb_core.balancer import LoadBalancer
    from lb_core.config import ListenerConfig
    from lb_core.listeners import Inherited
    from lb_core.workers.nursery import Nursery

log = logging.getLogger("lb.workers")

HURRY = 2.0
"""Seconds that a worker which is told to hurry has left."""
NURSERY_LOST = "the nursery has ended; send SIGUSR2, which loses nothing, or restart"


class Crew:
    """The workers of a node, seen from the control process."""

    def __init__(
        self, balancer: LoadBalancer, nursery: Nursery, *, grace: float, inherited: Inherited | None = None
    ) -> None:
        self.balancer = balancer
        self.on_none: Callable[[], None] = lambda: None
        """Called when there is no worker, and never will be."""
        self.matched = True
        self._nursery = nursery
        self._memory = balancer.sharing.memory or Memory()
        self._memory.shared = True
        self._beats = Beats(self._memory)
        self._sums = Sums(balancer, self._memory)
        self._sockets = Sockets(dict(inherited or {}))
        self._places = Places(
            nursery,
            self._sockets,
            wanted_workers(balancer.config),
            hire=self._hire,
            lost=lambda seat, why: self._ended(seat, None, why),
            tell=self._tell,
            grace=grace,
        )
        self._workers = self._places.workers
        self._watch = Watch(self._workers, self._beats, self._sums, self._hung)
        self._watching: asyncio.Task[None] | None = None
        self._questions = Questions()
        self._waiting = Waiting()
        self._generation = 0
        self._packing = Packing()
        self._matching = asyncio.Lock()

    # what is asked of it

    @property
    def urls(self) -> list[str]:
        """Where the node can be reached from this machine."""
        return self._sockets.urls

    @property
    def sockets(self) -> dict[Address, list[socket.socket]]:
        """The listening sockets, for a successor."""
        return {address: bound.sockets for address, bound in self._sockets.bound.items()}

    @property
    def load(self) -> Load:
        """What the workers carry."""
        self._sums.collect(self._workers)
        routes = (self.balancer.engine.unmatched, *self.balancer.routes.values())
        serving = sum(each.state == "serving" for each in self._workers.values())
        in_flight, connections = (self._total(word) for word in (beats.IN_FLIGHT, beats.CONNECTIONS))
        return Load(sum(route.requests for route in routes), in_flight, connections, serving)

    def figures(self) -> list[dict[str, Any]]:
        """Every worker, for people and programs."""
        self._sums.collect(self._workers)
        return figures(self._workers.values(), self._beats)

    async def decisions(self, request_id: str) -> dict[str, Any]:
        """What the workers know of a request."""
        return decisions(await self._questions.put(self._workers.values(), "decisions", request_id))

    def restart(self) -> str:
        """Begin to renew every worker, one after the other; raises LbError while that is under way, or cannot be."""
        if not self._nursery.alive:
            raise LbError(f"no worker can be started: {NURSERY_LOST}")
        if self._places.ending or self._places.rolling:
            raise LbError("the workers are being restarted already, or end: `lb workers` shows how far that is")
        self._places.roll()
        return f"{counted(self._places.count, 'worker')} will be restarted, one after the other"

    def reopen_logs(self) -> None:
        """Let every worker open its log files again."""
        for each in self._workers.values():
            each.send(messages.ReopenLogs())

    # its life, as the server drives it

    def open(self) -> None:
        """Open a socket for each listener and worker; raises StartError, and ConfigError for one that cannot travel."""
        self._packing.check(self.balancer.config)
        self.balancer.checks.append(self._packing.check)
        self.balancer.on_apply.append(self._follow)
        for listener in self.balancer.config.listeners:
            self._sockets.open(listener, self._places.count)

    async def start(self) -> None:
        """Start every worker and wait until all accept; raises StartError where none can start."""
        self.balancer.sharing.peers = self
        self._nursery.on_forked = self._forked
        self._nursery.on_ended = self._ended
        self._nursery.on_failed = lambda seat, error: self._ended(seat, None, f"no process: {os.strerror(error)}")
        self._nursery.on_lost = self._nursery_lost
        self._nursery.follow()
        self._watching = asyncio.create_task(self._watch.run(lambda: self._generation))
        for place in range(self._places.count):
            self._places.fill(place)
        await self._waiting.until(lambda: self._places.full or bool(self._places.no_start))
        if self._places.no_start:
            raise StartError(self._places.no_start)
        for bound in self._sockets.bound.values():
            self._tell_open(bound.listener, bound.urls)

    async def match(self) -> None:
        """Wait until every worker has the present configuration, then open the listeners that are new."""
        async with self._matching:
            self.matched = True
            await self._waiting.until(
                lambda: all(each.generation == self._generation for each in self._places.staying())
            )
            if self._places.ending:
                return
            self._settle()
            for listener in self.balancer.config.listeners:
                if address_of(listener) not in self._sockets.bound:
                    self._open_late(listener)
            self._places.hand_out()

    def hand_over(self, addresses: Collection[Address]) -> None:
        """Let every worker leave: the sockets of these addresses live on in another process."""
        for address in addresses:
            if address in self._sockets.bound:
                self._sockets.bound[address].keep_file()
        self._sockets.close()
        self._places.end(addresses)

    async def drain(self) -> None:
        """Let every worker drain and end."""
        self._sockets.close()
        self._places.end(())
        await self._waiting.until(lambda: not self._workers)

    def hurry(self) -> None:
        """End what drains, now."""
        for each in self._workers.values():
            each.send(messages.Hurry())
            each.ends_by = time.monotonic() + HURRY

    def close(self) -> None:
        """Let go of everything; workers that are left are killed."""
        self._places.ending = True
        if self._watching is not None:
            self._watching.cancel()
        self.balancer.sharing.peers = None
        self._sockets.close()
        for each in self._workers.values():
            each.kill()
        self._nursery.close()

    # the peers of what is shared

    def tell(self, note: Note, *, but: int | None = None) -> None:
        """Send a note to every worker but one."""
        for seat, each in self._workers.items():
            if seat != but:
                each.send(messages.Hear(note))

    # workers

    def _hire(self, seat: int, place: int) -> Seated:
        """A new worker's side here; it is sent everything that it needs to know."""
        self._beats.clear(seat)
        worker = self._workers[seat] = Seated(seat, place, self._generation, self._receive, _unlinked)
        config, sharing = self._packing.of(self.balancer.config), self.balancer.sharing
        others = (0, *(each for each in self._workers if each != seat))
        areas, counters = dict(self._memory.areas), self._sums.counters.name
        worker.send(messages.Start(seat, others, config, areas, counters, self._generation, sharing.clustered))
        for note in sharing.welcome():
            worker.send(messages.Hear(note))
        self._tell_seats()
        return worker

    def _receive(self, worker: Seated, message: Any) -> None:
        match message:
            case messages.Accepts():
                self._places.serves(worker)
            case messages.Applied(generation=generation):
                worker.generation = generation
            case messages.Failed(error=error):
                self._places.fails(worker, error)
                worker.generation = self._generation  # nobody waits for it
            case messages.Told(event=event):
                self.balancer.hear(event, worker.seat)
            case messages.Hear(note=note):
                self.balancer.sharing.hear(note, worker.seat)
            case messages.Answer(number=number, value=value):
                self._questions.answered(number, worker.seat, value)
        self._wake()

    def _forked(self, seat: int, pid: int, pidfd: int) -> None:
        worker = self._workers.get(seat)
        if worker is None:
            os.close(pidfd)
        else:
            worker.forked(pid, pidfd)

    def _hung(self, worker: Seated, seconds: float) -> None:
        message = f"seat {worker.seat}, pid {worker.pid}: no sign of life for {seconds:g} s, it is killed"
        self._tell("worker_hung", message, worker)

    def _ended(self, seat: int, status: int | None, reason: str = "") -> None:
        """A worker is no more; `status` is what waitpid says, None where nobody knows."""
        worker = self._workers.get(seat)
        if worker is None:
            return
        worker.ended()
        del self._workers[seat]
        self._questions.gone(seat)
        self._sums.left(seat, self._workers)
        self._beats.clear(seat)
        self.balancer.sharing.seat_gone(seat)
        self._tell_seats()
        how = reason or how_it_ended(status)
        if worker.stays and not self._places.ending:
            self._places.ended(worker, how, killed=status == signal.SIGKILL and not worker.hung)
        elif status:
            log.warning("the worker with seat %d, pid %d, left by %s", seat, worker.pid, how)
        if not self._workers and not self._nursery.alive and not self._places.ending:
            self.on_none()
        self._wake()

    def _nursery_lost(self) -> None:
        """Nobody can fork any more: those who are there go on."""
        self._tell("nursery_lost", f"no worker can be replaced any more: {NURSERY_LOST}")
        orphans.watch(self._workers.values(), self._ended)

    # configurations

    def _follow(self) -> None:
        """The control process has applied a configuration."""
        config = self.balancer.config
        self._generation += 1
        self.matched = False
        self._sums.follow()
        wanted = {address_of(listener): listener for listener in config.listeners}
        for address in [each for each in self._sockets.bound if each not in wanted]:
            self._sockets.close(address)
            for worker in self._workers.values():
                worker.forget(address)
        data, areas, counters = self._packing.of(config), dict(self._memory.areas), self._sums.counters.name
        for worker in self._workers.values():
            worker.send(messages.Apply(data, areas, counters, self._generation))
        # to be one process alone needs a new start, which an event says
        count = wanted_workers(config) if config.workers != 1 else self._places.count
        for address, bound in self._sockets.bound.items():
            bound.use(wanted[address])
            try:
                bound.widen(count)
            except StartError as error:
                self.balancer.notify(Event("listener_failed", str(error)))
        self._places.have(count)

    def _settle(self) -> None:
        """Give back memory that no worker uses any more."""
        if all(each.generation == self._generation and not each.failure for each in self._workers.values()):
            self._sums.release()
            self._memory.settle()

    def _open_late(self, listener: ListenerConfig) -> None:
        try:
            bound = self._sockets.open(listener, self._places.count)
        except StartError as error:
            self.balancer.notify(Event("listener_failed", str(error)))
        else:
            self._tell_open(listener, bound.urls)

    # telling and waiting

    def _tell(self, kind: str, message: str, worker: Seated | None = None, **details: object) -> None:
        if worker is not None:
            details = {"seat": worker.seat, "pid": worker.pid, **details}
        self.balancer.notify(Event(kind, message, details=details))

    def _tell_open(self, listener: ListenerConfig, urls: list[str]) -> None:
        message = f"{listener.name} listens on {', '.join(urls)}"
        self._tell("listener_open", message, listener=listener.name, urls=urls)

    def _tell_seats(self) -> None:
        seats = tuple(sorted(self._workers))
        self.balancer.sharing.set_seats(seats)
        for seat, worker in self._workers.items():
            worker.send(messages.Seats((0, *(each for each in seats if each != seat))))

    def _total(self, word: int) -> int:
        return sum(self._beats.read(seat, word) for seat in self._workers)

    def _wake(self) -> None:
        """Something has changed: let those look who wait."""
        self.balancer.node.has_workers(any(each.state == "serving" for each in self._workers.values()))
        self._waiting.wake()


def _unlinked(worker: Seated) -> None:
    """Its link is closed: it has ended, or will be made to."""
    worker.ends_by = min(worker.ends_by, time.monotonic() + HURRY)
