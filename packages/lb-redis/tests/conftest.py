"""A redis-server for the tests that need one: without the program they are skipped, and fail where `CI=true`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from lb_core import Event, LoadBalancer, hookimpl
from lb_redis.cluster import RedisCluster
from lb_redis.testing import RedisServer, redis_program

PROGRAMS = {"redis-server": "redis-server", "redis-sentinel": "redis-sentinel", "redis-cli": "redis-tools"}

Start = Callable[..., RedisServer]


def need(program: str) -> None:
    """Skip the test where a program is missing, or fail in CI."""
    if redis_program(program) is None:
        message = f"{program} is missing: apt-get install {PROGRAMS[program]}"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A redis-server that holds nothing."""
    need("redis-server")
    with RedisServer() as server:
        yield server


@pytest.fixture
def start_redis() -> Iterator[Start]:
    """Start servers with these options; they end with the test."""
    need("redis-server")
    started: list[RedisServer] = []

    def start(*options: str, tls: bool = False, program: str = "redis-server", port: int = 0) -> RedisServer:
        need(program)
        server = RedisServer(*options, tls=tls, program=program, port=port)
        started.append(server)
        server.start()
        return server

    yield start
    for server in reversed(started):
        server.close()


class Node:
    """A balancer with a cluster, running in the test's own loop; `events` are those it has told."""

    def __init__(self, balancer: LoadBalancer) -> None:
        self.balancer = balancer
        self.events: list[Event] = []
        balancer.plugins.add(self, "listener")

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @property
    def cluster(self) -> RedisCluster:
        found = self.balancer.sharing.cluster
        assert isinstance(found, RedisCluster)
        return found

    def told(self, kind: str) -> list[Event]:
        """The events of this kind."""
        return [event for event in self.events if event.kind == kind]

    async def until(self, condition: Callable[[], object], within: float = 8.0) -> None:
        """Wait until a condition holds; fails with the events so far."""
        end = asyncio.get_running_loop().time() + within
        while not condition():
            assert asyncio.get_running_loop().time() < end, [str(event) for event in self.events]
            await asyncio.sleep(0.01)

    async def until_told(self, kind: str, count: int = 1) -> Event:
        """Wait for an event."""
        await self.until(lambda: len(self.told(kind)) >= count)
        return self.told(kind)[count - 1]


class Nodes:
    """Starts nodes that end with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self._ends: dict[Node, AsyncExitStack] = {}

    async def start(
        self,
        name: str,
        redis: str,
        /,
        *,
        joined: bool = True,
        prepare: Callable[[LoadBalancer], object] = lambda balancer: None,
        **cluster: object,
    ) -> Node:
        """A node of this name at this URL, with a route `a.example` and these keys of `cluster`."""
        file = self._folder / f"{name}.json"
        section = {"redis": redis, "node": name, **cluster}
        file.write_text(json.dumps({"cluster": section, "routes": {"a.example": ["127.0.0.1:9"]}}))
        node = Node(LoadBalancer.from_file(file))
        prepare(node.balancer)
        stack = self._ends[node] = await self._stack.enter_async_context(AsyncExitStack())
        await stack.enter_async_context(node.balancer.lifespan())
        await node.until(lambda: node.balancer.sharing.cluster is not None)
        if joined:
            await node.until_told("cluster_joined")
        return node

    async def stop(self, node: Node) -> None:
        """End a node cleanly."""
        await self._ends.pop(node).aclose()

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nodes]:
    """Starts nodes in the loop of the test; they beat faster than elsewhere."""
    monkeypatch.setattr(RedisCluster, "every", 0.1)
    found = Nodes(tmp_path)
    try:
        yield found
    finally:
        await found.close()
