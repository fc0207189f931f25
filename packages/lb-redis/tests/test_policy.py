"""How much of a limit a node may use: whatever the order of events, the sum stays within the limit."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from lb_redis.policy import Answer, Batch, Rules, Told
from lb_redis.policy_limit import Limit
from lb_redis.script_model import Model

KEY = "client"
START = 1000.0


@dataclass
class Node:
    """A node with one process, which decides as a process does: by its own counts and what it was told."""

    name: str
    rules: Rules
    model: Model
    limit: Limit = field(init=False)
    used: dict[int, int] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)
    told: dict[int, Told] = field(default_factory=dict)
    refused: bool = False
    calls: int = 0

    def __post_init__(self) -> None:
        self.limit = Limit(self.rules)

    def request(self, now: float) -> bool:
        index = self.rules.index(now)
        used, earlier = self.used.get(index, 0), self.used.get(index - 1, 0)
        told, last = self.told.get(index), self.told.get(index - 1)
        others, cap = (told.others, told.cap) if told else (0, inf)
        before = told.before if told else last.others if last else 0
        weight = index + 1 - now / self.rules.window if self.rules.sliding else 0.0
        if used + 1 <= cap and used + others + 1 + (earlier + before) * weight <= self.rules.limit:
            self.used[index] = used + 1
            return True
        self.refused = True
        return False

    def prepare(self, now: float) -> list[Batch]:
        """The first half of an exchange: what is sent."""
        self.hear(self.limit.settle(now))
        index = self.rules.index(now)
        changes: list[tuple[str | bytes, int, float]] = [
            (KEY, each, count - self.read.get(each, 0))
            for each, count in self.used.items()
            if count != self.read.get(each, 0)
        ]
        self.read = dict(self.used)
        if self.refused:
            changes.append((KEY, index, 0))
        self.refused = False
        self.limit.add(changes, now)
        return self.limit.batches(now)

    def exchange(self, now: float, *, lose_question: bool = False, lose_answer: bool = False) -> None:
        for batch in self.prepare(now):
            if lose_question:
                continue
            self.calls += 1
            answer = self.model.call(self.name, batch)
            if not lose_answer:
                self.hear(self.limit.answered(batch, answer, now))

    def hear(self, told: list[Told]) -> None:
        for each in told:
            self.told[each.window] = each


def cluster(nodes: int, limit: int, *, window: float = 10.0, sliding: bool = True) -> list[Node]:
    rules = Rules(limit, window, sliding=sliding, nodes=nodes)
    model = Model(rules)
    return [Node(str(number), rules, model) for number in range(nodes)]


def passed(nodes: list[Node], index: int) -> int:
    return sum(node.used.get(index, 0) for node in nodes)


steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["request", "burst", "exchange", "lose question", "lose answer", "wait"]),
        st.floats(0.0, 0.4),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(3, 40), st.booleans())
def test_never_over_the_limit_once_strict(plan: list[tuple[int, str, float]], limit: int, sliding: bool) -> None:
    nodes = cluster(3, limit, window=1000.0, sliding=sliding)
    now = START
    for _ in range(2):  # every node has the key, and knows of the others
        for node in nodes:
            node.request(now)
            node.exchange(now)
    begun = passed(nodes, 1)
    for number, what, wait in plan:
        node = nodes[number]
        match what:
            case "request":
                node.request(now)
            case "burst":
                for _ in range(limit):
                    node.request(now)
            case "exchange":
                node.exchange(now)
            case "lose question":
                node.exchange(now, lose_question=True)
            case "lose answer":
                node.exchange(now, lose_answer=True)
            case _:
                now += wait
        assert passed(nodes, 1) <= max(limit, begun)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=10), st.integers(3, 500), st.booleans())
def test_all_of_the_limit_is_used_soon(order: list[int], limit: int, sliding: bool) -> None:
    """One node wants all there is, the others had a little: it gets the rest within five seconds."""
    nodes = cluster(3, limit, window=1000.0, sliding=sliding)
    now = START
    for number in order * 2:  # whoever has the key knows of the others then
        nodes[number].request(now)
        nodes[number].exchange(now)
    begun = passed(nodes, 1)
    greedy = nodes[order[0]]
    for _ in range(100):
        now += 0.05
        while greedy.request(now):
            pass
        for node in nodes:
            if node is greedy or node.limit.due <= now:
                node.exchange(now)
    assert passed(nodes, 1) == max(limit, begun)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=3, max_size=3), st.booleans())
def test_nobody_is_starved_and_constant_demand_gets_the_limit(rates: list[int], sliding: bool) -> None:
    """Demand above the limit in any proportion: each window lets through the limit, and everybody gets some of it."""
    rates[0] += 6
    nodes = cluster(3, 200, window=2.0, sliding=sliding)
    for step in range(round(8.0 / 0.005)):
        now = START + step * 0.005
        for node, rate in zip(nodes, rates, strict=True):
            for _ in range((step + 1) * rate // 10 - step * rate // 10):
                node.request(now)
            if step % 10 == 0 or node.refused:  # a refusal is urgent
                node.exchange(now)
    for index in range(501, 504):
        assert 194 <= passed(nodes, index) <= 206
    for node in nodes:
        assert sum(node.used.get(index, 0) for index in range(501, 504)) >= 3


def test_alone_a_key_has_the_whole_limit_and_costs_no_reservation() -> None:
    node, other, _ = cluster(3, 100)
    assert sum(node.request(START) for _ in range(60)) == 60
    node.exchange(START)
    assert sum(node.request(START) for _ in range(60)) == 40
    node.exchange(START)
    assert node.limit.due == inf
    assert node.model.hashes[100, 0].claims == {KEY: 100}
    assert other.request(START)  # it cannot know yet
    other.exchange(START)
    assert not other.request(START)
    assert passed([node, other], 100) == 101


def test_a_lone_node_needs_no_first_answer() -> None:
    (node,) = cluster(1, 5)
    assert [node.request(START) for _ in range(6)] == [True] * 5 + [False]


def test_what_a_node_does_not_use_is_given_back() -> None:
    first, second, _ = cluster(3, 100, window=1000.0)
    for node in (first, second) * 2:
        node.request(START)
        node.exchange(START)
    held = second.told[1].cap - 1
    assert held >= 4
    now = START
    for _ in range(60):
        now += 0.1
        while first.request(now):
            pass
        first.exchange(now)
        if second.limit.due <= now:
            second.exchange(now)
    assert passed([first, second], 1) == 100


def test_a_lost_answer_is_not_counted_twice() -> None:
    first, second, _ = cluster(3, 100)
    second.request(START)
    second.exchange(START)
    for _ in range(7):
        first.request(START)
    first.exchange(START, lose_answer=True)
    claims = dict(first.model.hashes[100, 0].claims)
    first.exchange(START)
    assert first.model.hashes[100, 0].claims == claims
    assert first.told[100].cap == claims[KEY] - 1
    assert second.limit.used(KEY, 100) == 1


def test_after_redis_lost_everything_all_is_told_again() -> None:
    first, second, _ = cluster(3, 100)
    for node, count in ((first, 9), (second, 5)):
        for _ in range(count):
            assert node.request(START)
        node.exchange(START)
    first.exchange(START)
    first.model.hashes.clear()
    for _ in range(3):  # the first is told that it is not known, then it tells all
        for node in (first, second):
            node.limit.check()
            node.exchange(START + 1)
    assert first.model.hashes[100, 0].claims[KEY] >= 14
    claims = [node.limit._windows[100, 0].claimed(KEY) for node in (first, second)]
    assert sum(claims) == first.model.hashes[100, 0].claims[KEY]
    assert second.told[100].others == claims[0]


def test_between_a_loss_and_the_others_return_they_are_not_forgotten() -> None:
    first, second, _ = cluster(3, 20, window=1000.0)
    for node in (first, second) * 2:
        node.request(START)
        node.exchange(START)
    for _ in range(20):
        second.request(START)
        second.exchange(START)
    first.request(START)
    first.exchange(START)
    assert first.told[1].others >= 15
    first.model.hashes.clear()
    for step in range(8):
        now = START + step * 0.1
        first.limit.check()
        for _ in range(20):
            first.request(now)
        first.exchange(now)
    assert passed([first, second], 1) <= 20


def test_an_older_state_is_thrown_away_and_told_again() -> None:
    rules = Rules(100, 10.0, nodes=2)
    model = Model(rules)
    first, second = Node("1", rules, model), Node("2", rules, model)
    for node in (first, second):
        node.request(START)
        node.exchange(START)
    older = copy.deepcopy(model.hashes)
    for _ in range(3):
        first.request(START)
        first.exchange(START)
    model.hashes.clear()
    model.hashes.update(older)
    for _ in range(3):
        for node in (first, second):
            node.limit.check()
            node.exchange(START)
    claims = [node.limit._windows[100, 0].claimed(KEY) for node in (first, second)]
    assert model.hashes[100, 0].claims[KEY] == sum(claims)


def test_large_numbers_of_keys_are_told_in_portions() -> None:
    rules = Rules(100, 10.0, nodes=2)
    limit, model = Limit(rules), Model(rules)
    limit.add([(f"k{number}", 100, 1) for number in range(2500)], START)
    sizes = []
    while batches := limit.batches(START):
        for batch in batches:
            sizes.append(len(batch.keys))
            limit.answered(batch, model.call("1", batch), START)
    assert sizes == [1000, 1000, 500]
    assert limit.due == inf


def test_windows_that_count_no_more_are_forgotten() -> None:
    rules = Rules(100, 10.0, nodes=2)
    limit = Limit(rules)
    limit.add([("k", 100, 1)], START)
    limit.settle(START + 15)
    assert limit.used("k", 100) == 1
    limit.settle(START + 25)
    assert limit.used("k", 100) == 0
    limit.add([("k", 100, 1)], START + 25)
    assert not limit.batches(START + 25)


def test_an_answer_to_another_batch_changes_nothing() -> None:
    rules = Rules(100, 10.0, nodes=2)
    limit = Limit(rules)
    limit.add([("k", 100, 1)], START)
    (batch,) = limit.batches(START)
    answer = Answer(True, [50], [0], [0], [2])
    assert limit.answered(batch, answer, START)
    assert limit.answered(batch, answer, START) == []
