"""Serve a balancer: listeners, signals, reload, and an orderly end.

    start      raise the file limit, open every socket (a taken port ends it here), enter the plugins' lifespans, accept
    run        once a second look at the configuration files; a change, or SIGHUP, reloads
    reload     the balancer swaps its routes; listeners that are new are opened, those that are gone are drained, the
               others keep their sockets and connections
    leave      SIGTERM or SIGINT: say `not ready`, and go on accepting for `shutdown_delay`; a second signal skips that
    drain      stop accepting, let connections finish their exchange, cut what is left after the
               grace; another signal cuts at once
    end        leave the lifespans in reverse; exit status 0

SIGUSR1 opens the log files again, for logrotate.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lb_core.control.asks import Asks
from lb_core.control.listener import ControlSocket
from lb_core.engine.admission import ceiling
from lb_core.environment import process_environment
from lb_core.errors import StartError
from lb_core.events import Event
from lb_core.open_listener import OpenListener
from lb_core.standing import Standing
from lb_core.units import counted
from lb_core.watch import FileWatch

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer
    from lb_core.config import ListenerConfig

log = logging.getLogger("lb.server")

DRAIN = 30.0
LOOK_EVERY = 1.0
NO_LIMIT = float("inf")

Address = tuple[str, int, str]


class Server:
    """A balancer being served.

    `drain` is the grace at the end, in seconds. Without `watch` its files are not looked at; without `signals` the
    process's signals stay the caller's; with `control` commands reach it over the socket that the configuration names.
    """

    def __init__(
        self,
        balancer: LoadBalancer,
        *,
        drain: float = DRAIN,
        watch: bool = True,
        signals: bool = True,
        control: bool = False,
    ) -> None:
        self.balancer = balancer
        environ = process_environment()
        self.control = ControlSocket(Asks(balancer, lambda: self.urls), environ) if control else None
        self.standing = Standing(balancer, environ if control else {})
        self._grace = drain
        self._watching = watch
        self._own_signals = signals and threading.current_thread() is threading.main_thread()
        self._files = FileWatch()
        self._listeners: dict[Address, OpenListener] = {}
        self._leaving: dict[asyncio.Task[None], OpenListener] = {}
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._skip = asyncio.Event()
        self._stop = asyncio.Event()
        self.started = asyncio.Event()

    @property
    def urls(self) -> list[str]:
        """Where the balancer can be reached from this machine."""
        return [found for opened in self._listeners.values() for found in opened.urls]

    async def serve(self, stop: asyncio.Event | None = None) -> int:
        """Serve until `stop` is set or a signal comes; returns the exit status. Raises StartError."""
        self._stop = stop or self._stop
        self.balancer.engine.max_connections = ceiling(raise_file_limit())
        try:
            for listener in self.balancer.config.listeners:
                self._add(listener)
            await self.standing.open()
            async with self.balancer.lifespan(self.balancer):
                with self._signals():
                    await self._run()
        finally:
            for opened in self._listeners.values():
                opened.close()
            await self.standing.close()
        return 0

    async def reload(self) -> bool:
        """Read the configuration again; a bad one is refused and changes nothing, as any is once the end has begun."""
        async with self._reloading:
            if self._draining:
                return False  # a listener opened now would never be drained
            self.standing.reloading()
            try:
                return await self._reload()
            finally:
                await self.standing.reloaded()

    async def _reload(self) -> bool:
        try:
            loaded = self.balancer.reload()
        except Exception as error:
            log.exception("the configuration could not be reloaded")
            self.balancer.notify(Event("config_refused", f"{type(error).__name__}: {error}"))
            return False
        if loaded:
            self._files.follow(self.balancer.config.files)
            await self._match_listeners()
            await self._follow_control()
        return loaded

    def request_stop(self) -> None:
        """Begin the end; called again, go on to the drain at once, and then end that."""
        if self.standing.leaving:
            self._skip.set()
        elif self._draining:
            for opened in (*self._listeners.values(), *self._leaving.values()):
                opened.hurry()
        self._draining = True
        self._stop.set()

    async def _run(self) -> None:
        for opened in self._listeners.values():
            await self._accept(opened)
        self._files.follow(self.balancer.config.files)
        await self._follow_control()
        gc.collect()
        self.standing.ready()
        gc.freeze()  # what lives from here to the end is never scanned again: 23 ms pauses less
        self.started.set()
        looking = asyncio.create_task(self._look()) if self._watching else None
        try:
            await self._stop.wait()
            self._draining = True
            await self.standing.leave(self._skip)
        finally:
            if looking is not None:
                looking.cancel()
            try:
                await self._drain_all()
            finally:
                if self.control is not None:
                    await self.control.close()

    async def _follow_control(self) -> None:
        if self.control is not None and not self._draining:
            await self.control.follow(self.balancer.config.control)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._files.look():
                await self.reload()
            elif set(self._listeners) != {_address(listener) for listener in self.balancer.config.listeners}:
                await self._match_listeners()  # somebody applied a configuration without us

    def _add(self, listener: ListenerConfig) -> OpenListener:
        opened = self._listeners[_address(listener)] = OpenListener(self.balancer, listener)
        return opened

    async def _accept(self, opened: OpenListener) -> None:
        await opened.accept()
        name = opened.settings.listener.name
        message = f"{name} listens on {', '.join(opened.urls)}"
        self.balancer.notify(Event("listener_open", message, details={"listener": name, "urls": opened.urls}))

    async def _match_listeners(self) -> None:
        """Open what is new, drain what is gone; what stays takes its new settings for new connections."""
        wanted = {_address(listener): listener for listener in self.balancer.config.listeners}
        for address in [address for address in self._listeners if address not in wanted]:
            gone = self._listeners.pop(address)
            gone.stop_accepting()
            task = asyncio.create_task(self._drain_one(gone))
            self._leaving[task] = gone
            task.add_done_callback(self._leaving.pop)
        await asyncio.sleep(0.01)  # uvloop closes sockets on its next turn; a new listener may want the same port
        if self._draining:
            return  # the end has begun meanwhile, and closed what is here
        for address, listener in wanted.items():
            if address in self._listeners:
                self._listeners[address].use(listener)
                continue
            try:
                await self._accept(self._add(listener))
            except StartError as error:
                self.balancer.notify(Event("listener_failed", str(error)))

    async def _drain_one(self, opened: OpenListener) -> None:
        begin = time.monotonic()
        cut = await opened.drain(self._grace)
        if cut:
            name = opened.settings.listener.name
            log.warning("listener %s: cut %s after %.1f s", name, counted(cut, "connection"), time.monotonic() - begin)

    async def _drain_all(self) -> None:
        self._draining = True
        self.balancer.notify(Event("shutdown", f"draining, for at most {self._grace:g} s; a second signal ends it"))
        drains = [asyncio.create_task(self._drain_one(opened)) for opened in self._listeners.values()]
        await asyncio.gather(*drains, *self._leaving, *self._tasks)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Own the process's signals while serving; only the main thread can."""
        handlers = {
            "SIGTERM": self.request_stop,
            "SIGINT": self.request_stop,
            "SIGHUP": self._reload_soon,
            "SIGUSR1": self._reopen_logs,
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


async def serve(
    balancer: LoadBalancer,
    *,
    stop: asyncio.Event | None = None,
    drain: float = DRAIN,
    watch: bool = True,
    signals: bool = True,
    control: bool = False,
) -> int:
    """Serve a balancer in the running loop until `stop` is set or a signal comes; returns the exit status."""
    return await Server(balancer, drain=drain, watch=watch, signals=signals, control=control).serve(stop)


def run(balancer: LoadBalancer, *, drain: float = DRAIN, watch: bool = True) -> int:
    """Serve a balancer in a loop of its own; returns the exit status."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(serve(balancer, drain=drain, watch=watch, control=True))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's loop, or asyncio's on platforms without it."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def raise_file_limit() -> float:
    """Allow as many open files as the system lets us, since every connection is one; returns how many that are."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return NO_LIMIT if hard == resource.RLIM_INFINITY else hard
    return NO_LIMIT


def _address(listener: ListenerConfig) -> Address:
    return listener.host, listener.port, listener.path


__all__ = ["DRAIN", "Server", "loop_factory", "raise_file_limit", "run", "serve"]
