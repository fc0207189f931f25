"""Pool: who may be chosen, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.backend import Backend
from lb_core.pool import Pool

if TYPE_CHECKING:
    from lb_core.events import Event


def backends(count: int) -> list[Backend]:
    return [Backend(f"b{number}", "h", number + 1) for number in range(count)]


def names(pool: Pool) -> str:
    return " ".join(backend.name for backend in pool.candidates)


def test_candidates_are_active_up_and_of_weight() -> None:
    up, down, draining, starting, weightless = made = backends(5)
    down.health, draining.mode, starting.health, weightless.weight = "down", "draining", "starting", 0
    assert Pool("p", made).candidates == (up,)


def test_backups_serve_when_nobody_else_can() -> None:
    main, other = backends(2)
    backup = Backend("backup", "h", 9, backup=True)
    pool = Pool("p", [main, other, backup])
    assert names(pool) == "b0 b1"
    pool.set_health(main, "down")
    assert names(pool) == "b1"
    pool.eject(other, "failed")
    assert names(pool) == "backup"
    pool.set_health(main, "up")
    assert names(pool) == "b0"


def test_the_ejected_serve_as_a_last_resort_but_not_behind_an_open_breaker() -> None:
    one, two = backends(2)
    pool = Pool("p", [one, two])
    pool.eject(one, "failed")
    pool.eject(two, "breaker open", last_resort=False)
    assert names(pool) == "b0"
    pool.restore(one)
    assert names(pool) == "b0"
    pool.eject(one, "breaker open", last_resort=False)
    assert names(pool) == ""


def test_who_was_ejected_twice_is_back_when_both_have_ended() -> None:
    one = Backend("one", "h", 1)
    pool = Pool("p", [one])
    pool.eject(one, "failed")
    assert pool.candidates == (one,)
    pool.eject(one, "failed again", last_resort=False, by="another")
    assert (pool.candidates, one.reason) == ((), "failed again")
    pool.restore(one)
    pool.restore(one)
    assert (one.ejected, pool.candidates) == (True, ())
    pool.eject(one, "failed")
    pool.restore(one, by="another")
    assert (one.ejected, pool.candidates) == (True, (one,))
    pool.restore(one, by="somebody who did not eject it")
    pool.restore(one)
    assert not one.ejected


def test_a_main_backend_is_a_last_resort_before_an_ejected_backup() -> None:
    main, backup = Backend("main", "h", 1), Backend("backup", "h", 2, backup=True)
    pool = Pool("p", [main, backup])
    pool.eject(backup, "failed")
    pool.eject(main, "failed")
    assert names(pool) == "main"
    pool.set_health(main, "down")
    assert names(pool) == "backup"
    pool.set_health(backup, "down")
    assert names(pool) == ""


def test_the_tuple_stays_the_same_object_until_something_changes() -> None:
    one, two, three = made = backends(3)
    pool = Pool("p", made)
    before, others = pool.candidates, pool.others(one)
    assert others == (two, three)
    assert pool.others(one) is others
    pool.rebuild()
    pool.replace(made)
    pool.set_health(one, "up")
    assert pool.candidates is before
    assert pool.others(one) is others
    pool.set_mode(three, "draining")
    assert pool.candidates == (one, two)
    assert pool.others(one) == (two,)


def test_a_changed_weight_makes_a_new_tuple() -> None:
    one, two = made = backends(2)
    pool = Pool("p", made)
    before, others = pool.candidates, pool.others(one)
    two.weight = 5
    pool.replace(made)
    assert pool.candidates == before
    assert pool.candidates is not before
    assert pool.others(one) is not others
    two.weight = 0
    pool.replace(made)
    assert pool.candidates == (one,)


def test_others_of_the_only_one_and_of_a_stranger() -> None:
    (one,) = made = backends(1)
    pool = Pool("p", made)
    assert pool.others(one) == ()
    assert pool.others(Backend("x", "h", 1)) == (one,)


def test_with_room() -> None:
    one, two, three = made = backends(3)
    for backend, limit, busy, weight in ((one, 2, 2, 1), (two, 10, 4, 1), (three, 10, 6, 3)):
        backend.limit, backend.in_flight, backend.weight = limit, busy, weight
    pool = Pool("p", made)
    assert pool.with_room(pool.candidates) is three
    three.in_flight = 10
    assert pool.with_room(pool.candidates) is two
    two.in_flight = 10
    assert pool.with_room(pool.candidates) is None
    assert pool.with_room(()) is None
    two.in_flight, two.weight = 0, 0
    assert pool.with_room(pool.candidates) is None


def test_replace_keeps_state_and_forgets_who_left() -> None:
    one, two = backends(2)
    pool = Pool("p", [one, two])
    pool.eject(one, "failed")
    one.requests = 7
    three = Backend("b3", "h", 3)
    pool.replace([one, three])
    assert names(pool) == "b3"
    assert one.requests == 7
    pool.replace([three])
    pool.replace([three, one])
    pool.set_health(three, "down")
    assert names(pool) == "", "the ejection is no last resort of this pool any more"


def test_find() -> None:
    pool = Pool("example.com", backends(2))
    assert pool.find("b1") is pool.backends[1]
    with pytest.raises(KeyError, match=r"no backend 'b7' in 'example.com': there are b0, b1"):
        pool.find("b7")


def test_starting() -> None:
    one, two = made = backends(2)
    one.health = two.health = "starting"
    pool = Pool("p", made)
    assert pool.starting
    pool.set_mode(one, "maintenance")
    assert pool.starting
    pool.set_health(two, "down")
    assert not pool.starting
    pool.set_mode(one, "active")
    assert pool.starting
    pool.set_health(one, "up")
    assert not pool.starting


class Asking:
    """A request in the queue that takes the first candidate with room."""

    def __init__(self, pool: Pool, served: list[str]) -> None:
        self.pool = pool
        self.served = served

    def take_turn(self) -> None:
        backend = self.pool.with_room(self.pool.candidates)
        if backend is not None:
            backend.in_flight += 1
        self.served.append(backend.name if backend else "nobody")


def queued(pool: Pool, count: int) -> tuple[list[Asking], list[str]]:
    served: list[str] = []
    asking = [Asking(pool, served) for _ in range(count)]
    for each in asking:
        pool.wait(each)
    return asking, served


def test_the_queue_is_served_when_the_first_check_passes() -> None:
    one, two = made = backends(2)
    one.health = two.health = "starting"
    pool = Pool("p", made)
    _, served = queued(pool, 2)
    pool.set_health(two, "down")
    assert served == []
    pool.set_health(one, "up")
    assert served == ["b0", "b0"]
    assert one.freed is None
    assert not pool.queue


def test_the_queue_is_told_when_there_is_nobody_to_wait_for() -> None:
    (one,) = made = backends(1)
    one.health = "starting"
    pool = Pool("p", made)
    _, served = queued(pool, 2)
    pool.set_health(one, "down")
    assert served == ["nobody", "nobody"]


def test_one_that_ends_lets_one_in_and_the_first_come_is_the_first_served() -> None:
    one, two = made = backends(2)
    pool = Pool("p", made)
    for backend in made:
        pool.set_limit(backend, 1)
        backend.in_flight = 1
    asking, served = queued(pool, 3)
    assert one.freed is not None
    assert two.freed is not None
    two.in_flight = 0
    two.freed()
    assert served == ["b1"]
    assert list(pool.queue) == asking[1:]
    pool.leave_queue(asking[1])
    pool.leave_queue(asking[0])
    assert list(pool.queue) == asking[2:]
    one.in_flight = 0
    one.freed()
    assert served == ["b1", "b0"]
    assert (one.freed, two.freed) == (None, None), "nobody waits: ending a request asks nobody"


def test_a_limit_that_rises_and_a_backend_that_joins_serve_the_queue() -> None:
    (one,) = made = backends(1)
    pool = Pool("p", made)
    pool.restrict(one, 1)
    one.in_flight = 1
    _, served = queued(pool, 4)
    pool.restrict(one, 3)
    assert served == ["b0", "b0"]
    pool.set_limit(one, 2)
    assert (one.limit, one.max_connections) == (2, 2)
    pool.replace([one, Backend("new", "h", 9)])
    assert served == ["b0", "b0", "new", "new"]
    pool.restrict(one, None)
    assert one.limit == 2


def test_a_backend_that_leaves_forgets_the_queue() -> None:
    one, two = made = backends(2)
    pool = Pool("p", made)
    for backend in made:
        pool.set_limit(backend, 1)
        backend.in_flight = 1
    queued(pool, 1)
    pool.replace([two])
    assert one.freed is None
    assert two.freed is not None


def test_listeners_hear_when_the_candidates_change_and_only_then() -> None:
    one, two = made = backends(2)
    pool = Pool("p", made)
    heard: list[str] = []
    pool.on_change.append(lambda: heard.append(names(pool)))
    pool.set_health(one, "down")
    pool.eject(one, "failed")
    pool.set_warmth(two, 0.5)
    assert heard == ["b1", "b1"]


def test_weight_and_warmth() -> None:
    one, two = made = backends(2)
    pool = Pool("p", made)
    before = pool.candidates
    pool.set_weight(one, 3)
    assert (one.weight, one.configured_weight) == (3, 3)
    assert pool.candidates is not before
    pool.set_warmth(one, 0.1)
    assert one.weight == pytest.approx(0.3)
    pool.set_weight(one, 10)
    assert (one.weight, one.configured_weight) == (1, 10)
    pool.set_warmth(one, 1.0)
    assert one.weight == 10
    pool.set_weight(one, 0)
    assert names(pool) == "b1"
    assert two.weight == 1


def test_a_draining_backend_serves_its_own_clients_until_the_deadline() -> None:
    now = 1000.0
    one, two = made = backends(2)
    pool = Pool("p", made, clock=lambda: now)
    assert one.serves_known(now)
    pool.set_mode(one, "draining", seconds=5)
    assert one.serves_known(now + 4.9)
    assert not one.serves_known(now + 5)
    pool.set_weight(two, 0)
    assert two.serves_known(now + 29)
    assert not two.serves_known(now + 30)
    pool.set_health(two, "down")
    assert not two.serves_known(now)
    pool.set_mode(one, "maintenance")
    assert not one.serves_known(now)
    pool.set_mode(one, "active")
    assert one.serves_known(now)
    pool.eject(one, "failed")
    assert not one.serves_known(now)


def test_watchers_hear_of_every_replacement() -> None:
    made = backends(2)
    pool = Pool("p", made)
    heard: list[int] = []
    pool.watchers.append(lambda: heard.append(len(pool.backends)))
    pool.replace(made[:1])
    pool.set_health(made[0], "down")
    pool.replace(made)
    assert heard == [1, 2]


CHANGES: list[tuple[Callable[[Pool, Backend], None], str, str]] = [
    (lambda pool, b: pool.set_health(b, "down", "3 checks failed"), "backend_down", "3 checks failed"),
    (lambda pool, b: pool.set_health(b, "up", "passed"), "backend_up", "passed"),
    (lambda pool, b: pool.set_mode(b, "draining"), "backend_draining", "draining"),
    (lambda pool, b: pool.set_mode(b, "maintenance", "disk"), "backend_maintenance", "disk"),
    (lambda pool, b: pool.set_mode(b, "active"), "backend_active", "up"),
    (lambda pool, b: pool.eject(b, "failed"), "backend_ejected", "failed"),
    (lambda pool, b: pool.restore(b, "over"), "backend_restored", "over"),
]


def test_every_change_is_told_once() -> None:
    events: list[Event] = []
    now = 1000.0
    (one,) = made = backends(1)
    pool = Pool("example.com", made, notify=events.append, clock=lambda: now)
    for change, kind, message in CHANGES:
        now += 1
        change(pool, one)
        change(pool, one)
        assert (events[-1].kind, events[-1].message) == (kind, message)
        assert (events[-1].route, events[-1].backend) == ("example.com", "b0")
        assert one.since == now
    assert len(events) == len(CHANGES)
    assert one.state == "up"


def test_the_reason_is_that_of_the_state_that_is_shown() -> None:
    pool = Pool("p", backends(1))
    (one,) = pool.backends
    pool.eject(one, "5 failures")
    pool.set_health(one, "down", "refused")
    pool.restore(one, "tried again")
    assert (one.state, one.reason) == ("down", "refused")
    pool.set_mode(one, "maintenance", "new disk")
    pool.set_health(one, "up", "passed")
    assert (one.state, one.reason) == ("maintenance", "new disk")
    pool.set_mode(one, "active", "disk is in")
    assert (one.state, one.reason) == ("up", "disk is in")


def test_a_backend_that_left_changes_in_silence() -> None:
    events: list[Event] = []
    one, two = backends(2)
    pool = Pool("p", [one, two], notify=events.append)
    pool.eject(one, "failed")
    pool.replace([two])
    events.clear()
    pool.restore(one)
    assert not one.ejected
    assert events == []


FACTS = st.tuples(
    st.sampled_from(["active", "draining", "maintenance"]),
    st.sampled_from(["up", "down", "starting"]),
    st.sampled_from(["no", "resort", "breaker"]),
    st.booleans(),
    st.integers(0, 2),
)


@given(st.lists(FACTS, max_size=6))
def test_candidates_follow_the_rules_whatever_happens(facts: list[tuple[str, str, str, bool, int]]) -> None:
    made = [Backend(f"b{n}", "h", 1, backup=fact[3], weight=fact[4]) for n, fact in enumerate(facts)]
    pool = Pool("p", made)
    for backend, (mode, health, ejected, _, _) in zip(made, facts, strict=True):
        pool.set_mode(backend, mode)  # type: ignore[arg-type]
        pool.set_health(backend, health)  # type: ignore[arg-type]
        if ejected != "no":
            pool.eject(backend, "x", last_resort=ejected == "resort")
    able = [(b, f) for b, f in zip(made, facts, strict=True) if f[0] == "active" and f[1] == "up" and f[4]]
    stages = [
        [b for b, f in able if f[2] == "no" and not f[3]],
        [b for b, f in able if f[2] == "no" and f[3]],
        [b for b, f in able if f[2] == "resort" and not f[3]],
        [b for b, f in able if f[2] == "resort" and f[3]],
    ]
    assert list(pool.candidates) == next((stage for stage in stages if stage), [])
