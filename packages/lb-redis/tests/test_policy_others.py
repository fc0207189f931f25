"""What a node says of token buckets and of requests under way, and what it makes of the answers."""

from __future__ import annotations

from collections import defaultdict
from math import inf

import pytest

from lb_redis.policy_bucket import Additions, Buckets
from lb_redis.policy_gauge import AGAIN, FORGET, Gauge, Standing

START = 1000.0


def bucket_answer(times: dict[str, float], said: Additions) -> list[float]:
    """What the script does with additions."""
    for key, add, least in zip(said.keys, said.adds, said.least, strict=True):
        times[str(key)] = max(max(times[str(key)], said.since) + add, least)
    return [times[str(key)] for key in said.keys]


def exchange(buckets: Buckets, times: dict[str, float], seconds: float, now: float) -> dict[str, tuple[float, float]]:
    """One exchange in which so much is added to a key; what is told of each key."""
    buckets.settle(now)
    buckets.add([("k", 0, seconds)], now)
    said = buckets.batch(now)
    assert said is not None
    return {str(due.key): (due.time, due.cap) for due in buckets.answered(said, bucket_answer(times, said), now)}


def test_alone_a_bucket_is_not_told() -> None:
    times: dict[str, float] = defaultdict(float)
    buckets = Buckets(0.1, 10, nodes=3)
    for step in range(5):
        assert exchange(buckets, times, 0.2, START + step * 0.05) == {}
    assert times["k"] == pytest.approx(START + 1.0, abs=0.01)


def test_two_nodes_know_of_each_other_and_keep_to_a_part_of_what_is_left() -> None:
    times: dict[str, float] = defaultdict(float)
    first, second = Buckets(0.1, 10, nodes=2), Buckets(0.1, 10, nodes=2)
    exchange(first, times, 0.3, START)
    time, cap = exchange(second, times, 0.3, START)["k"]
    assert time == pytest.approx(START + 0.6)
    assert cap == pytest.approx(START + 0.6 + 0.2, abs=0.001)  # 0.4 s are left, less than half of the bucket
    time, cap = exchange(first, times, 0.0, START)["k"]
    assert time == pytest.approx(START + 0.6)
    exchange(second, times, 0.4, START)
    time, cap = exchange(first, times, 0.0, START)["k"]
    assert cap == pytest.approx(START + 1.1, abs=0.001)  # one token ahead, when it comes


def test_a_cap_is_lifted_when_nothing_is_heard_for_a_while() -> None:
    times: dict[str, float] = defaultdict(float, k=START + 0.9)
    buckets = Buckets(0.1, 10, nodes=2)
    assert exchange(buckets, times, 0.1, START)
    lifted = [due for step in range(8) for due in buckets.settle(START + 0.1 * step)]
    assert [due.cap for due in lifted] == [inf]
    buckets.settle(START + 5)
    buckets.settle(START + 6)
    assert buckets._buckets == {}


def test_after_a_loss_arrival_times_are_said_again() -> None:
    times: dict[str, float] = defaultdict(float)
    buckets = Buckets(0.1, 10, nodes=2)
    exchange(buckets, times, 0.5, START)
    before = times["k"]
    buckets.add([("k", 0, 0.2)], START)
    said = buckets.batch(START)
    assert said is not None
    assert buckets.answered(said, None, START) == []
    times.clear()
    said = buckets.batch(START)
    assert said is not None
    assert said.number == 1
    bucket_answer(times, said)
    assert times["k"] >= before


def test_the_same_is_said_until_it_is_answered() -> None:
    buckets = Buckets(0.1, 10)
    buckets.add([("k", 0, 0.5)], START)
    said = buckets.batch(START)
    buckets.add([("k", 0, 0.5)], START)
    assert buckets.batch(START) is said
    assert said is not None
    assert said.adds == [0.5]
    buckets.answered(said, [START + 0.5], START)
    later = buckets.batch(START)
    assert later is not None
    assert later.adds == [0.5]
    assert later.number == said.number + 1


class Counted:
    """How many are under way in one node."""

    def __init__(self, limit: int, nodes: int = 2) -> None:
        self.count = 0
        self.gauge = Gauge(limit, lambda key: self.count, nodes)

    def says(self, now: float, *, changed: bool = True) -> Standing | None:
        self.gauge.settle(now)
        if changed:
            self.gauge.add([("k", 0, 1)], now)
        return self.gauge.batch(now)

    def hears(self, said: Standing | None, others: int, now: float) -> list[tuple[int, float]]:
        assert said is not None
        return [(under.others, under.cap) for under in self.gauge.answered(said, [others], now)]


def test_alone_a_key_is_said_and_not_told() -> None:
    node = Counted(10)
    node.count = 3
    said = node.says(START)
    assert said is not None
    assert said.counts == [3]
    assert node.hears(said, 0, START) == []


def test_what_others_have_leaves_less() -> None:
    node = Counted(10)
    node.count = 3
    assert node.hears(node.says(START), 1, START) == [(1, 3 + 3)]
    assert node.hears(node.says(START), 5, START) == [(5, 3 + 1)]
    assert node.hears(node.says(START), 7, START) == [(7, 3)]
    assert node.hears(node.says(START), 0, START) == [(0, inf)]


def test_it_is_said_again_while_it_lasts_and_forgotten_after() -> None:
    node = Counted(10)
    node.count = 2
    node.hears(node.says(START), 0, START)
    now, times = START, []
    while now < START + 3 * AGAIN:
        now += 0.1
        said = node.says(now, changed=False)
        if said is not None:
            node.hears(said, 0, now)
            times.append(now - START)
    assert len(times) == 3
    node.count = 0
    node.hears(node.says(now), 4, now)
    asked, told = 0, []
    for _ in range(300):
        now += 0.1
        told += node.gauge.settle(now)
        said = node.gauge.batch(now)
        if said is not None:
            asked += 1
            node.hears(said, 4, now)
    assert asked == pytest.approx(FORGET, abs=2)  # every second, because the others have some
    assert [(under.others, under.cap) for under in told] == [(0, inf)]
