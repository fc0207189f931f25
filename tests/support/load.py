"""An exact load: so many requests over so many connections, each accounted for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.support.client import Client
from tests.support.wire import Cut, request


class Load:
    """GETs over kept connections until `stop`, or until `count` have been answered.

    `answers` counts statuses; `by` the X-Backend of those; `lost` holds what happened to requests that got no whole
    answer. A connection whose answer says `Connection: close` is opened again unless `reconnect` is off.
    """

    def __init__(
        self, port: int, *, connections: int = 32, count: int = 0, reconnect: bool = True, pause: float = 0.0
    ) -> None:
        self.port = port
        self.answers: Counter[int] = Counter()
        self.by: Counter[bytes] = Counter()
        self.lost: list[str] = []
        self.closed = 0
        self._connections = connections
        self._count = count
        self._sent = 0
        self._reconnect = reconnect
        self._pause = pause
        self._stopped = False

    @property
    def total(self) -> int:
        """Requests answered."""
        return sum(self.answers.values())

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True

    async def run(self, at_half: Callable[[], Awaitable[None]] | None = None) -> None:
        """Send everything; `at_half` is called when half of `count` has been sent."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._connections):
                tasks.create_task(self._connection())
            if at_half is not None:
                while self._sent < self._count / 2:
                    await asyncio.sleep(0.001)
                await at_half()

    def _more(self) -> bool:
        return not self._stopped and (not self._count or self._sent < self._count)

    async def _connection(self) -> None:
        while self._more():
            async with await Client.connect(self.port) as client:
                while self._more():
                    self._sent += 1
                    try:
                        answer = await client.ask(request(f"/{self._sent}"), within=10)
                    except (Cut, ConnectionError, TimeoutError) as error:
                        self.lost.append(f"{type(error).__name__} {error}")
                        break
                    self.answers[answer.status] += 1
                    self.by[answer.all("x-backend")[0] if "x-backend" in answer else b""] += 1
                    if answer.all("connection") == [b"close"]:
                        self.closed += 1
                        break
                    await asyncio.sleep(self._pause)
            if not self._reconnect:
                break
