"""The soak: a million mixed requests through `lb run`, and what its process holds before and after.

    python -m tests.soak.run [--requests N] [--warm-up N] [--seed N] [--trace]

Warmed up means: every kind of request has been seen, and whatever is remembered of random values (hosts, addresses) is
full. What memory, descriptors and threads are then must be what they are at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from tests.soak.load import Load
from tests.soak.mixture import MIXTURE, RANDOM
from tests.soak.setting import Setting, setting
from tests.soak.stopped import Stopped, stopped_readers, stopped_uploads
from tests.support.slow import raise_file_limit

if TYPE_CHECKING:
    from tests.soak.memory import Footprint

SETTLE = 5.5
"""Seconds until idle connections to backends are closed, lines are written and lingering clients are gone."""
MOST = 4096


@dataclass(frozen=True)
class Plan:
    """How much of what: the last `fill` requests of warm-up and soak are random values, and fill what is remembered."""

    requests: int = 1_000_000
    warm_up: int = 150_000
    fill: int = 60_000
    reload_each: int = 20_000
    stopped: bool = True
    most: int = MOST


@dataclass
class Report:
    """What a soak found; memory in kB."""

    requests: int
    seconds: float
    reloads: int
    fresh: Footprint
    warm: Footprint
    end: Footprint
    wrong: list[str]
    complaints: list[str]
    most: int = MOST
    stopped: list[Stopped] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def growth(self) -> int:
        """How much more memory is its own than when it was warm."""
        return self.end.own - self.warm.own

    @property
    def failures(self) -> list[str]:
        """Everything that is not as it must be."""
        found = [f"{len(self.wrong)} wrong: {text}" for text in self.wrong[:5]]
        found += [f"standard error: {line.rstrip()}" for line in self.complaints[:5]]
        if self.growth > self.most:
            found.append(f"{self.growth} kB more than when it was warm, at most {self.most} are allowed")
        if self.end.descriptors > self.warm.descriptors:
            found.append(f"{self.end.descriptors} descriptors, {self.warm.descriptors} when it was warm")
        if self.end.threads > self.warm.threads:
            found.append(f"{self.end.threads} threads, {self.warm.threads} when it was warm")
        return found + [failure for each in self.stopped for failure in each.failures]

    def __str__(self) -> str:
        lines = [
            f"{self.requests:,} requests in {self.seconds:.0f} s ({self.requests / self.seconds:,.0f}/s),"
            f" {self.reloads} reloads, {len(self.wrong)} wrong, {len(self.complaints)} complaints",
            f"fresh  {self.fresh}",
            f"warm   {self.warm}",
            f"end    {self.end}",
            f"growth {self.growth / 1024:.2f} MB (at most {self.most / 1024:g})",
            *map(str, self.stopped),
        ]
        return "\n".join(lines + [f"FAIL {failure}" for failure in self.failures])


class Soak:
    """One run against one balancer."""

    def __init__(self, balancer: Setting, *, seed: int) -> None:
        self.balancer = balancer
        self.load = Load(balancer.port, balancer.announced, seed=seed)
        self._what = ""

    async def run(self, plan: Plan) -> Report:
        """Warm up, send, and compare."""
        balancer, load, fill = self.balancer, self.load, plan.fill
        fresh = balancer.now()
        print(f"fresh  {fresh}", flush=True)
        with self._showing("warming up"):
            await load.send(plan.warm_up - fill, MIXTURE, now_and_then=self._now_and_then, each=plan.reload_each)
            await load.send(fill, RANDOM, now_and_then=balancer.tidy, each=5000)
        warm = await self._settled()
        if balancer.traced:
            balancer.trace()
        print(f"warm   {warm}", flush=True)
        before, began = load.requests, time.monotonic()
        with self._showing("soaking"):
            await load.send(plan.requests - fill, MIXTURE, now_and_then=self._now_and_then, each=plan.reload_each)
            await load.send(fill, RANDOM, now_and_then=balancer.tidy, each=5000)
        seconds = time.monotonic() - began
        end = await self._settled()
        if balancer.traced:
            print(balancer.trace())
        report = Report(
            load.requests - before,
            seconds,
            balancer.reloads,
            fresh,
            warm,
            end,
            load.wrong,
            balancer.complaints,
            plan.most,
        )
        report.kinds = dict(load.kinds)
        if plan.stopped:
            report.stopped = [await stopped_readers(balancer), await stopped_uploads(balancer)]
            report.complaints = balancer.complaints
        return report

    def _now_and_then(self) -> None:
        self.balancer.reload()
        self.balancer.tidy()

    async def _settled(self) -> Footprint:
        await asyncio.sleep(SETTLE)
        return self.balancer.now()

    @contextmanager
    def _showing(self, what: str) -> Iterator[None]:
        """Show progress: each second on a terminal, each ten seconds elsewhere."""
        task = asyncio.get_running_loop().create_task(self._show(what))
        try:
            yield
        finally:
            task.cancel()
            if sys.stdout.isatty():
                print()

    async def _show(self, what: str) -> None:
        live = sys.stdout.isatty()
        began, before = time.monotonic(), self.load.requests
        while True:
            await asyncio.sleep(1 if live else 10)
            done = self.load.requests
            rate = (done - before) / (time.monotonic() - began)
            line = (
                f"{what}: {done:,} requests, {rate:,.0f}/s, {self.balancer.now().own / 1024:.1f} MB, "
                f"{self.balancer.reloads} reloads, {len(self.load.wrong)} wrong"
            )
            print(f"\r{line:<100}" if live else line, end="" if live else "\n", flush=True)


async def soak(folder: Path, plan: Plan, *, seed: int = 1, traced: bool = False) -> Report:
    """Run a soak with its processes in a folder."""
    raise_file_limit()
    with setting(folder, traced=traced) as balancer:
        return await Soak(balancer, seed=seed).run(plan)


def main() -> int:
    """Run, print, and return 1 when anything is not as it must be."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=Plan.requests)
    parser.add_argument("--warm-up", type=int, default=Plan.warm_up)
    parser.add_argument("--fill", type=int, default=Plan.fill, help="requests of random values at the end of either")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-stopped", action="store_true", help="leave out clients and backends that stop reading")
    parser.add_argument("--trace", action="store_true", help="show what was allocated and stayed; slow, no figures")
    options = parser.parse_args()
    plan = Plan(options.requests, options.warm_up, min(options.fill, options.warm_up), stopped=not options.no_stopped)
    with tempfile.TemporaryDirectory(prefix="lb-soak-") as folder:
        report = uvloop.run(soak(Path(folder), plan, seed=options.seed, traced=options.trace))
    print(report)
    return 1 if report.failures and not options.trace else 0


if __name__ == "__main__":
    raise SystemExit(main())
