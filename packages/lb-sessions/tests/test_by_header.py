"""Where a header's values are served."""

from __future__ import annotations

from collections import Counter

import pytest

from lb_core import Backend, Exchange, Pool
from lb_core.errors import BackendReset, ConnectFailed
from lb_core.testing import exchange, pool
from lb_sessions import HeaderSessions
from lb_sessions.by_header import slot_of
from lb_sessions.rendezvous import best

VALUES = [f"user{number}" for number in range(400)]
SLOTS = range(10_000)


class Balancing:
    """A pool, and requests to it that share one clock."""

    def __init__(self, backends: tuple[Backend, ...]) -> None:
        self.now = 1000.0
        self.pool = Pool("testing", backends, clock=lambda: self.now)
        self.sessions = HeaderSessions("X-User")

    def request(self, value: str = "") -> Exchange:
        made = exchange(headers={"x-user": value} if value else {}, backends=self.pool.backends)
        made.pool = self.pool
        return made

    def chosen(self, value: str) -> Backend | None:
        return self.sessions.select_backend(self.request(value), self.pool.candidates)

    def homes(self) -> dict[str, Backend | None]:
        return {value: self.chosen(value) for value in VALUES}


@pytest.fixture
def balancing() -> Balancing:
    return Balancing(pool(4))


def test_a_value_has_one_backend_in_whatever_order_they_stand(balancing: Balancing) -> None:
    found = balancing.homes()
    assert set(found.values()) == set(balancing.pool.backends)
    assert balancing.homes() == found
    again = Balancing(tuple(reversed(balancing.pool.backends)))
    assert again.homes() == found


def test_without_the_header_the_strategy_decides(balancing: Balancing) -> None:
    assert balancing.chosen("") is None


def test_only_the_values_of_a_backend_that_leaves_move(balancing: Balancing) -> None:
    before = balancing.homes()
    gone = balancing.pool.backends[1]
    balancing.pool.set_health(gone, "down")
    after = balancing.homes()
    assert all(after[value] is home for value, home in before.items() if home is not gone)
    assert gone not in after.values()
    made = balancing.request(next(value for value, home in before.items() if home is gone))
    chosen = balancing.sessions.select_backend(made, balancing.pool.candidates)
    assert chosen is not None
    assert "instead of b1 (down)" in balancing.sessions.why(made, balancing.pool.candidates, chosen)
    balancing.pool.set_health(gone, "up")
    assert balancing.homes() == before
    assert balancing.sessions.why(made, balancing.pool.candidates, gone).endswith("by the header X-User")


def test_a_draining_backend_keeps_its_values_until_the_deadline(balancing: Balancing) -> None:
    before = balancing.homes()
    drains = balancing.pool.backends[1]
    balancing.pool.set_mode(drains, "draining", seconds=10)
    assert balancing.homes() == before
    balancing.pool.set_health(drains, "down")
    assert drains not in balancing.homes().values()
    balancing.pool.set_health(drains, "up")
    assert balancing.homes() == before
    balancing.now += 10
    assert drains not in balancing.homes().values()
    assert balancing.request("user1").flags == ()


def test_where_nobody_is_a_candidate_who_drains_keeps_its_values(balancing: Balancing) -> None:
    before = balancing.homes()
    for each in balancing.pool.backends:
        balancing.pool.set_mode(each, "draining", seconds=10)
    assert {value: balancing.sessions.keeps(balancing.request(value)) for value in VALUES} == before
    assert balancing.sessions.keeps(balancing.request()) is None
    made = balancing.request("user1")
    made.backend, made.error = before["user1"], ConnectFailed("refused")
    assert balancing.sessions.keeps(made) is not before["user1"]
    balancing.now += 10
    assert balancing.sessions.keeps(balancing.request("user1")) is None


def test_full_backends_are_passed_over(balancing: Balancing) -> None:
    before = balancing.homes()
    home = before["user1"]
    assert home is not None
    for each in balancing.pool.backends:
        balancing.pool.set_limit(each, 1)
    home.in_flight = 1
    made = balancing.request("user1")
    other = balancing.sessions.select_backend(made, balancing.pool.candidates)
    assert other not in (home, None)
    assert made.flags == ("repicked",)
    for each in balancing.pool.backends:
        each.in_flight = 1
    assert balancing.chosen("user1") is home  # where it waits for its turn
    home.in_flight = 0
    assert balancing.chosen("user1") is home


def test_a_retry_goes_to_the_next_unless_only_a_kept_connection_had_died(balancing: Balancing) -> None:
    home = balancing.chosen("user1")
    assert home is not None
    others = balancing.pool.others(home)
    made = balancing.request("user1")
    made.backend, made.error = home, BackendReset("closed", reused=True)
    assert balancing.sessions.select_backend(made, others) is home
    made.error = BackendReset("closed")
    assert balancing.sessions.select_backend(made, others) in others
    assert made.flags == ("repicked",)


def test_a_backup_has_no_values_while_others_are_there() -> None:
    balancing = Balancing(pool(a={}, b={}, spare={"backup": True}))
    a, b, spare = balancing.pool.backends
    assert set(balancing.homes().values()) == {a, b}
    balancing.pool.set_health(a, "down")
    balancing.pool.set_health(b, "down")
    assert set(balancing.homes().values()) == {spare}


def test_shares_follow_the_weights() -> None:
    backends = pool(a={"weight": 1}, b={"weight": 3})
    found = Counter(best(slot, backends) for slot in SLOTS)
    assert 0.73 < found[backends[1]] / len(SLOTS) < 0.77
    equal = pool(10)
    counts = Counter(best(slot, equal) for slot in SLOTS)
    assert all(850 < counts[each] < 1150 for each in equal)


def test_another_weight_moves_no_more_than_it_must() -> None:
    backends = pool(a={"weight": 1}, b={"weight": 1})
    before = [best(slot, backends) for slot in SLOTS]
    backends[1].configured_weight = 2
    after = [best(slot, backends) for slot in SLOTS]
    moved = [(was, now) for was, now in zip(before, after, strict=True) if was is not now]
    assert set(moved) == {(backends[0], backends[1])}
    assert 0.145 < len(moved) / len(SLOTS) < 0.19  # a sixth: from a half to two thirds


def test_a_weight_of_0_keeps_a_part_for_the_drain() -> None:
    backends = pool(a={"weight": 0}, b={"weight": 1})
    assert {best(slot, backends) for slot in range(100)} == set(backends)


def test_values_have_slots() -> None:
    assert len({slot_of(value) for value in VALUES}) > 390
    assert slot_of("h\xe9") == slot_of("h\xe9")
