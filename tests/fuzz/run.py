"""The fuzzer: `python -m tests.fuzz.run --count 20000 [--seed N] [--replay INDEX]`.

Inputs run concurrently in lanes. The first broken invariant ends the run: its input is run again by itself, made
smaller, and printed so that it can be pasted into a test. Exit status 1 then.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, TextIO

import uvloop

from tests.fuzz.invariants import check
from tests.fuzz.lanes import Lane
from tests.fuzz.mutate import REQUEST, VARIANTS, Input, make
from tests.fuzz.outcome import Outcome, Violation
from tests.fuzz.seeds import GOOD_REQUESTS, corpus
from tests.fuzz.twins import compare, twin_of

LANES_EACH = 3
"""Lanes for each way the balancer is set up."""
DEADLINE = 30.0
"""Seconds within which one input must be done, whatever happens; its own waits end after four."""
SMALLER_MOST = 400
"""Attempts at making an input smaller."""


@dataclass(slots=True)
class Finding:
    """An input that broke an invariant."""

    given: Input
    violations: list[Violation]
    smaller: Input | None = None
    alone: bool = True
    """Whether it does so when it runs by itself."""


@dataclass(slots=True)
class Report:
    """What a run did."""

    seed: int
    done: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    finding: Finding | None = None

    @property
    def line(self) -> str:
        """The figures in one line."""
        rate = self.done / self.seconds if self.seconds else 0.0
        counts = ", ".join(
            f"{self.counts[name]:,} {name}" for name in ("requests forwarded", "refused", "cut", "twins")
        )
        return f"{self.done:,} inputs in {self.seconds:.1f} s ({rate:,.0f}/s): {counts}"


class Complaints(logging.Handler):
    """What must not be heard while inputs run: log lines at error level, and exceptions that reach the loop."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[Violation] = []

    def emit(self, record: logging.LogRecord) -> None:
        """An error was logged."""
        self.heard.append(Violation("error-log", self.format(record)))

    def handle_loop(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """An exception reached the loop's handler."""
        self.heard.append(Violation("loop-exception", f"{context.get('message')}: {context.get('exception')!r}"))

    def take(self) -> list[Violation]:
        """What was heard, once."""
        heard, self.heard = self.heard, []
        return heard


@asynccontextmanager
async def listening_for_complaints() -> AsyncIterator[Complaints]:
    """Hear every complaint of this loop and of every logger."""
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(complaints.handle_loop)
    try:
        yield complaints
    finally:
        loop.set_exception_handler(None)
        logging.getLogger().removeHandler(complaints)


async def attempt(lane: Lane, given: Input) -> tuple[Outcome | None, list[Violation]]:
    """Run one input, and its twin where it has one, and judge."""
    try:
        async with asyncio.timeout(DEADLINE):
            outcome = await lane.run(given)
            found = check(given, outcome, lane.backend_port)
            twin = twin_of(given)
            if twin is not None and not found:
                other = await lane.run(twin)
                found = check(twin, other, lane.backend_port) or compare(given, outcome, other)
    except TimeoutError:
        return None, [Violation("hang", f"not done within {DEADLINE:g} s")]
    except ConnectionError as error:
        return None, [Violation("hang", f"the balancer accepts no connection: {error!r}")]
    return outcome, found


async def alone(given: Input) -> list[Violation]:
    """What an input breaks in a balancer of its own."""
    async with listening_for_complaints() as complaints:
        lane = Lane(given.variant)
        await lane.start()
        try:
            _, found = await attempt(lane, given)
        finally:
            await lane.stop()
        return found + complaints.take()


async def smaller(given: Input, invariants: set[str]) -> Input:
    """The smallest input found that still breaks one of these invariants: first without cuts, then by halves."""
    attempts = 0

    async def still(candidate: Input) -> bool:
        nonlocal attempts
        attempts += 1
        return bool({each.invariant for each in await alone(candidate)} & invariants)

    given = replace(given, good=False) if await still(replace(given, good=False)) else given
    for simple in (replace(given, cuts=()), replace(given, end="stay"), replace(given, variant="plain")):
        if await still(replace(simple, cuts=given.cuts if simple.cuts else ())):
            given = simple
    size = len(given.data) // 2
    while size and attempts < SMALLER_MOST:
        at, shrunk = 0, False
        while at < len(given.data) and attempts < SMALLER_MOST:
            cuts = tuple(cut if cut <= at else max(at, cut - size) for cut in given.cuts)
            candidate = replace(given, data=given.data[:at] + given.data[at + size :], cuts=cuts)
            if await still(candidate):
                given, shrunk = candidate, True
            else:
                at += size
        if not shrunk or size == 1:
            size //= 2
    return given


class Run:
    """Many inputs over many lanes."""

    def __init__(self, seed: int, count: int, *, first: int = 0, progress: TextIO | None = None) -> None:
        self.report = Report(seed)
        self._corpus = corpus()
        self._count = count
        self._indices = {
            variant: iter(range(first + number, first + count, len(VARIANTS)))
            for number, variant in enumerate(VARIANTS)
        }
        self._progress = progress
        self._suspects: dict[Lane, Input] = {}

    def input(self, index: int) -> Input:
        """The input of an index."""
        return make(self.report.seed, index, self._corpus, GOOD_REQUESTS)

    async def go(self) -> Report:
        """Run them all, or up to the first finding."""
        began = monotonic()
        async with listening_for_complaints() as complaints:
            lanes = [Lane(variant) for variant in VARIANTS for _ in range(LANES_EACH)]
            await asyncio.gather(*(lane.start() for lane in lanes))
            showing = asyncio.create_task(self._show(began))
            try:
                await asyncio.gather(*(self._work(lane, self._indices[lane.variant], complaints) for lane in lanes))
            finally:
                showing.cancel()
                await asyncio.gather(*(lane.stop() for lane in lanes))
        self.report.seconds = monotonic() - began
        if self.report.finding is not None:
            await self._explain(self.report.finding)
        return self.report

    async def _work(self, lane: Lane, indices: Iterator[int], complaints: Complaints) -> None:
        for index in indices:
            if self.report.finding is not None:
                return
            given = self._suspects[lane] = self.input(index)
            outcome, found = await attempt(lane, given)
            found += complaints.take()
            if found and self.report.finding is None:
                self.report.finding = Finding(given, found)
                return
            if outcome is not None:
                self._count_outcome(given, outcome)

    def _count_outcome(self, given: Input, outcome: Outcome) -> None:
        counts = self.report.counts
        self.report.done += 1
        counts["requests forwarded"] += len(outcome.seen)
        if given.direction == REQUEST:
            counts["refused"] += b"HTTP/1.1 4" in outcome.received
        else:
            counts["refused"] += outcome.received.startswith(b"HTTP/1.1 502")
            counts["cut"] += outcome.ended != "open" and not outcome.received.startswith(b"HTTP/1.1 502")
        counts["twins"] += twin_of(given) is not None

    async def _explain(self, finding: Finding) -> None:
        """Run the suspects by themselves, the one it was seen with first, and make the guilty one smaller."""
        for given in (finding.given, *self._suspects.values()):
            found = await alone(given)
            if found:
                finding.given, finding.violations = given, found
                finding.smaller = await smaller(given, {each.invariant for each in found})
                return
        finding.alone = False

    async def _show(self, began: float) -> None:
        if self._progress is None:
            return
        terminal = self._progress.isatty()
        while True:
            await asyncio.sleep(1 if terminal else 10)
            self.report.seconds = monotonic() - began
            text = f"{self.report.done * 100 // max(self._count, 1)} %: {self.report.line}"
            print(
                f"\r\x1b[K{text}" if terminal else text, end="" if terminal else "\n", file=self._progress, flush=True
            )


def fuzz(seed: int, count: int, *, progress: TextIO | None = None) -> Report:
    """Run `count` inputs of a seed in a loop of their own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Run(seed, count, progress=progress).go())


def describe(finding: Finding, seed: int) -> str:
    """A finding for people: what, how to see it again, the bytes, and fewer of them."""
    lines = [f"finding: seed {seed}, index {finding.given.index}"]
    lines += [f"  broken: {each.invariant}: {each.detail}" for each in finding.violations]
    lines += [f"  again:  python -m tests.fuzz.run --seed {seed} --replay {finding.given.index}"]
    lines += [f"  input:  {finding.given!r}"]
    if finding.smaller is not None:
        lines.append(f"  smaller ({len(finding.smaller.data)} bytes): {finding.smaller!r}")
    if not finding.alone:
        lines.append("  by itself this input breaks nothing: it takes what ran before it in its lane, or beside it")
    return "\n".join(lines)


def replay(seed: int, index: int) -> int:
    """Print one input, run it by itself and print what came of it."""
    given = Run(seed, 0).input(index)
    print(f"{given!r}\n")
    for number, piece in enumerate(given.pieces):
        print(f"  write {number}: {piece!r}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome, found = runner.run(_replayed(given))
    if outcome is not None:
        for seen in outcome.seen:
            print(f"  backend, connection {seen.connection}: {seen.message}")
        print(f"  client ({outcome.ended}): {outcome.received!r}")
    for each in found:
        print(f"  broken: {each.invariant}: {each.detail}")
    print("nothing broken" if not found else "")
    return 1 if found else 0


async def _replayed(given: Input) -> tuple[Outcome | None, list[Violation]]:
    async with listening_for_complaints() as complaints:
        lane = Lane(given.variant)
        await lane.start()
        try:
            outcome, found = await attempt(lane, given)
        finally:
            await lane.stop()
        return outcome, found + complaints.take()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description="Fuzz a balancer over real sockets.")
    parser.add_argument("--count", type=int, default=20_000, help="inputs to run (default 20000)")
    parser.add_argument("--seed", type=int, help="the integer everything follows from (default: random, printed)")
    parser.add_argument(
        "--replay", type=int, metavar="INDEX", help="run this one input of the seed and print all of it"
    )
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 32)
    if given.replay is not None:
        return replay(seed, given.replay)
    print(f"seed {seed}", flush=True)
    report = fuzz(seed, given.count, progress=sys.stdout)
    print(f"\r\x1b[K{report.line}" if sys.stdout.isatty() else report.line)
    if report.finding is not None:
        print(describe(report.finding, seed))
        return 1
    print("0 findings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
