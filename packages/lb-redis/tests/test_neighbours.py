"""Facts about addresses of one machine reach who is on it, whoever leads; with a real redis-server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lb_core import Backend
from lb_core.locality import Locality, locality_of
from lb_redis.envelope import Envelope
from lb_redis.neighbours import Neighbours, for_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import LoadBalancer
    from lb_redis.testing import RedisServer

    from .conftest import Nodes

HERE = locality_of("boot", 1, 1)
SAME_FILES = locality_of("boot", 2, 1)
ELSEWHERE = locality_of("another", 1, 1)

NEAR, SOCKET, FAR = Backend("near", "::1", 80), Backend("s", "", 0, path="/run/s.sock"), Backend("far", "10.0.0.1", 80)


class Board:
    """Who is out, told with what says whom it is for."""

    def __init__(self, balancer: LoadBalancer) -> None:
        self.out: dict[str, dict[str, Any]] = {}
        self._locality = balancer.sharing.locality
        self._channel = balancer.sharing.channel("board/a", self.receive, snapshot=lambda: self.out.values())

    def put(self, *backends: Backend) -> None:
        for each in backends:
            self.out[each.name] = {"out": each.name, **self._locality.mark(each)}
            self._channel.send(self.out[each.name])

    def receive(self, message: dict[str, Any]) -> None:
        self.out[message["out"]] = message


def at(locality: Locality, boards: list[Board]) -> Callable[[LoadBalancer], None]:
    def prepare(balancer: LoadBalancer) -> None:
        balancer.sharing.locality = locality
        boards.append(Board(balancer))

    return prepare


async def test_neighbours_know_the_same_whoever_leads(nodes: Nodes, redis: RedisServer) -> None:
    boards: list[Board] = []
    leader = await nodes.start("n1", redis.url, prepare=at(ELSEWHERE, boards))
    await leader.until(lambda: leader.cluster.facts.settled)
    await nodes.start("n2", redis.url, prepare=at(HERE, boards))
    boards[1].put(NEAR, SOCKET, FAR)
    await leader.until(lambda: boards[0].out.keys() == {"far"})
    await nodes.start("n3", redis.url, prepare=at(HERE, boards))
    await nodes.start("n4", redis.url, prepare=at(SAME_FILES, boards))
    await leader.until(lambda: boards[2].out.keys() == {"near", "s", "far"})
    await leader.until(lambda: boards[3].out.keys() == {"s", "far"})
    assert boards[0].out.keys() == {"far"}


async def test_after_a_cut_neighbours_tell_each_other_what_they_did(nodes: Nodes, redis: RedisServer) -> None:
    boards: list[Board] = []
    started = [await nodes.start(f"n{n}", redis.url, prepare=at(HERE, boards)) for n in (1, 2)]
    redis.kill()
    for node in started:
        await node.until_told("cluster_lost")
    boards[0].put(NEAR)
    boards[1].put(SOCKET)
    redis.start()
    for node, board in zip(started, boards, strict=True):
        await node.until(lambda board=board: board.out.keys() == {"near", "s"}, within=15)


async def test_what_is_not_for_all_makes_no_difference_between_nodes(nodes: Nodes, redis: RedisServer) -> None:
    boards: list[Board] = []
    one = await nodes.start("n1", redis.url, prepare=at(HERE, boards))
    boards[0].put(NEAR, FAR)
    facts = one.balancer.sharing.snapshots()
    assert [message["out"] for _, message in for_all(facts) if "out" in message] == ["far"]
    assert for_all([("t", 1), ("t", None), ("t", "locality")]) == [("t", 1), ("t", None), ("t", "locality")]


def test_what_nobody_understands_is_ignored() -> None:
    said: list[Any] = []
    neighbours = Neighbours(HERE, lambda: [("t", HERE.mark(NEAR))], lambda *each: said.append(each))
    for body in ({"kind": "here"}, {"kind": "here", "network": 1, "files": "x"}, {"kind": "other"}):
        neighbours.hear(Envelope("n", "boot", 1, "here", body))
    assert said == []
    neighbours.hear(Envelope("n", "boot", 1, "here", {"kind": "here", "network": HERE.network, "files": "x"}))
    assert [kind for kind, *_ in said] == ["neighbour", "state"]
