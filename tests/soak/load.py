"""A load of mixed requests over several lanes at once, counted, and checked one by one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

from tests.soak.connection import Cut
from tests.soak.mixture import Kind, Lane, Wrong

WITHIN = 20.0
LANES = 24


class Load:
    """Sends until `requests` reaches what is wanted; `wrong` tells what did not go as it must."""

    def __init__(self, port: int, announced: int, *, seed: int, lanes: int = LANES) -> None:
        self.requests = 0
        self.kinds: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._random = Random(seed)
        self._lanes = [Lane(port, announced, seed + number) for number in range(lanes)]

    async def send(
        self, count: int, mixture: Mapping[Kind, int], *, now_and_then: Callable[[], None], each: int
    ) -> None:
        """So many more requests of that mixture; `now_and_then` is called after `each` of them."""
        end = self.requests + count
        kinds, weights = list(mixture), list(mixture.values())
        waiting: list[Kind] = []
        next_call = self.requests + each

        async def run(lane: Lane) -> None:
            nonlocal next_call
            while self.requests < end:
                if not waiting:
                    waiting.extend(self._random.choices(kinds, weights, k=1000))
                await self._one(lane, waiting.pop())
                if self.requests >= next_call:
                    next_call += each
                    now_and_then()
            lane.leave()

        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(run(lane))

    async def _one(self, lane: Lane, kind: Kind) -> None:
        name = getattr(kind, "__name__", "")
        timer = asyncio.get_running_loop().call_later(WITHIN, lane.leave)  # a wait ends as Cut
        try:
            done = await kind(lane)
            self.requests += done
            self.kinds[name] += done
        except (Wrong, Cut, OSError) as error:
            self.requests += 1
            lane.leave()
            self.wrong.append(f"{name}: {type(error).__name__} {error}")
        finally:
            timer.cancel()
