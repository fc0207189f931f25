"""Events as a person reads them."""

from __future__ import annotations

import pytest

from lb_core.console import event_line
from lb_core.events import Event


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Event("shutdown", "signal 15"), "shutdown: signal 15"),
        (Event("failover_started", "b.x serves", route="a.x"), "a.x: failover started: b.x serves"),
        (Event("backend_down", "refused", route="a.x", backend="web1"), "web1 of a.x: down (refused)"),
        (Event("backend_up", "up", route="a.x", backend="web1"), "web1 of a.x: up"),
        (Event("breaker_opened", "5 failures", backend="web1"), "web1: breaker opened (5 failures)"),
    ],
)
def test_a_line(event: Event, line: str) -> None:
    assert event_line(event) == line
