"""Counts between nodes through a real Redis: the sum stays within the limit, and Redis may come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.sharing import Memory, Sharing
from lb_core.sharing.counts_by_name import arrivals, gauge, windows
from lb_redis.exchange import Exchange
from lb_redis.link import Link
from lb_redis.settings import ClusterSettings
from lb_redis.testing import free_port

if TYPE_CHECKING:
    from lb_redis.testing import RedisServer

KEY = "client"


class Node:
    """What one node has: its part in the sharing, a link, and an exchange."""

    def __init__(self, url: str, nodes: int) -> None:
        self.sharing = Sharing(memory=Memory())
        self.sharing.clustered = True
        self.sharing.nodes = nodes
        self.reasons: list[str | None] = []
        self.slow: list[str | None] = []
        self.shares: list[tuple[float, float]] = []
        self.sharing.on_share.append(lambda: self.shares.append((time.monotonic(), self.sharing.share)))
        self.link = Link(ClusterSettings.model_validate({"redis": url}), tell=self.reasons.append)
        self.exchange = Exchange(self.sharing, self.link, tell=self.slow.append)
        self.counts: Any = None

    @property
    def share(self) -> float:
        return self.sharing.share


@asynccontextmanager
async def cluster(url: str, number: int, make: Callable[[Sharing], Any]) -> AsyncIterator[list[Node]]:
    nodes = [Node(url, number) for _ in range(number)]
    tasks = []
    for node in nodes:
        node.counts = make(node.sharing)
        node.counts.hold()
        tasks += [asyncio.create_task(node.link.keep()), asyncio.create_task(node.exchange.keep())]
    try:
        await until(lambda: all(node.link.joined and node.share == 1.0 for node in nodes))
        yield nodes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], object], within: float = 5.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


def count(node: Node, limit: int) -> bool:
    """A request against a limit by fixed windows of an hour: whether it passes."""
    index = int(time.time() // 3600)
    _, used, _ = node.counts.add(KEY, index)
    if used <= (limit if node.share == 1.0 else node.counts.allowed):
        return True
    node.counts.add(KEY, index, -1)
    return False


def hourly(limit: int) -> Callable[[Sharing], Any]:
    return lambda sharing: windows(sharing, "limit", most=1000, limit=limit, window=3600.0, sliding=False)


@pytest.mark.timed
async def test_the_sum_of_three_nodes_is_the_limit(redis: RedisServer) -> None:
    passed = [0, 0, 0]
    async with cluster(redis.url, 3, hourly(300)) as nodes:
        for step in range(600):
            for number, node in enumerate(nodes):
                if step % (1, 4, 13)[number] == 0:
                    passed[number] += count(node, 300)
            await asyncio.sleep(0.001)
        end = time.monotonic() + 4
        while sum(passed) < 300 and time.monotonic() < end:
            passed[0] += count(nodes[0], 300)
            await asyncio.sleep(0.005)
    assert 295 <= sum(passed) <= 306
    assert min(passed) > 0


async def test_redis_is_killed_and_comes_back_empty(redis: RedisServer) -> None:
    async with cluster(redis.url, 2, hourly(180)) as nodes:
        for _ in range(40):
            assert all(count(node, 180) for node in nodes)
        await asyncio.sleep(0.15)
        redis.kill()
        assert all(count(node, 180) for node in nodes)
        await until(lambda: all(node.share == 0.5 for node in nodes), within=0.5)
        for node in nodes:
            assert sum(count(node, 180) for _ in range(200)) == 90 - 41
        redis.start()
        await until(lambda: all(node.share == 1.0 for node in nodes), within=2.0)
        assert not any(count(node, 180) for node in nodes)
        assert [bool(reason) for reason in nodes[0].reasons] == [False, True, False]
        await asyncio.sleep(0.1)
        (total,) = {int(value) % 2**32 for field, value in hashed(redis).items() if not field.startswith("#")}
        assert total == 180


async def test_nodes_that_had_two_secrets_count_together_again(redis: RedisServer) -> None:
    async with cluster(redis.url, 2, hourly(100)) as nodes:
        assert all(count(node, 100) for node in nodes)
        await asyncio.sleep(0.1)
        secret = bytes(range(16))
        redis.command("EVAL", "redis.call('FLUSHALL') redis.call('SET', KEYS[1], ARGV[1])", "1", "{lb}:secret", secret)
        for node in nodes:
            node.exchange.agree(secret)
        passed = [0, 0]
        for _ in range(150):
            for number, node in enumerate(nodes):
                passed[number] += count(node, 100)
            await asyncio.sleep(0.002)
        assert [node.exchange.secret for node in nodes] == [secret, secret]
        assert 90 <= sum(passed) <= 106


@pytest.mark.timed
async def test_a_frozen_redis_is_noticed_at_once_and_told(redis: RedisServer) -> None:
    async with cluster(redis.url, 2, hourly(180)) as nodes:
        count(nodes[0], 180)
        await asyncio.sleep(0.1)
        redis.pause()
        count(nodes[0], 180)
        began = time.monotonic()
        await until(lambda: nodes[0].share == 0.5, within=1.0)
        assert nodes[0].shares[-1][0] - began < 0.3  # 50 ms for the next exchange, 50 ms without an answer
        redis.resume()
        await until(lambda: nodes[0].share == 1.0, within=2.0)
        assert nodes[0].slow == []  # once is nothing to be told
        assert nodes[1].share == 1.0  # it had nothing to say


@pytest.mark.timed
async def test_of_a_key_that_no_other_node_has_little_is_not_told(redis: RedisServer) -> None:
    async with cluster(redis.url, 2, hourly(1000)) as nodes:
        for _ in range(4):
            count(nodes[0], 1000)
        await asyncio.sleep(0.15)
        assert not redis.command("KEYS", "*:counts:*")
        count(nodes[0], 1000)
        await asyncio.sleep(0.15)
        assert redis.command("KEYS", "*:counts:*")
        for _ in range(5):
            count(nodes[1], 1000)
        await asyncio.sleep(0.15)
        assert nodes[1].counts.peek(KEY, int(time.time() // 3600))[1] >= 10


async def test_forgotten_scripts_are_sent_again(redis: RedisServer) -> None:
    async with cluster(redis.url, 2, hourly(180)) as nodes:
        count(nodes[0], 180)
        await asyncio.sleep(0.1)
        redis.command("SCRIPT", "FLUSH")
        count(nodes[0], 180)
        await asyncio.sleep(0.1)
        assert nodes[0].share == 1.0
        assert nodes[0].reasons == [None]


async def test_a_full_redis_is_as_good_as_none(redis: RedisServer) -> None:
    async with cluster(redis.url, 2, hourly(180)) as nodes:
        count(nodes[0], 180)
        await asyncio.sleep(0.1)
        redis.command("CONFIG", "SET", "maxmemory", "1")
        count(nodes[0], 180)
        await until(lambda: nodes[0].share == 0.5)
        assert "memory is full" in (nodes[0].reasons[1] or "")
        redis.command("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: nodes[0].share == 1.0, within=2.0)


async def test_what_a_node_has_reserved_is_given_back_when_it_ends(redis: RedisServer) -> None:
    async with cluster(redis.url, 2, hourly(100)) as nodes:
        for _ in range(3):
            for node in nodes:
                count(node, 100)
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        field = next(field for field in hashed(redis) if not field.startswith("#"))
        before = int(hashed(redis)[field]) % 2**32
        await nodes[1].exchange.farewell()
        after = int(hashed(redis)[field]) % 2**32
    assert before > 6
    assert 6 <= after < before


def hashed(redis: RedisServer) -> dict[str, str]:
    import redis as client

    with client.Redis(port=redis.port, protocol=2, decode_responses=True, encoding="latin-1") as connection:
        (name,) = connection.keys("*counts*")
        found: dict[str, str] = connection.hgetall(name)
    return found


@pytest.mark.timed
async def test_a_token_bucket_for_all_nodes(redis: RedisServer) -> None:
    """Ten tokens and a hundred a second: after two seconds of any demand 210 have passed, give or take some."""

    def make(sharing: Sharing) -> Any:
        counts = arrivals(sharing, "bucket", most=1000, limit=100, window=1.0)
        counts.burst = 10.0
        return counts

    passed = [0, 0, 0]
    async with cluster(redis.url, 3, make) as nodes:
        began = time.monotonic()
        while time.monotonic() < began + 2.0:
            for number, node in enumerate(nodes):
                for _ in range((3, 1, 1)[number]):
                    passed[number] += node.counts.take(KEY, time.monotonic(), 9 * 0.01 + 1e-6) > 0.0
            await asyncio.sleep(0.004)
        took = time.monotonic() - began
    assert sum(passed) == pytest.approx(10 + 100 * took, rel=0.08)
    assert min(passed) > 5


async def test_requests_under_way_in_all_nodes(redis: RedisServer) -> None:
    async with cluster(redis.url, 2, lambda sharing: gauge(sharing, "under way", limit=10)) as nodes:
        first, second = nodes
        for _ in range(6):
            assert first.counts.add(KEY) <= 10
        await asyncio.sleep(0.15)
        second.counts.add(KEY)
        await asyncio.sleep(0.15)
        began = 1
        for _ in range(40):
            if second.counts.add(KEY) <= 10:
                began += 1
            else:
                second.counts.add(KEY, -1)
            await asyncio.sleep(0.02)
        assert began == 4
        for _ in range(6):
            first.counts.add(KEY, -1)
        await until(lambda: second.counts.add(KEY, 0) == 4, within=3.0)


def test_the_clock_of_the_cluster_is_told() -> None:
    node = Node("redis://127.0.0.1:1", 2)
    node.exchange.sample(90.0, 0.001)
    assert node.sharing.offset == 90.0


async def test_in_a_redis_cluster_keys_are_divided(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    await asyncio.to_thread(wait_for_cluster, server)
    index = int(time.time() // 3600)
    async with cluster(f"redis+cluster://127.0.0.1:{server.port}", 2, hourly(180)) as nodes:
        for _ in range(2):
            for node in nodes:
                for number in range(100):
                    node.counts.add(f"client {number}", index)
            await asyncio.sleep(0.2)
        for node in nodes:
            assert all(node.counts.peek(f"client {number}", index)[1] >= 3 for number in range(100))
            assert node.share == 1.0
    assert len([key for key in server.command("KEYS", "*") if ":counts:" in key]) == 16


def wait_for_cluster(server: RedisServer) -> None:
    end = time.monotonic() + 10
    while "cluster_state:ok" not in str(server.command("CLUSTER", "INFO")):
        assert time.monotonic() < end
        time.sleep(0.02)
