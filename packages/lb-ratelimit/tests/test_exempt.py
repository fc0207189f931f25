"""Clients by address range."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from lb_ratelimit import exempt
from lb_ratelimit.exempt import Exempt

RANGES = [ip_network(text) for text in ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")]


@pytest.mark.parametrize(
    ("client", "inside"),
    [
        ("10.1.2.3", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8:5::1", True),
        ("2001:db9::1", False),
        ("::ffff:10.1.2.3", True),
        ("", False),
        ("no address", False),
    ],
)
def test_inside_or_not_the_first_time_and_the_second(client: str, inside: bool) -> None:
    found = Exempt(RANGES)
    assert (client in found) is inside
    assert (client in found) is inside


def test_what_is_learned_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exempt, "LEARNED", 100)
    found = Exempt(RANGES)
    for number in range(1000):
        assert f"10.0.{number >> 8}.{number & 255}" in found
        assert len(found._learned) <= 100
