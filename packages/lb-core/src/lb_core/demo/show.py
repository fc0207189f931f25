"""Put the demo together: backends, balancer, traffic, and somebody who shows it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live

from lb_core.balancer import LoadBalancer
from lb_core.demo.figures import Figures, describe
from lb_core.demo.processes import BackendProcess, Fleet
from lb_core.demo.scene import DEFAULT_STRATEGY, OTHER_STRATEGY, Scene
from lb_core.demo.tour import RESTART, tour
from lb_core.demo.traffic import Traffic
from lb_core.demo.view import Picture, clock, status_line
from lb_core.plugins import Plugins
from lb_core.server import loop_factory, serve

if TYPE_CHECKING:
    from lb_core.events import Event

LATENCIES_MS = {"fast": 10.0, "middle": 40.0, "slow": 160.0}
RATE = 50.0
DRAIN = 3.0
ALONE_FOR = 20.0
RESTART_AFTER = 10.0
PICTURES_A_SECOND = 4
LINE_EVERY = 2.0


class Show:
    """The demo while it runs: `live` draws a picture, otherwise it prints lines and tries the three things itself."""

    def __init__(self, console: Console, *, live: bool, seconds: float, port: int) -> None:
        self.console = console
        self.live = live
        self.seconds = seconds
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.news: deque[tuple[float, str]] = deque(maxlen=50)
        self.figures = Figures(self.hear)
        self.traffic = Traffic("127.0.0.1", self.port, RATE)
        self.opened = asyncio.Event()
        self.stop = asyncio.Event()

    def hear(self, event: Event) -> None:
        """The balancer reports an event."""
        if event.kind == "listener_open":
            self.opened.set()
        self.tell(describe(event))

    def tell(self, line: str) -> None:
        """Something happened."""
        self.news.append((time.time(), line))
        if not self.live:
            self.say(line)

    def say(self, line: str) -> None:
        """Print one line with the time of day."""
        self.console.print(f"{clock(time.time())}  {line}", markup=False, highlight=False, soft_wrap=True)

    async def run(self) -> int:
        """Run the demo to its end; returns the exit status."""
        restart_after = RESTART_AFTER if self.live else min(RESTART_AFTER, self.seconds * RESTART)
        backends = [BackendProcess(name, latency) for name, latency in LATENCIES_MS.items()]
        with tempfile.TemporaryDirectory(prefix="lb-") as directory:
            async with Fleet(backends, self.tell, restart_after) as fleet:
                scene = Scene(Path(directory), self.port, backends)
                balancer = LoadBalancer.from_file(str(scene.path), plugins=Plugins.discover(extra=[self.figures]))
                if not self.live:
                    self._introduce(balancer, scene)
                await self._serve(balancer, fleet, scene)
        self._summary()
        return 0 if self.traffic.answered and not self.traffic.lost else 1

    async def _serve(self, balancer: LoadBalancer, fleet: Fleet, scene: Scene) -> None:
        """Traffic begins when the listener is open and ends before it closes: our leaving loses no request."""
        leave = asyncio.Event()
        serving = asyncio.create_task(serve(balancer, stop=leave, drain=DRAIN, signals=False))
        opened = asyncio.create_task(self.opened.wait())
        await asyncio.wait((serving, opened), return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        sending = asyncio.create_task(self.traffic.run())
        try:
            if not serving.done():
                await (self._draw if self.live else self._print)(balancer, fleet, scene)
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            leave.set()
            await serving

    async def _draw(self, balancer: LoadBalancer, fleet: Fleet, scene: Scene) -> None:
        with Live(self._picture(balancer, fleet, scene), console=self.console, auto_refresh=False, screen=True) as live:
            async for _ in self._every(1 / PICTURES_A_SECOND):
                live.update(self._picture(balancer, fleet, scene), refresh=True)

    async def _print(self, balancer: LoadBalancer, fleet: Fleet, scene: Scene) -> None:
        other = self._other_strategy(balancer)
        touring = asyncio.create_task(tour(fleet, scene, seconds=self.seconds, other_strategy=other, tell=self.say))
        try:
            async for _ in self._every(min(LINE_EVERY, self.seconds / 4)):
                self.say(status_line(self._picture(balancer, fleet, scene)))
        finally:
            touring.cancel()
            await asyncio.wait([touring])

    def _introduce(self, balancer: LoadBalancer, scene: Scene) -> None:
        self.say(f"balancer on {self.url}, configuration in {scene.path}")
        if self._other_strategy(balancer) == DEFAULT_STRATEGY:
            self.say("only the built-in strategy is installed; `pip install lb-strategies` brings others to switch to")

    async def _every(self, interval: float) -> AsyncIterator[None]:
        """Come back each `interval` seconds until the time is over or somebody stops us."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds if self.seconds else float("inf")
        while not self.stop.is_set() and (left := end - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), min(interval, left))
            yield

    def _picture(self, balancer: LoadBalancer, fleet: Fleet, scene: Scene) -> Picture:
        route = next(iter(balancer.routes.values()))
        return Picture(
            url=self.url,
            config=str(scene.path),
            strategy=route.config.strategy.name,
            rows=self.figures.rows(route.pool.backends),
            rate=self.figures.requests_per_second(),
            sent=self.traffic.sent,
            answered=self.traffic.answered,
            lost=self.traffic.lost,
            news=list(self.news),
            things=self._things(balancer, fleet, scene),
            footer="Ctrl+C ends the demo",
        )

    def _things(self, balancer: LoadBalancer, fleet: Fleet, scene: Scene) -> list[tuple[str, str]]:
        """What to try now: a thing that was done is offered the other way round."""
        route = next(iter(balancer.routes.values()))
        first, second = fleet.backends[0], fleet.backends[1]
        kill = f"kill {first.pid}" if first.pid else f"(a new process of {first.name} starts in a moment)"
        things = [(f"kill {first.name} and watch it leave; it comes back after {RESTART_AFTER:g} s", kill)]
        if route.pool.find(second.name).weight:
            things.append((f"drain {second.name}", scene.weight_command(second.name, 0)))
        else:
            things.append((f"give {second.name} requests again", scene.weight_command(second.name, 1)))
        other = self._other_strategy(balancer)
        if other == DEFAULT_STRATEGY:
            return [*things, ("install strategies to switch to, and start again", "pip install lb-strategies")]
        if route.config.strategy.name == other:
            other = DEFAULT_STRATEGY
        return [*things, (f"change the strategy to {other}", scene.strategy_command(other))]

    def _other_strategy(self, balancer: LoadBalancer) -> str:
        return OTHER_STRATEGY if OTHER_STRATEGY in balancer.plugins.strategies else DEFAULT_STRATEGY

    def _summary(self) -> None:
        traffic, totals = self.traffic, self.figures.totals
        shares = ", ".join(
            f"{name} {totals[name]} ({totals[name] / max(1, totals.total()):.0%})" for name in LATENCIES_MS
        )
        for line in (
            f"{traffic.sent} requests, {traffic.answered} answered, {traffic.lost} lost",
            f"answers by backend: {shares}",
            *(f"lost: {count} x {problem}" for problem, count in traffic.problems.most_common()),
        ):
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def run_demo(*, seconds: float | None = None, port: int = 0) -> int:
    """Run the demo; returns 0 only if every request was answered. `seconds` 0 runs until Ctrl+C."""
    console = Console()
    live = console.is_terminal and sys.stdin.isatty()
    duration = seconds if seconds is not None else 0.0 if live else ALONE_FOR
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_show(console, live=live, seconds=duration, port=port))


async def _show(console: Console, *, live: bool, seconds: float, port: int) -> int:
    show = Show(console, live=live, seconds=seconds, port=port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, show.stop.set)
    return await show.run()


def free_port(wanted: int = 8080) -> int:
    """The wanted port if nobody has it on 127.0.0.1, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    return wanted
