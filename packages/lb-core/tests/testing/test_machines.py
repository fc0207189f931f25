"""What is behind a simulated backend: slots, the queue before them, faults."""

from __future__ import annotations

from random import Random

import pytest

from lb_core.testing import Fault, pool
from lb_core.testing.backends import Machine


def test_a_slot_works_on_one_request_at_a_time() -> None:
    machine = Machine(pool(n=1)[0], slots=1)
    assert [machine.take(10.0, 1.0), machine.take(10.2, 1.0), machine.take(20.0, 1.0)] == [11.0, 12.0, 21.0]
    assert machine.work == 3.0


def test_several_slots_work_side_by_side() -> None:
    machine = Machine(pool(n=1)[0], slots=2)
    assert [machine.take(0.0, seconds) for seconds in (3.0, 1.0, 1.0, 1.0)] == [3.0, 1.0, 2.0, 3.0]


def test_a_slow_one_takes_longer() -> None:
    assert Machine(pool(n=1)[0], slots=1, factor=3.0).take(0.0, 0.5) == 1.5


def test_a_fault_has_its_time_and_its_share() -> None:
    fault = Fault("refused", 0.25, start=10, end=20)
    random = Random(1)
    assert not fault.strikes(9.9, random)
    assert not fault.strikes(20.0, random)
    struck = sum(fault.strikes(15.0, random) for _ in range(4000))
    assert struck == pytest.approx(1000, rel=0.1)
    assert all(Fault().strikes(moment, random) for moment in (0.0, 1e9))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "slow"}, "there are status, refused, reset"),
        ({"probability": 1.5}, "from 0 to 1"),
        ({"start": 5, "end": 5}, "start before its end"),
        ({"after": -1}, "not negative"),
    ],
)
def test_a_fault_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(**settings)  # type: ignore[arg-type]
