"""Redis is frozen, killed, emptied, full, a replica: the node says what is wrong, goes on, and heals."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from lb_redis.testing import RedisServer

if TYPE_CHECKING:
    from .conftest import Nodes, Start


async def test_killed_and_started_again_empty(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    two = await nodes.start("n2", redis.url)
    await one.until_told("node_joined")
    token = one.cluster.token
    begin = time.monotonic()
    redis.kill()
    await one.until_told("cluster_lost")
    assert time.monotonic() - begin < 1.5
    assert one.balancer.sharing.leads, "the lease still holds"
    assert one.balancer.sharing.nodes == 2, "the share of a limit is still one of two"
    redis.start()
    await one.until_told("cluster_joined", 2)
    await two.until_told("cluster_joined", 2)
    assert one.cluster.link.figures.losses == 1
    assert one.cluster.link.lost_seconds > 0
    await two.until(lambda: sorted(each.name for each in two.cluster.members() if each.state == "up") == ["n1", "n2"])
    leader = one if one.balancer.sharing.leads else two
    await leader.until(lambda: leader.cluster.token > token or leader is one)
    assert [one.balancer.sharing.leads, two.balancer.sharing.leads].count(True) == 1
    assert "with 1 other;" in one.told("cluster_joined")[1].message
    assert not one.told("node_left") + two.told("node_left"), "they could only not be heard of"
    assert [len(node.told("node_joined")) for node in (one, two)] == [1, 1]


async def test_emptied_while_it_runs(nodes: Nodes, redis: RedisServer) -> None:
    def secret() -> object:
        return redis.command("EVAL", "return redis.sha1hex(redis.call('GET', KEYS[1]) or '')", "1", "{lb}:secret")

    one = await nodes.start("n1", redis.url)
    two = await nodes.start("n2", redis.url)
    await one.until_told("node_joined")
    await one.until(lambda: one.cluster.exchange.secret == two.cluster.exchange.secret != b"")
    before = secret()
    redis.command("FLUSHALL")
    await one.until(lambda: secret() == before)
    found = b"of a node that came first"
    emptied = "redis.call('FLUSHALL') redis.call('SET', KEYS[1], ARGV[1])"
    redis.command("EVAL", emptied, "1", "{lb}:secret", found.decode())
    await one.until(lambda: one.cluster.exchange.secret == two.cluster.exchange.secret == found)
    await one.until(lambda: [each.state for each in one.cluster.members()] == ["up", "up"])
    assert not one.told("node_left") + two.told("node_left")


async def test_frozen_and_let_go_again(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    redis.pause()
    lost = await one.until_told("cluster_lost")
    assert "it does not answer" in lost.message
    assert "traffic goes on" in lost.message
    redis.resume()
    await one.until_told("cluster_joined", 2)


async def test_a_leader_that_cannot_reach_redis_stops_in_time(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url, lease="3s")
    assert one.balancer.sharing.leads
    redis.pause()
    begin = time.monotonic()
    await one.until(lambda: not one.balancer.sharing.leads)
    assert time.monotonic() - begin < 3.0, "before the lease can have run out in Redis"
    await one.until(lambda: "leads no more" in one.told("leader_changed")[-1].message)
    redis.resume()
    await one.until(lambda: one.balancer.sharing.leads)
    assert one.cluster.token >= 1


async def test_the_token_rises_although_redis_has_forgotten_it(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url, lease="3s")
    for _ in range(2):
        redis.restart()
        await one.until(lambda: one.cluster.lease.holder is None or not one.cluster.link.joined)
        await one.until(lambda: one.cluster.link.joined and one.balancer.sharing.leads)
    assert one.cluster.token == 3


async def test_full(nodes: Nodes, start_redis: Start) -> None:
    full = start_redis("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    one = await nodes.start("n1", full.url, joined=False)
    assert "raise `maxmemory`" in (await one.until_told("cluster_lost")).message
    full.command("CONFIG", "SET", "maxmemory", "0")
    await one.until_told("cluster_joined")


async def test_full_while_it_is_used(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    redis.command("CONFIG", "SET", "maxmemory", "1")
    assert "raise `maxmemory`" in (await one.until_told("cluster_lost")).message


async def test_a_replica(nodes: Nodes, redis: RedisServer, start_redis: Start) -> None:
    replica = start_redis("--replicaof", "127.0.0.1", str(redis.port))
    one = await nodes.start("n1", replica.url, joined=False)
    await one.until(lambda: "name its master, or the Sentinels" in "".join(map(str, one.told("cluster_lost"))))


async def test_scripts_that_were_flushed_are_sent_again(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    redis.command("SCRIPT", "FLUSH")
    before = one.cluster.link.figures.commands
    await one.until(lambda: one.cluster.link.figures.commands > before + 3)
    assert not one.told("cluster_lost")


async def test_another_reason_is_told_too(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    redis.kill()
    await one.until_told("cluster_lost")
    with RedisServer("--requirepass", "geheim", port=redis.port):
        await one.until(lambda: "give `password`" in one.told("cluster_lost")[-1].message)


async def test_figures_count_what_it_costs(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    figures = one.cluster.link.figures
    assert figures.joined
    assert figures.commands > 0
    assert figures.bytes_sent > 100
    assert figures.bytes_received > 20
    assert 0 < figures.seconds < 5
    lost = one.cluster.link.lost_seconds
    await asyncio.sleep(0.1)
    assert one.cluster.link.lost_seconds == lost


@pytest.mark.parametrize("noise", [b"\xff" * 40, b"{}", b'{"v":1}', b"x" * 600_000])
async def test_who_shouts_on_the_channel_is_noted_once(
    nodes: Nodes, redis: RedisServer, noise: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    import redis as driver

    one = await nodes.start("n1", redis.url)
    with driver.Redis(port=redis.port) as client:
        await one.until(lambda: client.publish("{lb}:facts", noise))  # one that somebody hears
        for _ in range(2):
            client.publish("{lb}:facts", noise)
    await one.until(lambda: one.cluster.link.figures.facts_dropped >= 3)
    assert caplog.text.count("publishes what is no fact") == 1
    assert not one.told("cluster_lost")
