"""Points of clients, and whose they are."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_split.points import POINTS, borders, of_client, place, sequence

WEIGHTS = st.lists(st.floats(0.1, 100), min_size=1, max_size=6)


@given(st.integers(0, POINTS - 1), st.integers(1, 99))
def test_the_shares_of_new_clients_are_close_to_the_weights(start: int, percent: int) -> None:
    ends = borders([100 - percent, percent])
    count = sum(place(ends, point) for point in islice(sequence(start), 1000))
    assert abs(count - 10 * percent) <= 4


def test_every_point_comes_once() -> None:
    assert set(islice(sequence(7), POINTS)) == set(range(POINTS))


@given(WEIGHTS, st.integers(0, POINTS - 1))
def test_every_point_belongs_to_somebody(weights: list[float], point: int) -> None:
    assert 0 <= place(borders(weights), point) < len(weights)


def test_when_the_last_part_grows_nobody_leaves_it() -> None:
    for point in range(0, POINTS, 7):
        homes = [place(borders([100 - percent, percent]), point) for percent in (1, 5, 20, 50, 99)]
        assert homes == sorted(homes)


def test_clients_are_spread_by_weight() -> None:
    ends = borders([75, 25])
    counts = Counter(place(ends, of_client(f"10.{a}.{b}.{c}")) for a in range(4) for b in range(10) for c in range(100))
    assert abs(counts[1] - 1000) < 120


def test_an_ipv6_network_is_one_client_and_an_ipv4_address_too() -> None:
    assert of_client("2001:db8:1:2::1") == of_client("2001:db8:1:2:ffff::9") != of_client("2001:db8:1:3::1")
    assert of_client("::ffff:192.0.2.1") == of_client("192.0.2.1")


@pytest.mark.parametrize("odd", ["", "unix", "not:an:address", "fe80::1%eth0"])
def test_what_is_no_address_has_a_point_too(odd: str) -> None:
    assert 0 <= of_client(odd) < POINTS
