"""A worker: a whole balancer that carries traffic and does nothing else.

    start       the first message brings the configuration; it is applied at once, so that what follows finds its routes
    serve       when the plugins have started it accepts on the sockets it has been handed, and says so
    leave       when the control process says so, or has gone: stop accepting, drain, end

Messages are taken in their order. What needs time (handing over sockets, draining) is done one after the other beside.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lb_core.balancer import LoadBalancer
from lb_core.engine.admission import ceiling
from lb_core.events import Event
from lb_core.listeners import Listeners
from lb_core.process import loop_factory, raise_file_limit
from lb_core.sharing import Memory, Note, Sharing
from lb_core.workers import beats, messages, whereabouts
from lb_core.workers.beats import Beats
from lb_core.workers.counters import Counters, Layout
from lb_core.workers.link import Link
from lb_core.workers.pickling import unpacked

if TYPE_CHECKING:
    from lb_core.listening import Address
    from lb_core.plugins import Plugins
    from lb_core.resolving import Resolver

log = logging.getLogger("lb.workers")

ORPHAN_GRACE = 30.0
"""Seconds to drain when the control process has gone without a word."""
COUNTING_MOST = 20
"""Putting down the counters may take one part in so many of the time."""


class Control:
    """The control process, as the only peer of a worker."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def tell(self, note: Note, *, but: int | None = None) -> None:
        """Send a note."""
        del but
        try:
            self._link.send(messages.Hear(note))
        except Exception:
            log.exception("a note cannot be sent: %.200r", note)

    def tell_event(self, event: Event) -> None:
        """Let the control process tell an event; details that cannot travel go as text."""
        try:
            self._link.send(messages.Told(event))
        except Exception:
            plain = {name: str(value) for name, value in event.details.items()}
            self._link.send(messages.Told(replace(event, details=plain)))


class Worker:
    """One worker process, from its link to its end."""

    def __init__(self, connection: socket.socket, memory: int, plugins: Plugins, resolver: Resolver) -> None:
        self._connection = connection
        self._memory_file = memory
        self._plugins = plugins
        self._resolver = resolver
        self._begun = asyncio.Event()
        self._stop = asyncio.Event()
        self._grace = ORPHAN_GRACE
        self._last = True
        self._kept: tuple[Address, ...] = ()
        self._work: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._sockets: dict[Address, dict[int, list[socket.socket]]] = {}
        self._handlers: dict[type, Callable[[Any, list[int]], None]] = {
            messages.Start: self._start,
            messages.Apply: self._apply,
            messages.Hold: self._hold,
            messages.Hear: lambda message, _: self.sharing.hear(message.note),
            messages.Seats: lambda message, _: self.sharing.set_seats(message.seats),
            messages.Leave: self._leave,
            messages.Hurry: lambda *_: self.listeners.hurry(),
            messages.ReopenLogs: lambda *_: self.balancer.notify(Event("reopen_logs", "")),
            messages.Ask: self._answer,
        }
        self.link: Link
        self.sharing: Sharing
        self.memory: Memory
        self.balancer: LoadBalancer
        self.listeners: Listeners
        self.counters: Counters

    async def run(self) -> int:
        """Serve until told to leave; returns the exit status."""
        self.link = Link(self._connection, self._receive, self._lost)
        beating = working = None
        try:
            await self._begun.wait()
            if self._stop.is_set():
                return 1
            beating = asyncio.create_task(self._beat())
            self.balancer.engine.max_connections = ceiling(raise_file_limit())
            async with self.balancer.lifespan(self.balancer):
                working = asyncio.create_task(self._do_work())
                gc.collect()
                gc.freeze()
                self._do(self._accepts)
                await self._stop.wait()
                await self._drain()
        except Exception as error:
            log.exception("the worker failed")
            self.link.send(messages.Failed(0, f"{type(error).__name__}: {error}"))
            return 1
        finally:
            for task in (beating, working):
                if task is not None:
                    task.cancel()
            if self._begun.is_set():
                self._put_down()
            self.link.close()
        return 0

    # messages

    def _receive(self, message: Any, descriptors: list[int]) -> None:
        self._handlers[type(message)](message, descriptors)

    def _lost(self) -> None:
        """The control process has gone: nobody else will answer those who wait."""
        if not self._stop.is_set():
            log.warning("the control process has gone without a word: draining, for at most %g s", ORPHAN_GRACE)
        self._begun.set()
        self._stop.set()

    def _start(self, start: messages.Start, _: list[int]) -> None:
        self.memory = Memory(os.dup(self._memory_file), start.areas)
        self.sharing = Sharing(seat=start.seat, memory=self.memory)
        self.sharing.clustered = start.clustered
        self.sharing.seats = start.seats
        control = Control(self.link)
        self.sharing.peers = control
        self.balancer = LoadBalancer(
            plugins=self._plugins, resolver=self._resolver, role="worker", sharing=self.sharing
        )
        self.balancer.tell_control = control.tell_event
        self.listeners = Listeners(self.balancer, grace=self._grace)
        self.beats = Beats(self.memory)
        try:
            self._take(start)
        except Exception as error:
            log.exception("the worker cannot apply its configuration")
            self.link.send(messages.Failed(start.generation, f"{type(error).__name__}: {error}"))
            self._stop.set()
        self._begun.set()

    def _apply(self, apply: messages.Apply, _: list[int]) -> None:
        self.memory.follow(apply.areas)
        try:
            self._take(apply)
        except Exception as error:
            log.exception("the worker cannot apply a configuration, and goes on with the one it has")
            self.link.send(messages.Failed(apply.generation, f"{type(error).__name__}: {error}"))
            return
        if not self._stop.is_set():
            self.listeners.follow()
        self._do(lambda: self._say(messages.Applied(apply.generation)))

    def _take(self, message: messages.Start | messages.Apply) -> None:
        self.balancer.apply(unpacked(message.config))
        self.counters = Counters(self.memory, message.counters, Layout(self.balancer))

    def _hold(self, hold: messages.Hold, descriptors: list[int]) -> None:
        """Keep count of what we have, and accept on it when its turn comes."""
        ours = self._sockets.setdefault(hold.address, {})
        new: list[socket.socket] = []
        for key, descriptor in zip(hold.new, descriptors, strict=True):
            each = socket.socket(fileno=descriptor)
            each.setblocking(False)
            ours.setdefault(key, []).append(each)
            new.append(each)
        gone = [each for key in [*ours] if key not in hold.keys for each in ours.pop(key)]
        self._do(lambda: self.listeners.hold(hold.address, new, gone))

    def _leave(self, leave: messages.Leave, _: list[int]) -> None:
        self._grace, self._last, self._kept = leave.grace, leave.last, leave.kept
        self._stop.set()

    def _answer(self, ask: messages.Ask, _: list[int]) -> None:
        decisions = self.balancer.engine.decisions
        found = {"decisions": decisions.find(ask.argument), "kept": len(decisions), "seconds": decisions.reach}
        self.link.send(messages.Answer(ask.number, found))

    # what takes time

    def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work.put_nowait(work)

    async def _do_work(self) -> None:
        while True:
            work = await self._work.get()
            try:
                await work()
            except Exception:
                log.exception("a worker could not do what it was told")

    async def _say(self, message: object) -> None:
        self.link.send(message)

    async def _accepts(self) -> None:
        self._put_down()
        self.link.send(messages.Accepts())

    async def _drain(self) -> None:
        self.listeners.grace = self._grace
        if self._last:
            self.listeners.hand_over(self._kept)
        else:
            self.listeners.leave_all()
        await self.listeners.drain()

    # the shared memory

    async def _beat(self) -> None:
        count, count_at = 0, 0.0
        while True:
            count += 1
            self.beats.write(self.sharing.seat, beats.BEAT, count)
            now = time.monotonic()
            if now >= count_at:
                self._put_down()
                count_at = now + (time.monotonic() - now) * COUNTING_MOST
            await asyncio.sleep(beats.EVERY)

    def _put_down(self) -> None:
        seat, load = self.sharing.seat, self.listeners.load
        self.beats.write(seat, beats.CONNECTIONS, load.connections)
        self.beats.write(seat, beats.REQUESTS, load.requests)
        self.beats.write(seat, beats.IN_FLIGHT, load.in_flight)
        self.counters.write(seat)


def work(connection: socket.socket, seat: int, *, memory: int, plugins: Plugins, resolver: Resolver) -> int:
    """Be a worker; returns the exit status."""
    _name_logs(seat)
    whereabouts.prepare()

    async def run() -> int:
        return await Worker(connection, memory, plugins, resolver).run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())


def _name_logs(seat: int) -> None:
    """Let every line of this process's log say which worker wrote it."""
    make = logging.getLogRecordFactory()

    def named(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.name = f"{record.name} (worker {seat})"
        return record

    logging.setLogRecordFactory(named)
