"""What is asked of Redis and not answered yet: each has its time, and all end with the link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lb_redis.failures import LostRedis

if TYPE_CHECKING:
    from collections.abc import Coroutine

LOOKS = 3
LOOK = 0.01
"""Seconds. A busy process finds the answer there when it finds that the time is over: it looks some more times."""


class Calls:
    """Those under way. No connection is opened by one of them after `end`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def within(self, seconds: float, call: Coroutine[Any, Any, Any]) -> Any:
        """What a call returns or raises; TimeoutError where it takes longer, LostRedis where it was ended."""
        task = asyncio.get_running_loop().create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        try:
            done, _ = await asyncio.wait([task], timeout=seconds)
            for _ in range(LOOKS):
                if done:
                    break
                done, _ = await asyncio.wait([task], timeout=LOOK)
            if not done:
                raise TimeoutError
            if task.cancelled():
                raise LostRedis("the link to Redis is being made anew")
            return task.result()
        finally:
            task.cancel()

    async def end(self) -> None:
        """Cancel all of them, and wait until none is left."""
        tasks = list(self._tasks)
        for task in tasks:
            if not task.cancelling():  # a second time would break off what closes its connection
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # somebody else was told, or has gone
