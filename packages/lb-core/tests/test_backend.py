"""Backend: its address, and the one word for its state."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from lb_core.backend import NO_LIMIT, Backend, Health, Mode, State


def test_what_is_not_given() -> None:
    made = Backend("web1", "10.0.0.1", 8080)
    assert (made.id, made.address, made.weight, made.backup, made.zone) == ("web1", "10.0.0.1:8080", 1, False, "")
    assert made.max_connections == NO_LIMIT
    assert made.labels == {}
    assert made.state == "up"
    assert made.available


def test_what_is_given() -> None:
    labels: dict[str, str | int | float] = {"cost": 5}
    made = Backend("b", "h", 1, id="r/b", weight=3, max_connections=10, backup=True, zone="z", labels=labels)
    assert (made.id, made.weight, made.max_connections, made.backup, made.zone) == ("r/b", 3, 10, True, "z")
    labels["cost"] = 6
    assert made.labels == {"cost": 5}


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert Backend("b", "2001:db8::1", 80).address == "[2001:db8::1]:80"


@pytest.mark.parametrize(
    ("mode", "health", "ejected", "state"),
    [
        ("active", "up", False, "up"),
        ("active", "up", True, "ejected"),
        ("active", "down", True, "down"),
        ("active", "starting", False, "starting"),
        ("draining", "down", True, "draining"),
        ("maintenance", "up", False, "maintenance"),
    ],
)
def test_state(mode: Mode, health: Health, ejected: bool, state: State) -> None:
    made = Backend("b", "h", 1)
    made.mode, made.health, made.ejected = mode, health, ejected
    assert made.state == state
    assert state in repr(made)


def test_available_is_active_up_not_ejected_and_of_weight() -> None:
    made = Backend("b", "h", 1)
    for mode, health, ejected, weight in product(get_args(Mode), get_args(Health), (False, True), (0, 1)):
        made.mode, made.health, made.ejected, made.weight = mode, health, ejected, weight
        assert made.usable is (mode == "active" and health == "up" and weight == 1)
        assert made.available is (made.usable and not ejected)
