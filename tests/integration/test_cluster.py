"""Three nodes as processes and one Redis: what one learns the others know, and what happens when one of these ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lb_core.errors import LbError
from lb_redis.testing import RedisServer
from tests.integration.cluster_nodes import Cut, NodeProcess, Traffic, seconds_until
from tests.integration.lb_process import backend, free_port, wait_until
from tests.support.services import require


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A backend that answers."""
    with backend("one") as one:
        yield one.address


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """The Redis of this file."""
    require("redis-server")
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def way(redis: RedisServer) -> Iterator[Cut]:
    """How the third node reaches Redis."""
    cut = Cut(redis.port)
    yield cut
    cut.close()


@pytest.fixture(scope="module")
def three(
    tmp_path_factory: pytest.TempPathFactory, redis: RedisServer, way: Cut, service: str
) -> Iterator[list[NodeProcess]]:
    """Three nodes, of which the first has two workers; the tests that end one come last."""
    routes = {
        "x.example": {"backends": {"one": service, "two": service}},
        "y.example": {"backends": {"good": service, "dead": f"127.0.0.1:{free_port()}"}, "strategy": "round_robin"},
    }
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("three")
        nodes = []
        for number, (url, workers) in enumerate(((redis.url, 2), (redis.url, 1), (way.url, 1)), 1):
            node = NodeProcess(folder, f"n{number}", url, routes, workers=workers, cluster={"lease": "3s"})
            stack.callback(node.close)
            nodes.append(node)
        for node in nodes:
            node.ready()
        wait_until(lambda: all_up(nodes))
        yield nodes


def all_up(nodes: list[NodeProcess]) -> bool:
    """Whether each of them sees all of them."""
    return all(list(node.states().values()) == ["up"] * len(nodes) for node in nodes)


def test_every_node_lists_all_of_them_with_their_load(three: list[NodeProcess]) -> None:
    for _ in range(20):
        assert three[0].get() == (200, "one")
    wait_until(lambda: three[2].members()["n1"]["requests_per_second"] > 0)
    seen = three[2].members()
    assert [each["state"] for each in seen.values()] == ["up"] * 3
    assert [each["workers"] for each in seen.values()] == [2, 1, 1]
    assert len({node.leader() for node in three}) == 1
    assert "n3 (this one" in three[2].command("nodes")


def test_a_backend_drained_at_one_node_is_drained_at_all(three: list[NodeProcess]) -> None:
    three[1].command("backends", "maintenance", "x.example", "two")
    taken = seconds_until(lambda: all(node.backend("two")["state"] == "maintenance" for node in three))
    assert taken < 2
    three[2].command("backends", "resume", "x.example", "two")
    wait_until(lambda: all(node.backend("two")["state"] == "up" for node in three))


def test_a_backend_ejected_at_one_node_is_ejected_at_all(three: list[NodeProcess]) -> None:
    for _ in range(20):
        assert three[1].get("y.example")[0] == 200
        if "eject" in three[1].backend("dead")["state"]:
            break
    assert "eject" in three[1].backend("dead")["state"]
    wait_until(lambda: all("eject" in node.backend("dead")["state"] for node in three))
    wait_until(lambda: any("ejected" in node.lb.errors for node in three))
    assert sum("ejected" in node.lb.errors for node in three) == 1, [node.lb.errors[-600:] for node in three]


def test_an_edit_at_one_node_is_served_by_all_and_their_workers(three: list[NodeProcess]) -> None:
    service = three[0].backend("one")["address"]
    before = three[0].get("new.example")[0]
    assert before == 404
    three[1].command("edit", "apply", f'{{"routes": {{"new.example": ["{service}"]}}}}', "0")
    for node in three:
        wait_until(lambda node=node: all(node.get("new.example")[0] == 200 for _ in range(4)))  # type: ignore[misc]
    wait_until(lambda: all(each["config"].endswith("+1") for each in three[0].members().values()))
    with pytest.raises(LbError, match="the version is 1 now, not 0"):
        three[2].command("edit", "apply", "routes: {new.example: null}", "0")
    three[2].command("edit", "undo")
    for node in three:
        wait_until(lambda node=node: all(node.get("new.example")[0] == 404 for _ in range(4)))  # type: ignore[misc]
    assert three[0].command("edit", "history").count("\n") == 1


def test_a_node_is_drained_from_another(three: list[NodeProcess]) -> None:
    three[0].command("nodes", "drain", "n3")
    wait_until(lambda: three[1].states()["n3"] == "draining")
    assert three[2].get() == (200, "one"), "it still serves"
    three[0].command("nodes", "resume", "n3")
    wait_until(lambda: three[1].states()["n3"] == "up")


def test_a_node_that_is_cut_off_serves_on_and_learns_what_it_missed(three: list[NodeProcess], way: Cut) -> None:
    near, _, far = three
    version = near.command("edit", "history").count("\n") + 1
    near.command("backends", "drain", "x.example", "two", "0s")
    wait_until(lambda: far.backend("two")["state"] == "draining")
    traffic = Traffic(near, far)
    way.cut()
    wait_until(lambda: far.lb.errors.count("cluster lost") == 1)
    near.command("backends", "resume", "x.example", "two")
    near.command("backends", "maintenance", "y.example", "dead")
    near.command("edit", "apply", "routes: {x.example: {queue: 9}}")
    wait_until(lambda: near.states()["n3"] == "gone", within=6)
    assert far.backend("two")["state"] == "draining"
    way.heal()
    wait_until(lambda: far.backend("dead")["state"] == "maintenance")
    wait_until(lambda: far.members()["n3"]["config"].endswith(f"+{version + 1}"))
    wait_until(lambda: all_up(three))
    assert [node.backend("two")["state"] for node in three] == ["up"] * 3, "the last word holds"
    traffic.stop()
    assert traffic.failed == []


def test_redis_frozen_killed_and_empty_under_load_costs_no_request(
    three: list[NodeProcess], redis: RedisServer
) -> None:
    def times(what: str) -> list[int]:
        return [node.lb.errors.count(what) for node in three]

    def again(what: str, before: list[int], times_more: int = 1) -> bool:
        return all(now >= then + times_more for now, then in zip(times(what), before, strict=True))

    def said() -> str:
        return "\n".join(node.lb.errors[-1500:] for node in three)

    version = redis.command("HGET", "{lb}:edits", "version")
    joined, lost = times("cluster joined"), times("cluster lost")
    traffic = Traffic(*three)
    redis.pause()
    wait_until(lambda: again("cluster lost", lost), or_else=said)
    redis.resume()
    wait_until(lambda: again("cluster joined", joined), or_else=said)
    redis.restart()
    wait_until(lambda: again("cluster joined", joined, 2), or_else=said)
    wait_until(lambda: all_up(three))
    traffic.stop()
    assert traffic.failed == []
    assert traffic.done > 100
    assert redis.command("HGET", "{lb}:edits", "version") == version, "the nodes have put the edits back"
    assert not [node.name for node in three if "Traceback" in node.lb.errors]


def test_a_leader_that_was_frozen_does_not_lead_when_it_wakes(three: list[NodeProcess]) -> None:
    wait_until(lambda: len({node.leader() for node in three}) == 1)
    leader = next(node for node in three if node.name == node.leader())
    others = [node for node in three if node is not leader]
    led = leader.lb.errors.count(", which is this node")
    leader.lb.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: all(node.leader() in {each.name for each in others} for node in others))
    finally:
        leader.lb.signal(signal.SIGCONT)
    now = others[0].leader()
    wait_until(lambda: leader.leader() == now)
    wait_until(lambda: all_up(three))
    assert {node.leader() for node in three} == {now}
    assert leader.lb.errors.count(", which is this node") == led, "it has not led again"


def test_a_killed_leader_is_gone_in_three_seconds_and_another_one_leads(three: list[NodeProcess]) -> None:
    leader = next(node for node in three if node.name == node.leader())
    others = [node for node in three if node is not leader]
    leader.lb.signal(signal.SIGKILL)
    taken = seconds_until(lambda: all(node.states()[leader.name] == "gone" for node in others))
    assert taken < 4, "three seconds, and what a look takes"
    wait_until(lambda: all(node.leader() in {each.name for each in others} for node in others))
    assert len({node.leader() for node in others}) == 1
    wait_until(lambda: all(f"{leader.name} has not been heard of" in node.lb.errors for node in others))
