"""Pools that two workers use: what is ejected or drained is so for both, and limits and queues hold for their sum."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.test_features_on_workers import ask, one_each, replaced, routes, told
from tests.integration.worker_process import Crew, workers
from tests.support.backends import Backend, Request
from tests.support.balancing import until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import Cut, response

if TYPE_CHECKING:
    from tests.support.figures import Measured

BAD = response(b"bad", status=503)
AT_ONCE = 0.1
"""Seconds within which every worker has heard."""


class Service:
    """A backend's script that takes its time, or waits until it is let; it knows how many requests it has at once."""

    def __init__(self, seconds: float = 0.0, *, held: bool = False) -> None:
        self.seconds = seconds
        self.now = self.most = 0
        self.paths: list[str] = []
        self.times: list[float] = []
        self.places = asyncio.Semaphore(0 if held else 1 << 30)

    async def __call__(self, seen: Request) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.paths.append(seen.message.target.decode())
        self.times.append(time.monotonic())
        try:
            await asyncio.sleep(self.seconds)
            await self.places.acquire()
        finally:
            self.now -= 1
        seen.write(response(b"fine"))


@asynccontextmanager
async def limited(
    path: Path, service: Service, most: int, **route: Any
) -> AsyncIterator[tuple[Crew, tuple[Client, Client]]]:
    """Two workers before one backend with `max_connections`, and a connection to each."""
    async with Backend(service, name="one") as backend:
        options = routes(backend, queue=500, **route)
        options["shop.test"]["backends"] = {"one": {"url": backend.address, "max_connections": most}}
        options["*"] = {"use_backend_of": None} if False else {"backends": {"one": backend.address}}
        del options["*"]
        async with workers(path, backend, routes=options) as crew, one_each(crew) as clients:
            first, second = clients.values()
            yield crew, (first, second)
