"""What `on_event` is told."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError

import pytest

from lb_core import Event


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event("config_loaded", "2 routes"), "config_loaded: 2 routes"),
        (Event("scaled", "to 4", route="shop.example"), "scaled: shop.example: to 4"),
        (Event("backend_down", "refused", route="shop.example", backend="web1"), "backend_down: web1: refused"),
    ],
)
def test_an_event_reads_as_a_line(event: Event, text: str) -> None:
    assert str(event) == text


def test_an_event_carries_its_time_and_cannot_be_changed() -> None:
    before = time.time()
    event = Event("shutdown", "draining")
    assert before <= event.time <= time.time()
    assert event.details == {}
    with pytest.raises(FrozenInstanceError):
        event.kind = "other"  # type: ignore[misc]


def test_events_do_not_share_their_details() -> None:
    assert Event("a", "b").details is not Event("a", "b").details
