"""Clients by address: in which ranges they lie, and what of an address stays theirs."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from lb_core import clients
from lb_core.clients import Ranges, address_of, network_of

RANGES = [ip_network(text) for text in ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")]


@pytest.mark.parametrize(
    ("client", "inside"),
    [
        ("10.1.2.3", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8:5::1", True),
        ("2001:db8::1%eth0", True),
        ("2001:db9::1", False),
        ("::ffff:10.1.2.3", True),
        ("", False),
        ("no address", False),
    ],
)
def test_inside_or_not_the_first_time_and_the_second(client: str, inside: bool) -> None:
    found = Ranges(RANGES)
    assert (client in found) is inside
    assert (client in found) is inside


def test_unix_stands_for_clients_without_an_address() -> None:
    assert "" in Ranges(["unix"])
    assert "10.0.0.1" not in Ranges(["unix"])
    assert "text" not in Ranges(["unix"])
    assert "" in Ranges([*RANGES, "unix"])


def test_no_range_is_false() -> None:
    assert not Ranges(())
    assert Ranges(RANGES)
    assert Ranges(["unix"])
    assert "10.0.0.1" not in Ranges(())


def test_what_is_learned_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "LEARNED", 100)
    found = Ranges(RANGES)
    for number in range(1000):
        assert f"10.0.{number >> 8}.{number & 255}" in found
        assert len(found._learned) <= 100


def test_addresses() -> None:
    assert str(address_of("::ffff:192.0.2.1")) == "192.0.2.1"
    assert str(address_of("fe80::1%eth0")) == "fe80::1"
    assert address_of("unix") is None
    assert address_of("") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8::1", "2001:db8::1%eth0", True),
        ("3130:2e30:2e30:2e31::", "10.0.0.1", False),
        ("a:b", "a:b", True),
        ("", "unix", False),
    ],
)
def test_what_a_client_keeps_of_its_address(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same
