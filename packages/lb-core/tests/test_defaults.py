"""The built-ins are plugins, and least_connections keeps what it promises."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core import defaults
from lb_core.backend import Backend
from lb_core.defaults.least_connections import REMEMBERED, SCANNED_MOST, LeastConnections
from lb_core.plugins import Plugins

EXCHANGE: Any = None


def backends(count: int, *weights: int) -> tuple[Backend, ...]:
    return tuple(Backend(f"b{n}", "h", n, weight=weights[n % len(weights)] if weights else 1) for n in range(count))


def picks(strategy: LeastConnections, candidates: tuple[Backend, ...], count: int) -> list[str]:
    return [strategy.select_backend(EXCHANGE, candidates).name for _ in range(count)]


def test_the_built_ins_are_registered_by_hooks() -> None:
    plugins = Plugins.discover(disable=["lb-strategies"])
    assert plugins.loaded[0].object is defaults
    assert plugins.features["ejection"].settings is defaults.EjectionSettings
    for name in ("least_connections", "leastconn", "least_conn", "least_request"):
        assert plugins.strategies[name].build is LeastConnections


@given(st.integers(1, 60), st.integers(0, 200), st.integers())
def test_with_nothing_in_flight_it_is_round_robin(count: int, asked: int, seed: int) -> None:
    candidates = backends(count)
    names = picks(LeastConnections(Random(seed)), candidates, asked)
    for begin in range(0, asked, count):
        part = names[begin : begin + count]
        assert len(set(part)) == len(part), "nobody twice in a round"
    counts = Counter(dict.fromkeys((backend.name for backend in candidates), 0)) + Counter(names)
    assert max(counts.values(), default=0) - min((counts[b.name] for b in candidates), default=0) <= 1


def test_several_workers_do_not_begin_with_the_same_backend() -> None:
    candidates = backends(4)
    assert len({picks(LeastConnections(Random(seed)), candidates, 1)[0] for seed in range(40)}) == 4


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=SCANNED_MOST), st.integers())
def test_up_to_sixteen_the_least_busy_for_its_weight(facts: list[tuple[int, int]], seed: int) -> None:
    candidates = backends(len(facts), *(weight for _, weight in facts))
    for backend, (busy, _) in zip(candidates, facts, strict=True):
        backend.in_flight = busy
    strategy = LeastConnections(Random(seed))
    least = min(b.in_flight / b.weight for b in candidates)
    tied = {b.name for b in candidates if b.in_flight / b.weight == least}
    seen = set(picks(strategy, candidates, 5 * len(facts)))
    assert seen <= tied
    if len({weight for _, weight in facts}) == 1:
        assert seen == tied, "ties rotate"


@pytest.mark.parametrize("weights", [(3, 1), (5, 1, 1), (1, 2, 3, 4), (1000, 1, 500), (7, 7, 7, 1)])
def test_with_nothing_in_flight_weights_are_shares(weights: tuple[int, ...]) -> None:
    candidates = backends(len(weights), *weights)
    rounds = 3
    names = picks(LeastConnections(Random(1)), candidates, rounds * sum(weights))
    counts = Counter(names)
    for backend in candidates:
        assert abs(counts[backend.name] - rounds * backend.weight) <= 1


def test_weighted_turns_are_smooth() -> None:
    candidates = backends(3, 4, 1, 1)
    names = "".join(name[1] for name in picks(LeastConnections(Random(1)), candidates, 600))
    assert "00000" not in names, "a heavy backend's turns are spread over the round"


def test_a_backend_that_was_busy_does_not_catch_up_on_missed_turns() -> None:
    busy, idle, other = candidates = backends(3, 2, 2, 1)
    strategy = LeastConnections(Random(1))
    busy.in_flight = 9
    picks(strategy, candidates, 300)
    busy.in_flight = 0
    counts = Counter(picks(strategy, candidates, 50))
    assert counts[busy.name] <= 21
    assert counts[idle.name] >= 19
    assert counts[other.name] >= 9


def test_many_backends_of_several_weights_get_their_shares() -> None:
    candidates = backends(40, 3, 1)
    counts = Counter(picks(LeastConnections(Random(1)), candidates, 8000))
    heavy = sum(counts[b.name] for b in candidates if b.weight == 3)
    assert heavy / 8000 == pytest.approx(0.75, abs=0.02)
    assert min(counts[b.name] for b in candidates) > 50


def in_flight_under_load(choose: Callable[[tuple[Backend, ...]], Backend], candidates: tuple[Backend, ...]) -> float:
    """The mean over arrivals of the busiest backend's requests for its weight, with five a weight in flight."""
    random = Random(7)
    total = sum(b.weight for b in candidates)
    running: list[tuple[float, int, Backend]] = []
    now, worst, measured = 0.0, 0.0, 0
    for number in range(10_000):
        now += random.expovariate(5 * total)
        while running and running[0][0] <= now:
            heapq.heappop(running)[2].in_flight -= 1
        chosen = choose(candidates)
        chosen.in_flight += 1
        heapq.heappush(running, (now + random.expovariate(1), number, chosen))
        if number > 3000 and number % 10 == 0:
            worst += max(b.in_flight / b.weight for b in candidates)
            measured += 1
    return worst / measured


@pytest.mark.parametrize("weights", [(), (3, 1)])
def test_above_sixteen_the_load_is_nearly_as_even_as_with_a_full_scan(weights: tuple[int, ...]) -> None:
    random = Random(3)
    strategy = LeastConnections(Random(1))
    sampled = in_flight_under_load(lambda them: strategy.select_backend(EXCHANGE, them), backends(100, *weights))
    full = in_flight_under_load(lambda them: min(them, key=lambda b: b.in_flight / b.weight), backends(100, *weights))
    drawn = in_flight_under_load(lambda them: random.choice(them), backends(100, *weights))
    assert sampled < full + 2.5
    assert sampled < drawn - 3


def test_a_pick_costs_the_same_for_twenty_and_for_a_thousand() -> None:
    def seconds(count: int) -> float:
        candidates = backends(count)
        for number, backend in enumerate(candidates):
            backend.in_flight = 1 + number % 7
        strategy = LeastConnections()
        picks(strategy, candidates, 10)
        best = 1.0
        for _ in range(20):
            begin = time.perf_counter()
            for _ in range(200):
                strategy.select_backend(EXCHANGE, candidates)
            best = min(best, time.perf_counter() - begin)
        return best

    assert seconds(1000) < 3 * seconds(20)


def test_retries_among_the_others_do_not_disturb_the_rotation() -> None:
    candidates = backends(4)
    others = candidates[1:]
    strategy = LeastConnections(Random(1))
    names = []
    for _ in range(8):
        names += picks(strategy, candidates, 1)
        picks(strategy, others, 1)
    assert len(set(names[:4])) == len(set(names[4:])) == 4


def test_changed_candidates_are_noticed_and_the_old_ones_let_go() -> None:
    strategy = LeastConnections(Random(1))
    for count in range(1, 3 * REMEMBERED):
        candidates = backends(count)
        assert set(picks(strategy, candidates, count)) == {backend.name for backend in candidates}
    assert len(strategy._known) <= REMEMBERED
