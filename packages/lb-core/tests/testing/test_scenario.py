"""Scenarios: what cannot be simulated is refused when it is written down."""

from __future__ import annotations

from typing import Any

import pytest

from lb_core.testing import Fault, Scenario
from lb_core.testing.arrivals import Request, Trace


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backends": 0}, "backends is 0: give a number from 1"),
        ({"load": 0}, "load is 0"),
        ({"load": 70}, "such as 0.7"),
        ({"requests": 0}, "requests is 0"),
        ({"slots": 0}, "slots is 0"),
        ({"clients": -1}, "clients is -1"),
        ({"addresses": 0}, "addresses is 0"),
        ({"max_connections": -1}, "0 for no limit"),
        ({"queue": -1}, "queue is -1"),
        ({"retries": 11}, "from 0 to 10"),
        ({"warmup": 1}, "a share below 1"),
        ({"slow": {4: 2}}, "slow: there is no backend 4; there are b0 to b3"),
        ({"faults": {1: Fault()}, "backends": 1}, "faults: there is no backend 1; there is b0 only"),
        ({"slow": {1: 0}}, "b1 takes 0 times as long"),
        ({"weights": {1: 2000}}, "b1 has 2000"),
        ({"service": "slow(3s)"}, 'unknown distribution "slow"'),
        ({"think": "1"}, "needs a unit"),
        ({"timeout": "soon"}, "is not a duration"),
        ({"service": "0ms"}, "a request takes longer than 0s"),
        ({"features": {"ejection": True}}, "a setting of its own"),
        ({"trace": Trace([])}, "has no requests"),
        ({"trace": Trace([Request(0, 1, "")]), "clients": 3}, "give no clients"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenario(**settings)


def test_capacity_counts_slow_backends_for_less() -> None:
    assert Scenario(service="50ms", slots=8).capacity == pytest.approx(640)
    assert Scenario(service="50ms", slots=8, slow={0: 4, 1: 0.5}).capacity == pytest.approx(160 * 4.25)


def test_the_load_that_is_offered() -> None:
    assert Scenario(load=0.4).offered == 0.4
    assert Scenario(clients=3).offered == 0.0
    trace = Trace([Request(5.0, 2.0, ""), Request(7.0, -1.0, ""), Request(15.0, 1.0, "")])
    scenario = Scenario(backends=2, slots=1, service="1s", trace=trace)
    assert scenario.offered == pytest.approx(0.2)
    assert scenario.count == 3
    assert Scenario(backends=2, slots=1, service="1s", trace=trace.stretched(0.5)).offered == pytest.approx(0.4)
    assert Scenario(trace=Trace([Request(5.0, 2.0, "")])).offered == 0.0
