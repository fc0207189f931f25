"""Nodes in one list: who is there, under which name, who leads; with a real redis-server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest

from lb_core import LbError
from lb_redis.testing import RedisServer, free_port

if TYPE_CHECKING:
    from lb_core import LoadBalancer

    from .conftest import Nodes


async def test_nodes_see_each_other_and_one_of_them_leads(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    two = await nodes.start("n2", redis.url)
    await one.until_told("node_joined")
    assert [(each.name, each.state, each.own) for each in one.cluster.members()] == [
        ("n1", "up", True),
        ("n2", "up", False),
    ]
    assert (one.balancer.sharing.leads, two.balancer.sharing.leads) == (True, False)
    assert [each.name for each in two.cluster.members() if each.leader] == ["n1"]
    assert (one.cluster.token, two.cluster.token) == (1, 0)
    await two.until(lambda: two.balancer.sharing.nodes == 2)
    await one.until(lambda: one.balancer.sharing.nodes == 2)
    assert [str(each) for each in two.told("leader_changed")] == ["leader_changed: n1 leads"]


async def test_a_node_that_ends_has_left_at_once_and_another_leads(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    two = await nodes.start("n2", redis.url)
    begin = time.monotonic()
    await nodes.stop(one)
    assert not one.balancer.sharing.leads
    assert one.balancer.sharing.cluster is None
    assert (await two.until_told("node_left")).message == "n1 has left"
    await two.until(lambda: two.balancer.sharing.leads)
    assert time.monotonic() - begin < 2.5, "a lease that is given back is free at once"
    assert two.cluster.token == 2
    assert [each.name for each in two.cluster.members()] == ["n2"]


async def test_two_nodes_of_one_name_are_told_apart_until_one_has_gone(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("edge", redis.url)
    two = await nodes.start("other", redis.url)
    two.cluster.wanted = "edge"
    await two.until(lambda: two.cluster.name == "edge-2")
    assert two.balancer.node.name == "edge-2"
    three = await nodes.start("edge", redis.url)
    assert (
        "as edge-3 (another node is called edge: give each its own `node`)" in three.told("cluster_joined")[0].message
    )
    await nodes.stop(three)
    await nodes.stop(one)
    await two.until(lambda: two.cluster.name == "edge")
    await two.until(
        lambda: "edge has not been heard of for some seconds" in [each.message for each in two.told("node_left")]
    )
    assert [each.name for each in two.cluster.members()] == ["edge"]


async def test_the_next_process_of_an_upgrade_has_the_name_and_nobody_notices(nodes: Nodes, redis: RedisServer) -> None:
    other = await nodes.start("a", redis.url)
    old = await nodes.start("edge", redis.url)
    await other.until_told("node_joined")

    def succeed(balancer: LoadBalancer) -> None:
        balancer.node.predecessor = old.balancer.node.run

    new = await nodes.start("edge", redis.url, prepare=succeed)
    assert new.cluster.name == "edge"
    assert "as edge, with 1 other;" in new.told("cluster_joined")[0].message
    await asyncio.sleep(0.5)
    assert old.cluster.name == "edge", "it goes on under its name until it ends"
    assert sorted(each.name for each in other.cluster.members()) == ["a", "edge"]
    assert (other.balancer.sharing.nodes, new.balancer.sharing.nodes) == (2, 2)
    await nodes.stop(old)
    await asyncio.sleep(0.3)
    assert [each.state for each in other.cluster.members()] == ["up", "up"]
    assert not other.told("node_left") + new.told("node_left") + old.told("node_left")
    assert [each.message for each in other.told("node_joined")] == ["edge is there", "edge is there"]


async def test_where_the_next_process_dies_the_old_one_is_listed_again(nodes: Nodes, redis: RedisServer) -> None:
    old = await nodes.start("edge", redis.url)

    def succeed(balancer: LoadBalancer) -> None:
        balancer.node.predecessor = old.balancer.node.run

    new = await nodes.start("edge", redis.url, prepare=succeed)
    await nodes.stop(new)
    await old.until(lambda: old.balancer.node.run in str(redis.command("HGET", "{lb}:nodes", "edge")))


async def test_clusters_of_other_names_do_not_meet(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url, name="blue")
    two = await nodes.start("n2", redis.url, name="green")
    assert (one.balancer.sharing.leads, two.balancer.sharing.leads) == (True, True)
    await asyncio.sleep(1.2)
    assert [each.name for each in one.cluster.members()] == ["n1"]
    assert not one.told("node_joined")
    assert {key.partition("}")[0] for key in redis.command("KEYS", "*")} == {"{blue", "{green"}


async def test_a_node_drains_at_the_order_of_another(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    two = await nodes.start("n2", redis.url)
    await one.until_told("node_joined")
    one.cluster.order("n2", "drain")
    await two.until(lambda: two.balancer.node.drained)
    assert "asked on n1" in two.told("node_draining")[0].message
    begin = time.monotonic()
    await one.until(lambda: [each.state for each in one.cluster.members()] == ["up", "draining"])
    assert time.monotonic() - begin < 2.5
    one.cluster.order("n2", "resume")
    await two.until(lambda: not two.balancer.node.drained)
    with pytest.raises(LbError, match="there is no node 'n3'; there are n1, n2"):
        one.cluster.order("n3", "drain")
    with pytest.raises(LbError, match="'stop' is no order: drain or resume"):
        one.cluster.order("n2", "stop")
    redis.kill()
    await one.until_told("cluster_lost")
    with pytest.raises(LbError, match="ask that node itself"):
        one.cluster.order("n2", "drain")


async def test_garbage_in_the_list_hurts_nobody(nodes: Nodes, redis: RedisServer) -> None:
    redis.command("ZADD", "{lb}:alive", "99999999999", "bad")
    redis.command("HSET", "{lb}:nodes", "bad", "\x1b[31m{")
    redis.command("ZADD", "{lb}:alive", "99999999999", "worse")
    redis.command("HSET", "{lb}:nodes", "worse", f"{'f' * 16} {json.dumps({'workers': 'x', 'rps': -1})}")
    one = await nodes.start("n1", redis.url)
    assert [each.name for each in one.cluster.members()] == ["n1", "worse"]


async def test_the_balancer_serves_before_redis_is_there(nodes: Nodes, start_redis: object) -> None:
    port = free_port()
    begin = time.monotonic()
    one = await nodes.start("n1", f"redis://127.0.0.1:{port}", joined=False)
    assert time.monotonic() - begin < 1
    lost = await one.until_told("cluster_lost")
    assert "nobody listens there" in lost.message
    assert not one.balancer.sharing.leads
    assert [each.name for each in one.cluster.members()] == ["n1"]
    await asyncio.sleep(1)
    assert len(one.told("cluster_lost")) == 1, "the same reason is told once"
    with RedisServer(port=port):
        await one.until_told("cluster_joined")
        await one.until(lambda: one.balancer.sharing.leads)


async def test_a_name_of_another_program_is_found_out(nodes: Nodes, redis: RedisServer) -> None:
    redis.command("SET", "{lb}:alive", "7")
    one = await nodes.start("n1", redis.url, joined=False)
    assert "give the cluster another `name`" in (await one.until_told("cluster_lost")).message


async def test_a_change_of_the_section_is_told_to_need_a_new_start(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    with open(one.balancer.config.files[0]) as text:
        tree = json.load(text)
    tree["cluster"]["timeout"] = "70ms"
    with open(one.balancer.config.files[0], "w") as text:
        json.dump(tree, text)
    assert one.balancer.reload()
    await one.until_told("restart_needed")
    await asyncio.sleep(0.3)
    assert len(one.told("restart_needed")) == 1
