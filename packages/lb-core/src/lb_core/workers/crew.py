"""The crew: workers at their places, replaced when they end, hang, fail or are to be renewed.

    a place is empty            the others take its sockets at once; a new worker starts, at once or after a pause
    a new worker accepts        it gets the sockets of its place; whoever had that place before leaves
    a worker leaves             it stops accepting, drains and ends; what waits in its sockets is the next one's
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
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from lb_core.errors import LbError, StartError
from lb_core.events import Event
from lb_core.listening import Address, address_of
from lb_core.node import Load
from lb_core.process import usable_cores
from lb_core.sharing import Memory, Note
from lb_core.units import counted
from lb_core.workers import beats, messages
from lb_core.workers.asking import Questions
from lb_core.workers.backoff import Backoff
from lb_core.workers.beats import Beats
from lb_core.workers.counters import Sums
from lb_core.workers.pickling import packed
from lb_core.workers.seated import Seated
from lb_core.workers.sockets import Sockets

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer
    from lb_core.config import Config
    from lb_core.listeners import Inherited
    from lb_core.workers.nursery import Nursery

log = logging.getLogger("lb.workers")

LOOK_EVERY = 0.5
HUNG_AFTER = 10
"""Looks without a beat."""
STARTS_WITHIN = 120
"""The same for a worker that starts, or applies a configuration."""
OVERTIME = 5.0
"""Seconds beyond the grace after which a worker that leaves is killed."""
HURRY = 2.0
STARTS_TRIED = 3
"""Workers that may end before any has served; then the start has failed."""


def wanted_workers(config: Config) -> int:
    """How many workers a configuration asks for on this machine."""
    return usable_cores() if config.workers == "auto" else config.workers


class Crew:
    """The workers of a node, seen from the control process, in the place of listeners of its own."""

    def __init__(
        self, balancer: LoadBalancer, nursery: Nursery, *, grace: float, inherited: Inherited | None = None
    ) -> None:
        self.balancer = balancer
        self.count = wanted_workers(balancer.config)
        self.workers: dict[int, Seated] = {}
        self.on_none: Callable[[], None] = lambda: None
        """Called when there is no worker, and never will be."""
        self._grace = grace
        self._nursery = nursery
        self._sockets = Sockets(dict(inherited or {}))
        self._memory = balancer.sharing.memory or Memory()
        self._memory.shared = True
        self._beats = Beats(self._memory)
        self._sums = Sums(balancer, self._memory)
        self._questions = Questions()
        self._backoffs: dict[int, Backoff] = {}
        self._retries: dict[int, asyncio.TimerHandle] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._generation = 0
        self._packed: tuple[Config, bytes] | None = None
        self._served = False
        self._failed_starts: list[str] = []
        self._ending = False
        self._looking: asyncio.Task[None] | None = None
        self._rolling: asyncio.Task[None] | None = None
        self._matching = asyncio.Lock()
        self.matched = True

    # what is asked of it

    @property
    def urls(self) -> list[str]:
        """Where the node can be reached from this machine."""
        return self._sockets.urls

    @property
    def sockets(self) -> dict[Address, list[Any]]:
        """The listening sockets, for a successor."""
        return {address: bound.sockets for address, bound in self._sockets.bound.items()}

    @property
    def load(self) -> Load:
        """What the workers carry."""
        self._sums.collect(self.workers)
        routes = (self.balancer.engine.unmatched, *self.balancer.routes.values())
        serving = sum(each.state == "serving" for each in self.workers.values())
        in_flight, connections = (self._total(word) for word in (beats.IN_FLIGHT, beats.CONNECTIONS))
        return Load(sum(route.requests for route in routes), in_flight, connections, serving)

    def figures(self) -> list[dict[str, Any]]:
        """Every worker, for people and programs."""
        self._sums.collect(self.workers)
        return [
            {
                "seat": each.seat,
                "place": each.place,
                "pid": each.pid,
                "state": each.state,
                "since": each.since,
                "requests": self._beats.read(each.seat, beats.REQUESTS),
                "in_flight": self._beats.read(each.seat, beats.IN_FLIGHT),
                "connections": self._beats.read(each.seat, beats.CONNECTIONS),
            }
            for each in sorted(self.workers.values(), key=lambda each: (each.place, each.seat))
        ]

    async def decisions(self, request_id: str) -> dict[str, Any]:
        """What the workers know of a request."""
        found = await self._questions.put(self.workers.values(), "decisions", request_id)
        decisions = sorted((each for one in found for each in one["decisions"]), key=lambda each: each["time"])
        reach = min((one["seconds"] for one in found), default=0.0)
        return {"decisions": decisions, "kept": sum(one["kept"] for one in found), "seconds": reach}

    # its life, as the server drives it

    def open(self) -> None:
        """Open a socket for each listener and worker; raises StartError, and ConfigError for one that cannot travel."""
        self._check(self.balancer.config)
        self.balancer.checks.append(self._check)
        self.balancer.on_apply.append(self._follow)
        for listener in self.balancer.config.listeners:
            self._sockets.open(listener, self.count)

    async def start(self) -> None:
        """Start every worker and wait until all accept; raises StartError where none can start."""
        self.balancer.sharing.peers = self
        self._nursery.on_forked = self._forked
        self._nursery.on_ended = self._ended
        self._nursery.on_failed = lambda seat, error: self._ended(seat, None, f"no process: {os.strerror(error)}")
        self._nursery.on_lost = self._nursery_lost
        self._nursery.follow()
        self._looking = asyncio.create_task(self._look())
        for place in range(self.count):
            self._spawn(place)
        await self._until(lambda: self._filled().keys() >= set(range(self.count)) or self._no_start())
        if self._no_start():
            raise StartError(self._failed_starts[-1])
        for bound in self._sockets.bound.values():
            self._tell_open(bound.listener.name, bound.urls)

    async def match(self) -> None:
        """Wait until every worker has the present configuration, then open the listeners that are new."""
        async with self._matching:
            self.matched = True
            await self._until(lambda: all(each.generation == self._generation for each in self._staying()))
            if self._ending:
                return
            self._settle()
            for listener in self.balancer.config.listeners:
                if address_of(listener) not in self._sockets.bound:
                    self._open_late(listener)
            self._hand_out()

    def hand_over(self, addresses: Collection[Address]) -> None:
        """Let every worker leave: the sockets of these addresses live on in another process."""
        for address in addresses:
            if address in self._sockets.bound:
                self._sockets.bound[address].keep_file()
        self._end(addresses)

    async def drain(self) -> None:
        """Let every worker drain and end."""
        self._end()
        await self._until(lambda: not self.workers)

    def _end(self, kept: Collection[Address] = ()) -> None:
        self._ending = True
        for timer in self._retries.values():
            timer.cancel()
        if self._rolling is not None:
            self._rolling.cancel()
        self._sockets.close()
        for each in self.workers.values():
            each.leave(self._grace, last=True, kept=kept)
            each.ends_by = min(each.ends_by, time.monotonic() + self._grace + OVERTIME)

    def hurry(self) -> None:
        """End what drains, now."""
        for each in self.workers.values():
            each.send(messages.Hurry())
            each.ends_by = time.monotonic() + HURRY

    def close(self) -> None:
        """Let go of everything; workers that are left are killed."""
        self._ending = True
        if self._looking is not None:
            self._looking.cancel()
        self.balancer.sharing.peers = None
        self._sockets.close()
        for each in self.workers.values():
            each.kill()
        self._nursery.close()

    def reopen_logs(self) -> None:
        """Let every worker open its log files again."""
        for each in self.workers.values():
            each.send(messages.ReopenLogs())

    def restart(self) -> str:
        """Begin to renew every worker, one after the other; raises LbError while that is under way."""
        if self._ending or (self._rolling is not None and not self._rolling.done()):
            raise LbError("the workers are being restarted already, or end: `lb workers` shows how far that is")
        self._rolling = asyncio.create_task(self._roll())
        return f"{counted(self.count, 'worker')} will be restarted, one after the other"

    # peers of the shared state

    def tell(self, note: Note, *, but: int | None = None) -> None:
        """Send a note to every worker but one."""
        for seat, each in self.workers.items():
            if seat != but:
                each.send(messages.Hear(note))

    # places

    def _spawn(self, place: int) -> Seated | None:
        """Start a worker for a place; None where there is no seat, or nobody who could fork one."""
        seat = next((each for each in range(1, Memory.SEATS) if each not in self.workers), None)
        if seat is None or not self._nursery.alive or self._ending:
            return None
        self._beats.clear(seat)
        worker = Seated(seat, place, self._generation, self._receive, self._unlinked)
        self.workers[seat] = worker
        config = self._pack(self.balancer.config)
        counters, sharing = self._sums.counters, self.balancer.sharing
        seats = (0, *(each for each in self.workers if each != seat))
        areas = dict(self._memory.areas)
        worker.send(
            messages.Start(seat, seats, config, areas, counters.name, self._generation, sharing.clustered)
        )
        for note in sharing.welcome():
            worker.send(messages.Hear(note))
        self._tell_seats()
        self._hand_out()
        try:
            self._nursery.fork(seat, worker.theirs)
        except OSError as error:
            self._ended(seat, None, f"no process: {error}")
            return None
        worker.theirs.close()
        return worker

    def _respawn(self, place: int) -> None:
        """Fill a place, unless somebody with the present configuration is there or on the way."""
        self._retries.pop(place, None)
        there = [each for each in self._staying() if each.place == place]
        useless = any(each.state == "starting" or not each.failure for each in there)
        if place < self.count and not useless:
            self._spawn(place)

    def _respawn_after(self, place: int, pause: float) -> None:
        if self._ending or place >= self.count or place in self._retries:
            return
        loop = asyncio.get_running_loop()
        self._retries[place] = loop.call_later(pause, self._respawn, place)

    def _staying(self) -> Iterator[Seated]:
        return (each for each in list(self.workers.values()) if each.stays)

    def _filled(self) -> dict[int, Seated]:
        """Who serves at each place; of two the newer one."""
        serving = (each for each in self._staying() if each.state == "serving" and each.place < self.count)
        return {each.place: each for each in sorted(serving, key=lambda each: each.since)}

    def _hand_out(self) -> None:
        """Give every worker its share of the sockets; one that starts gets it beside whoever has it now."""
        filled = self._filled()
        starting = [each for each in self._staying() if each.state == "starting" and each.place < self.count]
        for address, bound in self._sockets.bound.items():
            shares = bound.share(self.count, filled)
            for place, worker in filled.items():
                worker.hold(address, bound, shares[place])
            for worker in starting:
                own = bound.share(self.count, {*filled, worker.place})[worker.place]
                worker.hold(address, bound, own)

    async def _roll(self) -> None:
        self._tell("workers_restarting", f"{counted(self.count, 'worker')}, one after the other")
        for place in range(self.count):
            if self._ending or place >= self.count:
                return
            worker = self._spawn(place)
            while worker is None and self._nursery.alive:
                await asyncio.sleep(LOOK_EVERY)  # those who still drain have all the seats
                worker = self._spawn(place)
            if worker is None or not await worker.ready:
                why = worker.failure if worker is not None and worker.failure else "the new one ended"
                self._tell("workers_restart_failed", f"{why}; the others go on as they are")
                return
        self._tell("workers_restarted", f"{counted(self.count, 'worker')}")

    # what workers say, and what becomes of them

    def _receive(self, worker: Seated, message: Any) -> None:
        match message:
            case messages.Accepts():
                self._serves(worker)
            case messages.Applied(generation=generation):
                worker.generation = generation
            case messages.Failed():
                self._failed(worker, message)
            case messages.Told(event=event):
                self.balancer.hear(event, worker.seat)
            case messages.Hear(note=note):
                self.balancer.sharing.hear(note, worker.seat)
            case messages.Answer(number=number, value=value):
                self._questions.answered(number, worker.seat, value)
        self._wake()

    def _forked(self, seat: int, pid: int, pidfd: int) -> None:
        worker = self.workers.get(seat)
        if worker is None:
            os.close(pidfd)
            return
        worker.forked(pid, pidfd)

    def _serves(self, worker: Seated) -> None:
        self._served = True
        worker.serves()
        if not worker.stays:
            return
        for each in self._staying():
            if each.place == worker.place and each is not worker and each.state == "serving":
                self._let_go(each)
        self._hand_out()
        self._tell_node()
        self._tell("worker_started", f"seat {worker.seat}, pid {worker.pid}", worker)

    def _let_go(self, worker: Seated) -> None:
        worker.leave(self._grace)
        worker.ends_by = time.monotonic() + self._grace + OVERTIME

    def _failed(self, worker: Seated, message: messages.Failed) -> None:
        worker.failure = message.error
        if worker.state == "starting" and not self._served:
            return  # it ends, and the start with it
        self._tell("worker_failed", f"seat {worker.seat}, pid {worker.pid}: {message.error}", worker)
        if worker.state == "serving":
            worker.generation = self._generation  # nobody waits for it; it serves as before until it is replaced
            self._respawn_after(worker.place, 0.0)

    def _unlinked(self, worker: Seated) -> None:
        """Its link is closed: it has ended, or will be made to."""
        worker.ends_by = min(worker.ends_by, time.monotonic() + HURRY)

    def _ended(self, seat: int, status: int | None, reason: str = "") -> None:
        """A worker is no more; `status` is what waitpid says, None where nobody knows."""
        worker = self.workers.get(seat)
        if worker is None:
            return
        worker.ended()
        del self.workers[seat]
        self._questions.gone(seat)
        self._sums.left(seat, self.workers)
        self._beats.clear(seat)
        self.balancer.sharing.seat_gone(seat)
        self._tell_seats()
        self._tell_node()
        expected = not worker.stays or self._ending
        how = reason or how_it_ended(status)
        if not expected:
            self._replace(worker, how, killed=status == signal.SIGKILL and not worker.hung)
        elif status:
            log.warning("the worker with seat %d, pid %d, left by %s", seat, worker.pid, how)
        if not self.workers and not self._nursery.alive and not self._ending:
            self.on_none()
        self._wake()

    def _replace(self, worker: Seated, how: str, *, killed: bool) -> None:
        details = f"seat {worker.seat}, pid {worker.pid}: {worker.failure or how} after {worker.lived:.1f} s"
        if not self._served:
            self._failed_starts.append(worker.failure or f"no worker starts: the last one ended by {how}")
        elif not worker.hung:
            self._tell("worker_died", details, worker, how=how)
        self._hand_out()
        backoff = self._backoffs.setdefault(worker.place, Backoff())
        pause = backoff.ended(worker.lived, killed=killed)
        if backoff.crashes > 1 and not killed and self._served:
            message = f"{counted(backoff.crashes, 'time')} in a row; the next one starts in {pause:g} s"
            self._tell("worker_crash_loop", message, worker, crashes=backoff.crashes)
        self._respawn_after(worker.place, pause)

    def _no_start(self) -> bool:
        """Whether nobody serves and nobody will."""
        told = any(not each.startswith("no worker starts") for each in self._failed_starts)
        return not self._served and bool(self._failed_starts) and (told or len(self._failed_starts) >= STARTS_TRIED)

    def _nursery_lost(self) -> None:
        """Nobody can fork any more: those who are there go on, and their ends are seen by their descriptors."""
        self._tell("nursery_lost", "no worker can be replaced any more: restart lb, or send SIGUSR2")
        loop = asyncio.get_running_loop()
        for seat, worker in list(self.workers.items()):
            if worker.pidfd < 0:
                self._ended(seat, None, "a lost nursery")
            else:
                loop.add_reader(worker.pidfd, self._ended_unseen, seat, worker.pidfd)

    def _ended_unseen(self, seat: int, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        self._ended(seat, None)

    # configurations

    def _check(self, config: Config) -> None:
        self._packed = config, packed(config)

    def _pack(self, config: Config) -> bytes:
        if self._packed is None or self._packed[0] is not config:
            self._check(config)
        assert self._packed is not None
        return self._packed[1]

    def _follow(self) -> None:
        """The control process has applied a configuration."""
        config = self.balancer.config
        self._generation += 1
        self.matched = False
        if config.workers != 1:  # to be one process alone needs a new start, which an event says
            self.count = wanted_workers(config)
        self._sums.follow()
        wanted = {address_of(listener): listener for listener in config.listeners}
        for address in [each for each in self._sockets.bound if each not in wanted]:
            self._sockets.close(address)
            for worker in self.workers.values():
                worker.forget(address)
        data, areas, counters = self._pack(config), dict(self._memory.areas), self._sums.counters.name
        for worker in self.workers.values():
            worker.send(messages.Apply(data, areas, counters, self._generation))
        for address, bound in self._sockets.bound.items():
            bound.use(wanted[address])
        self._follow_count()

    def _follow_count(self) -> None:
        """Have as many workers as the configuration says."""
        for bound in self._sockets.bound.values():
            try:
                bound.widen(self.count)
            except StartError as error:
                self.balancer.notify(Event("listener_failed", str(error)))
        for worker in self._staying():
            if worker.place >= self.count:
                self._let_go(worker)
        for place in range(self.count):
            if not any(each.place == place for each in self._staying()):
                self._respawn_after(place, 0.0)
        self._hand_out()

    def _settle(self) -> None:
        """Give back memory that no worker uses any more."""
        if all(each.generation == self._generation and not each.failure for each in self.workers.values()):
            self._sums.release()
            self._memory.settle()

    def _open_late(self, listener: Any) -> None:
        try:
            bound = self._sockets.open(listener, self.count)
        except StartError as error:
            self.balancer.notify(Event("listener_failed", str(error)))
        else:
            self._tell_open(listener.name, bound.urls)

    # looking

    async def _look(self) -> None:
        collect_at = 0.0
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for worker in list(self.workers.values()):
                self._look_at(worker)
            begin = time.monotonic()
            if begin >= collect_at:
                self._sums.collect(self.workers)
                collect_at = begin + max(2 * LOOK_EVERY - 0.1, 20 * (time.monotonic() - begin))

    def _look_at(self, worker: Seated) -> None:
        missed = worker.pulse.look(self._beats.read(worker.seat, beats.BEAT))
        busy = worker.state == "starting" or worker.generation != self._generation
        if missed >= (STARTS_WITHIN if busy else HUNG_AFTER) and not worker.hung:
            worker.hung = True
            seconds = missed * LOOK_EVERY
            message = f"seat {worker.seat}, pid {worker.pid}: no sign of life for {seconds:g} s, it is killed"
            self._tell("worker_hung", message, worker)
            worker.kill()
        elif time.monotonic() > worker.ends_by:
            worker.kill()

    # telling and waiting

    def _tell(self, kind: str, message: str, worker: Seated | None = None, **details: object) -> None:
        if worker is not None:
            details = {"seat": worker.seat, "pid": worker.pid, **details}
        self.balancer.notify(Event(kind, message, details=details))

    def _tell_open(self, name: str, urls: list[str]) -> None:
        message = f"{name} listens on {', '.join(urls)}"
        self.balancer.notify(Event("listener_open", message, details={"listener": name, "urls": urls}))

    def _tell_seats(self) -> None:
        seats = tuple(sorted(self.workers))
        self.balancer.sharing.set_seats(seats)
        for seat, worker in self.workers.items():
            worker.send(messages.Seats((0, *(each for each in seats if each != seat))))

    def _tell_node(self) -> None:
        serving = any(each.state == "serving" for each in self.workers.values())
        self.balancer.node.has_workers(serving)

    def _total(self, word: int) -> int:
        return sum(self._beats.read(seat, word) for seat in self.workers)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def _wake(self) -> None:
        self.balancer.node.has_workers(any(each.state == "serving" for each in self.workers.values()))
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)


def how_it_ended(status: int | None) -> str:
    """A status of waitpid as a person reads it."""
    if status is None:
        return "an unknown cause"
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.waitstatus_to_exitcode(status)}"
