"""Serve a balancer: listeners or workers, signals, reload, and an orderly end.

    start      raise the file limit, open every socket (a taken port ends it here), enter the plugins' lifespans, accept
    run        once a second look at the configuration files; a change, or SIGHUP, reloads
    reload     the balancer swaps its routes; listeners that are new are opened, those that are gone are drained, the
               others keep their sockets and connections
    leave      SIGTERM or SIGINT: say `not ready`, and go on accepting for `shutdown_delay`; a second signal skips that
    drain      stop accepting, let connections finish their exchange, cut what is left after the
               grace; another signal cuts at once
    end        leave the lifespans in reverse; exit status 0

SIGUSR1 opens the log files again, for logrotate; SIGUSR2 lets a new process of the same command take over (upgrade.py);
SIGRTMIN restarts the workers one after the other.

What carries the traffic is one of two: `Listeners` in this process, or a `Crew` of workers that this process controls.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lb_core.control.asks import Asks
from lb_core.control.listener import ControlSocket
from lb_core.engine.admission import ceiling
from lb_core.environment import process_environment
from lb_core.errors import LbError
from lb_core.events import Event
from lb_core.handover import Predecessor
from lb_core.listeners import Listeners
from lb_core.listening import address_of
from lb_core.process import loop_factory, raise_file_limit
from lb_core.standing import Standing
from lb_core.upgrade import Upgrade, adopt
from lb_core.watch import FileWatch
from lb_core.workers.crew import Crew
from lb_core.workers.nursery import Nursery
from lb_core.workers.wanted import wanted_workers
from lb_core.workers.worker import work

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer
    from lb_core.carrier import Traffic

log = logging.getLogger("lb.server")

DRAIN = 30.0
LOOK_EVERY = 1.0


class Server:
    """A balancer being served.

    `drain` is the grace at the end, in seconds. Without `watch` its files are not looked at; without `signals` the
    process's signals stay the caller's; with `control` commands reach it over the socket that the configuration names.
    With a `nursery` workers carry the traffic. A `predecessor` hands over what it has, then drains.
    """

    def __init__(
        self,
        balancer: LoadBalancer,
        *,
        drain: float = DRAIN,
        watch: bool = True,
        signals: bool = True,
        control: bool = False,
        nursery: Nursery | None = None,
        predecessor: Predecessor | None = None,
    ) -> None:
        self.balancer = balancer
        self.crew: Crew | None = None
        self.traffic: Traffic
        wanted = [address_of(listener) for listener in balancer.config.listeners]
        inherited = predecessor.take(wanted) if predecessor is not None else None
        if nursery is None:
            self.traffic = Listeners(balancer, grace=drain, inherited=inherited)
        else:
            balancer.role = "control"
            self.traffic = self.crew = Crew(balancer, nursery, grace=drain, inherited=inherited)
            self.crew.on_none = partial(self._fail, "no worker is left, and none can be started")
            balancer.node.workers = self.crew
        balancer.node.load = lambda: self.traffic.load
        balancer.node.predecessor = predecessor.run if predecessor is not None else ""
        environ = process_environment()
        self.control = ControlSocket(Asks(balancer, lambda: self.urls), environ) if control else None
        self.standing = Standing(balancer, environ if control else {})
        self._predecessor = predecessor
        self._upgrade = Upgrade(balancer, self.traffic, self.standing, self.control)
        self._upgrading: asyncio.Task[None] | None = None
        self._grace = drain
        self._watching = watch
        self._own_signals = signals and threading.current_thread() is threading.main_thread()
        self._files = FileWatch()
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._status = 0
        self._skip = asyncio.Event()
        self._stop = asyncio.Event()
        self.started = asyncio.Event()

    @property
    def urls(self) -> list[str]:
        """Where the balancer can be reached from this machine."""
        return self.traffic.urls

    async def serve(self, stop: asyncio.Event | None = None) -> int:
        """Serve until `stop` is set or a signal comes; returns the exit status. Raises StartError."""
        self._stop = stop or self._stop
        self.balancer.engine.max_connections = ceiling(raise_file_limit())
        try:
            self.traffic.open()
            await self.standing.open(self._predecessor)
            async with self.balancer.lifespan(self.balancer):
                with self._signals():
                    await self._run()
        finally:
            self.traffic.close()
            await self.standing.close()
        return self._status

    async def reload(self) -> bool:
        """Read the configuration again; a bad one is refused and changes nothing, as any is once the end has begun."""
        async with self._reloading:
            if self._draining:
                return False  # a listener opened now would never be drained
            self.standing.reloading()
            loaded = False
            try:
                loaded = await self._reload()
            finally:
                await self.standing.reloaded(loaded)
            return loaded

    async def _reload(self) -> bool:
        try:
            loaded = self.balancer.reload()
        except Exception as error:
            log.exception("the configuration could not be reloaded")
            self.balancer.notify(Event("config_refused", f"{type(error).__name__}: {error}"))
            return False
        if loaded:
            self._files.follow(self.balancer.config.files)
            await self.traffic.match()
            await self._follow_control()
        return loaded

    def request_stop(self) -> None:
        """Begin the end; called again, go on to the drain at once, and then end that."""
        if self.standing.leaving:
            self._skip.set()
        elif self._draining:
            self.traffic.hurry()
        self._draining = True
        self._stop.set()

    def request_upgrade(self) -> None:
        """Let a new process of the same command take this one's place; an event says what comes of it."""
        if why := self._why_no_upgrade():
            log.warning("SIGUSR2 is ignored: %s", why)
            return
        self._upgrading = asyncio.create_task(self._change_over())

    def _why_no_upgrade(self) -> str:
        if self.control is None:
            return "this is no process of `lb run`"
        if self._draining:
            return "the end has begun"
        if not self.started.is_set():
            return "the start is not over"
        return "an upgrade is under way" if self._upgrading is not None else ""

    async def _change_over(self) -> None:
        try:
            async with self._reloading:
                await self._upgrade.run(lambda: self._draining)
                if self._upgrade.done:
                    self._draining = True
                    self._stop.set()
        finally:
            self._upgrading = None

    async def _run(self) -> None:
        if self._predecessor is not None:
            await adopt(self.balancer, self._predecessor)
        if await self._accepts():
            await self._started()
        looking = asyncio.create_task(self._look()) if self._watching else None
        try:
            await self._stop.wait()
            self._draining = True
            if not self._upgrade.done:
                await self.standing.leave(self._skip)
        finally:
            for task in (looking, self._upgrading):
                if task is not None:
                    task.cancel()
            try:
                await self._drain_all()
            finally:
                if self.control is not None:
                    await self.control.close()

    async def _accepts(self) -> bool:
        """Accept connections; False where the end is asked for first, as of workers that do not get to serve."""
        starting, ending = asyncio.create_task(self.traffic.start()), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
            if self.crew is None or starting.done():
                await starting  # listeners of our own take no time
            return starting.done()
        finally:
            starting.cancel()
            ending.cancel()

    async def _started(self) -> None:
        """Connections are accepted: whoever waits for that may know."""
        self._files.follow(self.balancer.config.files)
        if self._predecessor is not None:
            await self._predecessor.succeeded()
        await self._follow_control()
        gc.collect()
        await self.standing.ready()
        gc.freeze()  # what lives from here to the end is never scanned again: 23 ms pauses less
        self.started.set()

    async def _follow_control(self) -> None:
        if self.control is not None and not self._draining:
            await self.control.follow(self.balancer.config.control)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._files.look():
                await self.reload()
            elif not self.traffic.matched:
                await self.traffic.match()  # somebody applied a configuration without us

    async def _drain_all(self) -> None:
        self._draining = True
        self.balancer.notify(Event("shutdown", f"draining, for at most {self._grace:g} s; a second signal ends it"))
        await asyncio.gather(self.traffic.drain(), *self._tasks)

    def _fail(self, why: str) -> None:
        """There is nothing left to serve with: end, with a status that says so."""
        log.error("%s", why)
        self._status = 1
        self.request_stop()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Own the process's signals while serving; only the main thread can."""
        handlers = {
            "SIGTERM": self.request_stop,
            "SIGINT": self.request_stop,
            "SIGHUP": self._reload_soon,
            "SIGUSR1": self._reopen_logs,
            "SIGUSR2": self.request_upgrade,
            "SIGRTMIN": self._restart_workers,
        }
        numbers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
        if not self._own_signals or sys.platform == "win32":
            numbers = {}
        loop = asyncio.get_running_loop()
        for number, handler in numbers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _reload_soon(self) -> None:
        task = asyncio.create_task(self._reload_now())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_now(self) -> None:
        await self.reload()

    def _reopen_logs(self) -> None:
        self.balancer.notify(Event("reopen_logs", "SIGUSR1"))
        if self.crew is not None:
            self.crew.reopen_logs()

    def _restart_workers(self) -> None:
        try:
            if self.crew is None:
                raise LbError("this is one process without workers: send SIGUSR2, or restart it")
            self.crew.restart()
        except LbError as error:
            self.balancer.notify(Event("workers_restart_failed", str(error)))


async def serve(
    balancer: LoadBalancer,
    *,
    stop: asyncio.Event | None = None,
    drain: float = DRAIN,
    watch: bool = True,
    signals: bool = True,
    control: bool = False,
    nursery: Nursery | None = None,
    predecessor: Predecessor | None = None,
) -> int:
    """Serve a balancer in the running loop until `stop` is set or a signal comes; returns the exit status."""
    server = Server(
        balancer, drain=drain, watch=watch, signals=signals, control=control, nursery=nursery, predecessor=predecessor
    )
    return await server.serve(stop)


def run(balancer: LoadBalancer, *, drain: float = DRAIN, watch: bool = True) -> int:
    """Serve a balancer in a loop of its own; returns the exit status."""
    predecessor = Predecessor.find()
    nursery = nursery_for(balancer, predecessor)
    server = partial(serve, drain=drain, watch=watch, control=True, nursery=nursery, predecessor=predecessor)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(server(balancer))


def nursery_for(balancer: LoadBalancer, predecessor: Predecessor | None = None) -> Nursery | None:
    """What workers are forked from, where the configuration asks for several; to be made before any loop and thread.

    What a predecessor hands over is the control process's. Raises StartError where it is too late to fork.
    """
    if wanted_workers(balancer.config) == 1:
        return None
    memory = balancer.sharing.memory
    assert memory is not None, "a configuration with workers has shared memory"
    todo = partial(work, memory=memory.descriptor, plugins=balancer.plugins, resolver=balancer.resolver)

    def let_go() -> None:
        balancer.let_go()
        if predecessor is not None:
            predecessor.let_go()

    return Nursery(todo, let_go)


__all__ = ["DRAIN", "Server", "loop_factory", "nursery_for", "raise_file_limit", "run", "serve"]
