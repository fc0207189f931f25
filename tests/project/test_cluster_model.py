"""The model of a fleet computes what it prints, with the nodes' own rules and the script's."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import isclose
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from benchmarks.cluster.accuracy import SHAPES, case, each_window, error, percent
from benchmarks.cluster.costs import Costs
from benchmarks.cluster.facts import failures, spread
from benchmarks.cluster.leader import BEAT, ENDINGS, changes, quantile
from benchmarks.cluster.limits import KEY, Case, alone, run
from benchmarks.cluster.load import RATES, Fleet, KeyCurve, load
from benchmarks.cluster.storm import storm
from benchmarks.cluster.tables import TABLES, Model
from benchmarks.cluster.traffic import Traffic
from benchmarks.curves import Axis, Curve, Limit, draw_curves
from lb_redis.lease import MARGIN
from lb_redis.policy import Answer, Batch, Rules
from lb_redis.script import WINDOWS, answer, arguments
from lb_redis.testing import RedisServer, redis_program
from tests.support.repository import ROOT

COSTS = Costs()
SVG = "{http://www.w3.org/2000/svg}"


# traffic


@pytest.mark.parametrize(("skew", "requests"), [(0.8, 2000), (1.0, 50), (1.0, 20_000), (1.3, 5000)])
def test_as_many_keys_as_were_drawn_one_by_one(skew: float, requests: int) -> None:
    traffic = Traffic(1_000_000, 1.0, skew)
    times = 200 if requests < 100 else 5
    drawn = sum(len(set(traffic.draw(Random(seed), requests))) for seed in range(times)) / times
    assert traffic.distinct(requests) == pytest.approx(drawn, rel=0.05)


def test_the_parts_of_all_keys_are_the_whole_and_each_rank_has_its_own() -> None:
    traffic = Traffic(10_000_000, 1.0)
    assert isclose(traffic.expected(lambda part: part), 1.0)
    assert traffic.part(1) == pytest.approx(2 * traffic.part(2), rel=1e-6)
    assert traffic.part(1_000) == pytest.approx(10 * traffic.part(10_000), rel=0.03)
    with pytest.raises(ValueError, match="rank 11 of 10 keys"):
        Traffic(10, 1.0).part(11)


# limits


class Scripted:
    """The script in a real Redis, where the model has the rule in Python."""

    def __init__(self, server: RedisServer, rules: Rules) -> None:
        import redis

        self._client = redis.Redis(port=server.port, protocol=2)
        self._script = self._client.register_script(WINDOWS)
        self._rules = rules

    def call(self, node: str, batch: Batch) -> Answer:
        keys = [f"{{lb}}:{batch.index}", f"{{lb}}:{batch.index - 1}"]
        fields = [KEY.encode().ljust(8)] * len(batch.keys)
        return answer(self._script(keys=keys, args=arguments(batch, self._rules, node, fields)), batch)

    def close(self) -> None:
        self._client.close()


@pytest.mark.skipif(
    redis_program("redis-server") is None, reason="redis-server is missing: apt-get install redis-server"
)
@pytest.mark.parametrize("shape", ["even", "hot", "late"])
def test_a_real_redis_gives_the_same_requests_at_the_same_moments(shape: str) -> None:
    one = replace(case(shape, 5, limit=100, window=2.0), windows=2.0)
    with RedisServer() as server:
        counts = Scripted(server, Rules(one.limit, one.window, nodes=5))
        try:
            real = run(one, 1, counts)
        finally:
            counts.close()
    assert real == run(one, 1)
    assert len(real.passed) >= 100


@pytest.mark.parametrize("shape", list(SHAPES))
def test_the_same_seed_gives_the_same_and_another_does_not(shape: str) -> None:
    one = case(shape, 10, limit=200)
    assert run(one, 7) == run(one, 7)
    assert run(one, 7).passed != run(one, 8).passed


@pytest.mark.parametrize("shape", list(SHAPES))
def test_three_nodes_keep_a_limit_of_a_thousand_within_three_per_cent(shape: str) -> None:
    found = error(case(shape, 3), 1)
    assert abs(found.first) <= 0.03
    assert abs(found.later) <= 0.03


def test_one_limiter_lets_through_what_a_sliding_window_lets_through() -> None:
    one = alone(Case((100.0, 100.0), limit=100, window=2.0), 1)
    assert one.between(0.0, 2.0) == 100
    assert one.between(2.0, 4.0) == pytest.approx(100, abs=2)
    assert one.between(4.0, 6.0) == pytest.approx(100, abs=2)
    free = alone(Case((5.0, 5.0), limit=1000, window=2.0), 1)
    assert len(free.passed) == pytest.approx(60, abs=25)


def test_more_nodes_that_begin_late_let_more_through() -> None:
    errors = [error(case("late", nodes), 1).first for nodes in (3, 30, 100)]
    assert errors == sorted(errors)
    assert errors[-1] > 0.1


def test_errors_are_told_with_their_sign_and_sorted() -> None:
    assert [percent(part) for part in (0.0004, 0.0312, -0.0312, 2.0)] == ["0 %", "+3.1 %", "-3.1 %", "+200 %"]
    values = each_window(case("even", 3, limit=100), range(2))
    assert values == sorted(values)
    assert len(values) == 4


# Redis


def test_what_is_said_of_a_key_lies_between_the_rates_that_were_simulated() -> None:
    curve = KeyCurve(Fleet(3, limit=100, window=1.0), 1)
    for low, high in pairwise(RATES):
        ends = sorted((curve.at(low).entries, curve.at(high).entries))
        assert ends[0] * 0.999 <= curve.at((low * high) ** 0.5).entries <= ends[1] * 1.001
    assert curve.at(RATES[0] / 10).entries == pytest.approx(curve.at(RATES[0]).entries / 10)
    assert curve.at(RATES[-1] * 10) == curve.at(RATES[-1])


def test_the_load_of_redis_is_the_sum_over_the_keys() -> None:
    fleet = Fleet(3, limit=100, window=1.0)
    curve = KeyCurve(fleet, 1)
    few, many = (load(Traffic(1000, rate), fleet, curve, COSTS) for rate in (100.0, 3000.0))
    assert few.keys < many.keys
    assert few.cpu < many.cpu
    by_hand = sum(curve.at(100.0 * Traffic(1000, 100.0).part(rank)).entries for rank in range(1, 1001))
    assert few.keys == pytest.approx(by_hand, rel=0.02)
    dear = load(Traffic(1000, 3000.0), fleet, curve, replace(COSTS, key=1.0))
    assert not dear.holds
    assert many.holds
    assert many.bytes_in > many.bytes_out > 0


# facts, leaders, storms


def test_who_has_heard_of_a_fact_does_not_tell_it() -> None:
    told = spread([1.0, 1.5, 2.0], COSTS, 0.001)
    assert told.publishers == 1
    assert 0.002 < told.everywhere < 0.003
    assert spread([1.0] * 50, COSTS, 0.001).publishers == 50


def test_more_nodes_hear_later_and_cost_more() -> None:
    found = [spread(failures(Random(1), nodes, 10.0), COSTS, 0.0005) for nodes in (3, 100, 1000)]
    assert [told.everywhere for told in found] == sorted(told.everywhere for told in found)
    assert [told.redis_seconds for told in found] == sorted(told.redis_seconds for told in found)


def test_a_lease_bounds_how_long_nobody_leads_and_never_lets_two() -> None:
    found = {ending: changes(Random(1), 5, ending, lease=10.0, times=200) for ending in ENDINGS}
    assert found["killed"].nobody[-1] <= 10.0 + BEAT + 0.01
    assert found["killed"].nobody[0] >= 10.0 - 10.0 / 3 - BEAT - 0.01
    assert found["cut off"].nobody[0] >= 10.0 * MARGIN
    assert found["stopped"].nobody[-1] <= BEAT + 0.01
    assert all(not found[ending].two[-1] for ending in ENDINGS if ending != "emptied")
    assert found["emptied"].two[-1] > 0
    assert changes(Random(1), 5, "killed", times=50) == changes(Random(1), 5, "killed", times=50)
    assert quantile((1.0, 2.0, 3.0), 0.5) == 2.0
    assert quantile((1.0, 2.0, 3.0), 1.0) == 3.0


def test_a_storm_lasts_as_long_as_what_must_be_said_again() -> None:
    few, many = (storm(Random(1), nodes, 10_000, COSTS) for nodes in (3, 300))
    assert few.connected <= few.said_again < many.said_again
    work = 300 * 10_000 * COSTS.key
    assert many.said_again == pytest.approx(work, rel=0.35)
    assert storm(Random(1), 300, 10_000, COSTS, steady=0.5).said_again > 1.5 * many.said_again


# tables and drawings


def test_the_tables_are_markdown_and_the_same_for_the_same_seed() -> None:
    tables = {table.name: str(table) for table in Model(COSTS, most=3).tables()}
    again = Model(COSTS, most=3)
    assert [tables[table.name] for table in (again.limits(), again.redis(), again.storms(), again.leader())] == [
        str(table) for table in (again.limits(), again.redis(), again.storms(), again.leader())
    ]
    assert tuple(tables) == TABLES
    for text in tables.values():
        lines = text.splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) > 2


def test_the_page_has_a_section_for_every_table_and_names_every_shape() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    for table in TABLES:
        assert f"<!-- {table}:begin -->\n|" in page, table
    for shape, about in SHAPES.items():
        assert f"| {shape} | {about} |" in page


def test_curves_are_drawn_with_their_marks_names_and_a_description() -> None:
    one, other = Curve("one & all", [(1, 10), (10, 20), (100, 40)]), Curve("other", [(1, 3), (100, 41)])
    text = draw_curves("Title", "What it is.", Axis("nodes"), Axis("ms"), [one, other], Limit("at most 30", 30))
    root = ElementTree.fromstring(text)
    marks = [part for part in root.iter() if "mark" in part.get("class", "").split()]
    assert len(marks) == 5
    names = [part for part in root.iter(f"{SVG}text") if "name" in part.get("class", "").split()]
    assert {name.text for name in names} == {"one & all", "other"}
    heights = [float(name.get("y", "0")) for name in names]
    assert abs(heights[0] - heights[1]) >= 17
    described = root.findtext(f"{SVG}desc") or ""
    assert "one & all: 10 at 1, 20 at 10, 40 at 100." in described
    width, height = (float(root.get(side, "0")) for side in ("width", "height"))
    for part in marks:
        if part.tag == f"{SVG}circle":
            assert 0 < float(part.get("cx", "0")) < width
            assert 0 < float(part.get("cy", "0")) < height


@pytest.mark.skipif(
    redis_program("redis-server") is None, reason="redis-server is missing: apt-get install redis-server"
)
def test_costs_are_measured_at_a_real_redis() -> None:
    from benchmarks.cluster.measured import measure

    found = measure(subscribers=20, keys=5000, members=100)
    assert 1e-6 < found.pipeline + found.call < 1e-3
    assert 1e-7 < found.key < 1e-4
    assert 20 <= found.key_bytes_in <= 30
    assert 12 <= found.key_bytes_out <= 20
    assert 40 <= found.memory_key <= 200
    assert found.fact_bytes >= 150
    assert found.beat > found.listed > 0


def test_a_drawing_of_the_page_exists_for_every_image() -> None:
    for name in ("scale-limits.svg", "scale-redis.svg", "scale-facts.svg"):
        assert Path(ROOT / "docs" / "images" / name).is_file()
