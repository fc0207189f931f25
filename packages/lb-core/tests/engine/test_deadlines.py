"""The coarse timer, with a clock of its own and with the real one."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lb_core.engine.deadlines import NEVER, PERIOD, Deadlines


class Waiting:
    """A connection with a deadline."""

    def __init__(self, deadline: float, until: float = NEVER) -> None:
        self.deadline = deadline
        self.until = until
        self.told: list[float] = []

    def expired(self, now: float) -> None:
        self.told.append(now)
        self.deadline = self.until


class Failing(Waiting):
    """One whose end goes wrong."""

    def expired(self, now: float) -> None:
        raise RuntimeError("broken")


def at(now: float, *connections: Waiting) -> tuple[Deadlines, list[float]]:
    clock = [now]
    deadlines = Deadlines(lambda: clock[0])
    deadlines.connections.update(connections)
    return deadlines, clock


def test_what_is_due_expires_and_nothing_else() -> None:
    due, later, never = Waiting(99.0), Waiting(101.0), Waiting(NEVER)
    deadlines, clock = at(100.0, due, later, never)
    deadlines.sweep()
    assert (due.told, later.told, never.told) == ([100.0], [], [])
    clock[0] = 102.0
    deadlines.sweep()
    assert (due.told, later.told, never.told) == ([100.0], [102.0], [])


def test_deadlines_are_reckoned_from_the_next_sweep_so_that_none_is_early() -> None:
    deadlines, clock = at(100.0)
    clock[0] = 105.0
    assert deadlines.now == 100.0 + PERIOD
    deadlines.sweep()
    assert deadlines.now == 105.0 + PERIOD


def test_a_connection_may_set_another_deadline() -> None:
    twice = Waiting(1.0, until=50.0)
    deadlines, clock = at(10.0, twice)
    deadlines.sweep()
    clock[0] = 60.0
    deadlines.sweep()
    assert twice.told == [10.0, 60.0]


def test_a_connection_may_leave_while_others_expire() -> None:
    connections = [Waiting(1.0) for _ in range(5)]
    deadlines, _ = at(10.0, *connections)
    for each in connections:
        each.expired = lambda now, each=each: deadlines.connections.discard(each)  # type: ignore[method-assign,misc]
    deadlines.sweep()
    assert not deadlines.connections


def test_one_that_fails_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    failing, others = Failing(1.0), [Waiting(1.0) for _ in range(5)]
    deadlines, _ = at(10.0, failing, *others)
    with caplog.at_level(logging.ERROR):
        deadlines.sweep()
    assert all(each.told == [10.0] for each in others)
    assert failing not in deadlines.connections
    assert "watched no more" in caplog.text


async def test_it_sweeps_twice_a_second_until_it_is_stopped() -> None:
    deadlines = Deadlines()
    swept: list[float] = []
    due = Waiting(deadlines.now)
    deadlines.connections.add(due)
    deadlines.start(swept.append)
    await asyncio.sleep(2.5 * PERIOD)
    deadlines.stop()
    assert len(swept) == 2
    assert due.told == swept[:1]
    assert swept[1] - swept[0] == pytest.approx(PERIOD, abs=0.2)
    await asyncio.sleep(1.5 * PERIOD)
    assert len(swept) == 2


def test_stopping_what_was_not_started_is_nothing() -> None:
    Deadlines().stop()
