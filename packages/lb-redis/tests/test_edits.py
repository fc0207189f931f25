"""Edits on several nodes: versions, conflicts, what cannot be used, and a Redis that forgets; with a real one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import ConfigError, LbError, LoadBalancer
from lb_redis.edit_command import edit
from lb_redis.edition import EditRefused
from lb_redis.edits import EditConflict

if TYPE_CHECKING:
    from lb_redis.testing import RedisServer

    from .conftest import Node, Nodes

NEW: dict[str, Any] = {"routes": {"b.example": ["127.0.0.1:8"]}}


def routes(node: Node) -> list[str]:
    return sorted(node.balancer.routes)


async def test_an_edit_is_in_force_on_every_node(nodes: Nodes, redis: RedisServer) -> None:
    one, two = await nodes.start("n1", redis.url), await nodes.start("n2", redis.url)
    assert await one.cluster.edits.write(NEW, 0, "me") == 1
    assert routes(one) == ["a.example", "b.example"]
    await two.until(lambda: routes(two) == ["a.example", "b.example"])
    assert await two.cluster.edits.write({"routes": {"b.example": None, "a.example": {"queue": 20}}}, 1) == 2
    await one.until(lambda: routes(one) == ["a.example"])
    assert one.cluster.edits.read() == (2, {"routes": {"a.example": {"backends": ["127.0.0.1:9"], "queue": 20}}})
    assert [str(each) for each in one.told("edit_applied")] == [
        "edit_applied: version 1 of the edits, by me, is in force",
        "edit_applied: version 2 of the edits, by nobody, is in force",
    ]
    await one.until(lambda: [each.config[-2:] for each in one.cluster.members()] == ["+2", "+2"])


async def test_a_later_node_gets_the_edits_before_it_counts_as_joined(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    await one.cluster.edits.write(NEW)
    two = await nodes.start("n2", redis.url)
    assert routes(two) == ["a.example", "b.example"]


async def test_of_two_edits_of_one_version_one_is_refused(nodes: Nodes, redis: RedisServer) -> None:
    one, two = await nodes.start("n1", redis.url), await nodes.start("n2", redis.url)
    writes = [
        node.cluster.edits.write({"routes": {"a.example": {"queue": number}}}, 0)
        for number, node in ((10, one), (20, two))
    ]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["EditConflict", "int"], results
    queue = 10 if results[0] == 1 else 20
    for node in (one, two):
        await node.until(lambda node=node: node.balancer.config.routes[0].queue == queue)  # type: ignore[misc]
        assert node.cluster.edits.applied == 1


async def test_a_stale_version_is_refused_and_nothing_changes(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    await one.cluster.edits.write(NEW, 0)
    with pytest.raises(EditConflict, match="the version is 1 now, not 0") as refused:
        await one.cluster.edits.write({"routes": {"c.example": ["127.0.0.1:7"]}}, 0)
    assert refused.value.version == 1
    assert routes(one) == ["a.example", "b.example"]


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"routes": {"a.example": {"strategy": "nope"}}}, 'edit 1: routes.a.example.strategy: unknown strategy "nope"'),
        ({"routes": {"b.example": {"queue": 7}}}, "edit 1: routes.b.example: this route has no backends"),
        ({"routes": {"a.example": {"queue": "x"}}}, "edit 1: routes.a.example.queue"),
        ({"routes": {"a.example": None}}, "there are no routes"),
    ],
)
async def test_what_cannot_be_used_is_never_written(
    nodes: Nodes, redis: RedisServer, patch: dict[str, Any], message: str
) -> None:
    one = await nodes.start("n1", redis.url)
    with pytest.raises(ConfigError) as refused:
        await one.cluster.edits.write(patch)
    assert message in str(refused.value)
    assert routes(one) == ["a.example"]
    assert redis.command("HGET", "{lb}:edits", "version") is None


async def test_a_node_that_cannot_apply_goes_on_and_says_so(nodes: Nodes, redis: RedisServer) -> None:
    one, two = await nodes.start("n1", redis.url), await nodes.start("n2", redis.url)
    del two.balancer.plugins.features["ejection"]  # that node lacks a package
    await one.cluster.edits.write({"routes": {"a.example": {"ejection": {"duration": "5s"}}}})
    refused = await two.until_told("edit_refused")
    assert "this node goes on with version 0 of the edits" in refused.message
    assert two.cluster.edits.applied == 0
    await one.until(lambda: [each.config[-2:] == "+1" for each in one.cluster.members()] == [True, False])
    with pytest.raises(EditRefused, match="could not apply version 1"):
        await two.cluster.edits.write(NEW)
    assert await two.cluster.edits.undo() == 2
    assert two.cluster.edits.applied == 2
    assert len(two.told("edit_refused")) == 1


async def test_a_redis_that_was_emptied_gets_the_newest_version_back(nodes: Nodes, redis: RedisServer) -> None:
    one, two = await nodes.start("n1", redis.url), await nodes.start("n2", redis.url)
    await one.cluster.edits.write(NEW)
    await two.until(lambda: two.cluster.edits.applied == 1)
    redis.restart()
    await one.until_told("cluster_joined", 2)
    await two.until_told("cluster_joined", 2)
    assert redis.command("HGET", "{lb}:edits", "version") == "1"
    assert len(one.told("edits_put_back")) + len(two.told("edits_put_back")) == 1
    assert routes(one) == routes(two) == ["a.example", "b.example"]
    three = await nodes.start("n3", redis.url)
    assert routes(three) == ["a.example", "b.example"]


async def test_a_reload_of_the_file_keeps_the_edits(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    await one.cluster.edits.write(NEW)
    file = one.balancer.config.files[0]
    with open(file) as text:
        tree = json.load(text)
    tree["routes"] = {"c.example": ["127.0.0.1:7"]}
    with open(file, "w") as text:
        json.dump(tree, text)
    assert one.balancer.reload()
    assert routes(one) == ["b.example", "c.example"]
    tree["routes"] = {"c.example": {"strategy": "nope"}}
    with open(file, "w") as text:
        json.dump(tree, text)
    assert not one.balancer.reload()
    assert routes(one) == ["b.example", "c.example"]


async def test_garbage_in_redis_is_refused_once(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    redis.command("HSET", "{lb}:edits", "version", "5", "document", "garbage")
    await one.until_told("edit_refused")
    await asyncio.sleep(1.2)
    assert len(one.told("edit_refused")) == 1
    assert routes(one) == ["a.example"]


async def test_without_redis_an_edit_is_refused(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    redis.kill()
    await one.until_told("cluster_lost")
    with pytest.raises(LbError, match="Redis is not there"):
        await one.cluster.edits.write(NEW)


async def test_an_edit_whose_answer_is_lost_is_taken_back_here_and_found_again(
    nodes: Nodes, redis: RedisServer
) -> None:
    one = await nodes.start("n1", redis.url)
    redis.pause()
    writing = asyncio.ensure_future(one.cluster.edits.write(NEW))
    with pytest.raises(Exception, match="does not answer"):
        await writing
    assert routes(one) == ["a.example"]
    redis.resume()
    await one.until_told("cluster_joined", 2)


async def test_the_command(nodes: Nodes, redis: RedisServer) -> None:
    one = await nodes.start("n1", redis.url)
    balancer = one.balancer
    assert await edit(balancer, "show") == "nothing was edited yet: every node goes by its file"
    assert await edit(balancer, "history") == "nothing was edited yet"
    said = await edit(balancer, "apply", "routes: {b.example: ['127.0.0.1:8']}")
    assert said == "version 1 is in force here, and on its way to the other nodes"
    assert await edit(balancer, "apply", json.dumps({"routes": {"b.example": None}}), "1")
    shown = await edit(balancer, "show")
    assert "version 2" in shown
    assert "routes:\n  b.example: null" in shown
    history = (await edit(balancer, "history")).splitlines()
    assert len(history) == 2
    assert 'lb edit on n1: {"routes": {"b.example": ["127.0.0.1:8"]}}' in history[0]
    assert "version 3 (as version 1 was) is in force here" in await edit(balancer, "undo")
    assert routes(one) == ["a.example", "b.example"]
    assert "version 4 (the files alone) is in force here" in await edit(balancer, "undo", "0")
    assert routes(one) == ["a.example"]
    assert (await edit(balancer, "history")).splitlines()[-1].endswith("lb edit on n1: undo, the files alone")
    await edit(balancer, "apply", "routes: {b.example: &one ['127.0.0.1:8'], c.example: *one}")
    assert "c.example:\n  - 127.0.0.1:8" in await edit(balancer, "show")
    await edit(balancer, "undo", "0")
    assert "# no edits are in force" in await edit(balancer, "show")


ALIASES = "routes:\n  a0: &a0 [x]\n" + "".join(
    f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
"""Some hundred bytes that stand for a billion values."""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dance",), "write lb edit show | apply PATCH"),
        (("apply",), "write lb edit show"),
        (("apply", "{"), "the patch:1: this is not YAML"),
        (("apply", ""), "an edit is a mapping"),
        (("apply", "routes: {a: [], a: []}"), 'the key "a" is given twice'),
        (("apply", "routes: null"), "this would be wrong with the edit"),
        (("apply", ALIASES), "65536 bytes at most"),
        (("apply", "[1]"), "an edit is a mapping"),
        (("apply", "routes: {}", "x"), '"x" is not a version'),
        (("undo",), "nothing to undo"),
        (("undo", "7"), "version 7 is not known"),
        (("apply", "control: off"), '"control" cannot be edited'),
    ],
)
async def test_a_command_that_cannot_be_done(
    nodes: Nodes, redis: RedisServer, words: tuple[str, ...], message: str
) -> None:
    one = await nodes.start("n1", redis.url)
    with pytest.raises(LbError) as refused:
        await edit(one.balancer, *words)
    assert message in str(refused.value)


async def test_the_command_without_a_cluster() -> None:
    with pytest.raises(LbError, match="no section `cluster`"):
        await edit(LoadBalancer(), "show")
