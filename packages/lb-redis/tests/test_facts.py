"""Facts reach every node, and who was away learns them; with a real redis-server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from lb_redis import facts as facts_module
from lb_redis.envelope import LARGEST_FACT

if TYPE_CHECKING:
    import pytest

    from lb_core import LoadBalancer
    from lb_redis.testing import RedisServer

    from .conftest import Node, Nodes


class Board:
    """A feature's state: what is out of service, and for how long; told over a channel of its own."""

    def __init__(self, balancer: LoadBalancer, topic: str = "board/a") -> None:
        self.out: dict[str, float] = {}
        self.heard: list[Any] = []
        self._channel = balancer.sharing.channel(topic, self.receive, snapshot=self.snapshot)

    def put(self, name: str, seconds: float = 9.5) -> None:
        self.out[name] = seconds
        self._channel.send({"out": name, "seconds": seconds})

    def send(self, message: object) -> None:
        self._channel.send(message)

    def receive(self, message: Any) -> None:
        self.heard.append(message)
        if isinstance(message, dict) and "out" in message:
            self.out[message["out"]] = message["seconds"]

    def snapshot(self) -> list[Any]:
        return [{"out": name, "seconds": seconds} for name, seconds in sorted(self.out.items())]


async def settled(node: Node) -> None:
    """Wait until a node has asked for what the others know."""
    await node.until(lambda: node.cluster.facts.settled)


async def test_a_fact_reaches_every_other_node_in_order_and_not_its_sender(nodes: Nodes, redis: RedisServer) -> None:
    started = [await nodes.start(f"n{number}", redis.url) for number in range(3)]
    boards = [Board(node.balancer) for node in started]
    for node in started:
        await settled(node)
    for number in range(200):
        boards[0].send(number)
    await started[2].until(lambda: len(boards[2].heard) == 200 and len(boards[1].heard) == 200)
    assert boards[1].heard == boards[2].heard == list(range(200))
    assert boards[0].heard == []
    assert started[0].cluster.link.figures.facts_sent == 200
    assert started[1].cluster.link.figures.facts_received == 200


async def test_a_newcomer_learns_what_the_leader_knows(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    Board(one.balancer).put("web1")
    two = await nodes.start("n2", redis.url, joined=False)
    board = Board(two.balancer)
    await two.until(lambda: board.out == {"web1": 9.5})


async def test_after_a_cut_each_side_learns_what_the_other_did_meanwhile(nodes: Nodes, redis: RedisServer) -> None:
    one, two = await nodes.start("n1", redis.url), await nodes.start("n2", redis.url)
    boards = [Board(one.balancer), Board(two.balancer)]
    await settled(one)
    await settled(two)
    redis.kill()
    await one.until_told("cluster_lost")
    await two.until_told("cluster_lost")
    boards[0].put("web1")
    boards[1].put("web2")
    redis.start()
    await two.until(lambda: all(sorted(board.out) == ["web1", "web2"] for board in boards))


async def test_who_misses_a_message_asks_for_it(nodes: Nodes, redis: RedisServer) -> None:
    one, two = await nodes.start("n1", redis.url), await nodes.start("n2", redis.url)
    boards = [Board(one.balancer), Board(two.balancer)]
    await settled(one)
    await settled(two)
    boards[0].send("first")
    await two.until(lambda: boards[1].heard == ["first"])
    boards[0].out["web1"] = 3.5
    one.cluster.facts._sequence += 1  # a message that was said and never arrived
    boards[0].send("next")
    await two.until(lambda: "web1" in boards[1].out)


async def test_a_difference_is_found_by_comparing(
    nodes: Nodes, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_module, "COMPARE_EVERY", 0.3)
    one, two = await nodes.start("n1", redis.url), await nodes.start("n2", redis.url)
    boards = [Board(one.balancer), Board(two.balancer)]
    await settled(two)
    boards[0].out["web1"] = 3.5  # nothing was sent
    await two.until(lambda: "web1" in boards[1].out)
    received = two.cluster.link.figures.facts_received
    boards[1].out["only here"] = 1.5
    await asyncio.sleep(1.2)
    assert two.cluster.link.figures.facts_received - received <= 3, "what an answer does not change is asked for once"


async def test_nothing_travels_where_nothing_differs(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    Board(one.balancer).put("web1", seconds=4.25)
    boards: list[Board] = []

    def knowing(balancer: LoadBalancer) -> None:
        boards.append(Board(balancer))
        boards[0].out["web1"] = 3.75  # the time runs on

    two = await nodes.start("n2", redis.url, prepare=knowing)
    await settled(two)
    assert boards[0].heard == []


async def test_many_facts_arrive_in_portions(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    known = Board(one.balancer)
    known.out = {f"web{number}" + "x" * 1000: float(number) for number in range(600)}
    two = await nodes.start("n2", redis.url, joined=False)
    board = Board(two.balancer)
    await two.until(lambda: len(board.out) == 600)


async def test_what_is_too_large_or_no_json_is_not_told_and_hurts_nobody(
    nodes: Nodes, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await nodes.start("n1", redis.url), await nodes.start("n2", redis.url)
    boards = [Board(one.balancer), Board(two.balancer)]
    await settled(two)
    boards[0].send("x" * (LARGEST_FACT + 1))
    boards[0].send(object())
    boards[0].send("after")
    await two.until(lambda: boards[1].heard == ["after"])
    assert caplog.text.count("is not told to other nodes") == 2


async def test_a_flood_is_bounded(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    board = Board(one.balancer)
    await settled(one)
    for number in range(facts_module.MOST_WAITING + 500):
        board.send(number)
    assert len(one.cluster.facts._waiting) <= facts_module.MOST_WAITING
    assert one.cluster.link.figures.facts_dropped >= 500


async def test_what_one_node_says_in_a_later_version_is_understood(nodes: Nodes, redis: RedisServer) -> None:
    import redis as driver

    one = await nodes.start("n1", redis.url)
    board = Board(one.balancer)
    await settled(one)
    later = {"v": 2, "from": "n9", "boot": "9" * 16, "seq": 1, "kind": "fact", "topic": "board/a", "new": True}
    with driver.Redis(port=redis.port) as client:
        client.publish("{lb}:facts", json.dumps({**later, "kind": "dance"}))
        client.publish("{lb}:facts", json.dumps({**later, "topic": "board/unknown", "message": 1}))
        client.publish("{lb}:facts", json.dumps({**later, "message": {"out": "web3", "seconds": 1.5}}))
    await one.until(lambda: "web3" in board.out)


async def test_a_subscription_that_died_alone_is_noticed(
    nodes: Nodes, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_module, "PING_EVERY", 0.2)
    one = await nodes.start("n1", redis.url)
    await settled(one)
    redis.command("CLIENT", "KILL", "TYPE", "pubsub")
    await one.until_told("cluster_joined", 2)


async def test_a_mode_set_by_an_operator_reaches_the_other_nodes(nodes: Nodes, redis: RedisServer) -> None:
    one, two = await nodes.start("n1", redis.url), await nodes.start("n2", redis.url)
    await settled(two)
    (pool,) = one.balancer.pools.values()
    pool.set_mode(pool.backends[0], "maintenance", "disk")
    (other,) = two.balancer.pools.values()
    await two.until(lambda: other.backends[0].mode == "maintenance")
    pool.set_mode(pool.backends[0], "active")
    await two.until(lambda: other.backends[0].mode == "active")
