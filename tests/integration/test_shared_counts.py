"""Limits that several processes share through memory: never over, exact in the end, and what a killed one leaves."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.sharing import Memory, Sharing
from tests.integration import counting_process
from tests.integration.counting_process import limits_over
from tests.support.repository import ROOT
from tests.support.uncovered import environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from lb_ratelimit.shared import Shared

PROCESSES = 3
ALGORITHMS = ("sliding_window", "fixed_window", "token_bucket", "concurrency")
LIMIT = 200


def long(seconds: int = 40_000) -> str:
    """A window that does not end while a test runs, and in which no token comes."""
    return f"{next(each for each in range(seconds, 2 * seconds) if each - time.time() % each > 600)}s"


class Counting:
    """A process with a seat."""

    def __init__(self, seat: int, process: asyncio.subprocess.Process) -> None:
        self.seat = seat
        self.process = process

    def tell(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def said(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), 30))

    async def do(self, **order: Any) -> Any:
        self.tell(**order)
        return await self.said()


class Node:
    """Processes that count, and the control process of theirs, which is this one."""

    def __init__(self, limits: Sequence[dict[str, Any]]) -> None:
        self.sharing = Sharing(memory=Memory())
        self.limits = limits
        self.shared: list[Shared] = limits_over(self.sharing, limits)
        self.processes: list[Counting] = []

    async def start(self, seat: int) -> Counting:
        memory = self.sharing.memory
        assert memory is not None
        said = {"descriptor": memory.descriptor, "areas": memory.areas, "seat": seat, "limits": self.limits}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(counting_process.__file__)),
            json.dumps(said),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(memory.descriptor,),
            env=environment(),
            cwd=ROOT,
        )
        started = Counting(seat, process)
        self.processes.append(started)
        assert await started.said() == "ready"
        return started

    async def seat(self) -> None:
        """Tell everybody who is there."""
        seats = [each.seat for each in self.processes]
        self.sharing.set_seats(tuple(seats))
        for each in self.processes:
            await each.do(seats=[0, *(other for other in seats if other != each.seat)])

    async def kill(self, victim: Counting) -> None:
        victim.process.kill()
        await victim.process.wait()
        self.processes.remove(victim)
        self.sharing.seat_gone(victim.seat)
        await self.seat()

    def remaining(self, limit: int, key: str) -> int:
        """How many more may pass, as the control process sees it."""
        return self.shared[limit].algorithm.remaining(key, time.monotonic())

    async def take(self, limit: int, keys: Sequence[str], tries: int) -> dict[str, int]:
        """All at once, and then one after the other, because two that want the last may both be refused."""
        at = time.monotonic() + 0.05
        for each in self.processes:
            each.tell(limit=limit, keys=keys, tries=tries, at=at)
        found = [await each.said() for each in self.processes]
        at_once = {key: sum(each[key] for each in found) for key in keys}
        assert max(at_once.values()) <= LIMIT, "never over"
        found += [await each.do(limit=limit, keys=keys, tries=LIMIT, at=0.0) for each in self.processes]
        return {key: sum(each[key] for each in found) for key in keys}


@asynccontextmanager
async def node(*algorithms: str) -> AsyncIterator[Node]:
    made = Node([{"requests": LIMIT, "window": long(), "algorithm": each} for each in algorithms])
    try:
        await asyncio.gather(*(made.start(seat) for seat in range(1, PROCESSES + 1)))
        await made.seat()
        yield made
    finally:
        for each in made.processes:
            each.process.kill()
            await each.process.wait()


async def test_all_at_once_pass_as_many_as_the_limit_says() -> None:
    async with node(*ALGORITHMS) as it:
        for number, algorithm in enumerate(ALGORITHMS):
            assert await it.take(number, ["one"], 2 * LIMIT) == {"one": LIMIT}, algorithm
            keys = [f"key {each}" for each in range(20)]
            random.shuffle(keys)
            assert await it.take(number, keys, LIMIT // 2) == dict.fromkeys(keys, LIMIT), algorithm
            assert len(it.shared[number].counts) == 21, algorithm


@pytest.mark.parametrize("busy", [0, 2])
async def test_what_a_killed_process_leaves(busy: int) -> None:
    async with node(*ALGORITHMS) as it:
        victim, *others = it.processes
        each = range(len(ALGORITHMS))
        for process, tries in ((victim, 100), *((other, 10) for other in others)):
            for number in each:
                assert await process.do(limit=number, keys=["one"], tries=tries, at=0.0) == {"one": tries}
        victim.tell(limit=busy, keys=["busy"], tries=1_000_000_000, at=0.0)
        while it.remaining(busy, "busy"):
            await asyncio.sleep(0.005)
        await it.kill(victim)

        assert it.remaining(busy, "busy") == 0
        assert await it.take(busy, ["busy"], 50) == {"busy": 0}
        kept = [LIMIT - 120, LIMIT - 120, LIMIT - 120, LIMIT - 20]
        assert [it.remaining(number, "one") for number in each] == kept, "what was under way has ended"
        assert [await it.take(number, ["one"], 50) for number in each] == [{"one": left} for left in kept]

        another = await it.start(victim.seat)
        await it.seat()
        for number in each:
            await others[0].do(give_back="one", limit=number)
            passed = await another.do(limit=number, keys=["one", "two"], tries=300, at=0.0)
            assert passed == {"one": 1, "two": LIMIT}
            assert await others[0].do(limit=number, keys=["one", "two"], tries=3, at=0.0) == {"one": 0, "two": 0}
