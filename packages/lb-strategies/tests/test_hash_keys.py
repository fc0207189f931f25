"""What requests have in common."""

from __future__ import annotations

from ipaddress import IPv6Address
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core import Exchange
from lb_strategies.hash_keys import key_of, network_of


def request(target: str = "/", *fields: str, client: str = "10.0.0.7") -> Exchange:
    where: Any = SimpleNamespace(peer=client, scheme="http", port=80, serving=None)
    head = "".join(f"{line}\r\n" for line in (f"GET {target} HTTP/1.1", "Host: example.com", *fields, ""))
    return Exchange(where, where, client, b"GET", target.encode(), b"example.com", head.encode("latin-1"))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_its_own_key(address: object) -> None:
    assert network_of(str(address)) == str(address).encode()
    assert network_of(f"::ffff:{address}") == network_of(str(address))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_an_ipv6_64_network_stays_together(network: int, one: int, two: int) -> None:
    first, second = (IPv6Address(network << 64 | host) for host in (one, two))
    if first.ipv4_mapped is None and second.ipv4_mapped is None:
        assert network_of(str(first)) == network_of(second.exploded)
    other = IPv6Address((network ^ 1) << 64 | one)
    assert network_of(str(first)) != network_of(str(other))


def test_a_zone_does_not_matter_and_what_is_no_address_has_a_key_too() -> None:
    assert network_of("fe80::1%eth0") == network_of("fe80::1")
    assert network_of("unix") == b"unix"
    assert network_of("not:an:address") == b"not:an:address"


@pytest.mark.parametrize(
    ("on", "asked", "key"),
    [
        ("client", request(), b"10.0.0.7"),
        ("path", request("/a/b?c=d"), b"/a/b"),
        ("path", request("/"), b"/"),
        ("header:X-User", request("/", "x-user: joe "), b"joe"),
        ("header:X-User", request("/", "X-User: joe", "X-User: ann"), b"joe, ann"),
        ("header:X-User", request("/", "X-User: jos\xe9"), b"jos\xe9"),
        ("cookie:id", request("/", "Cookie: id=7"), b"7"),
        ("cookie:id", request("/", "Cookie: a=id=8; id=7; b=9"), b"7"),
        ("cookie:id", request("/", "Cookie: a=1", "Cookie: id=7"), b"7"),
        ("query:id", request("/?id=7"), b"7"),
        ("query:id", request("/?my_id=8&id=a%20b&c=d"), b"a%20b"),
    ],
)
def test_where_a_key_is_found(on: str, asked: Exchange, key: bytes) -> None:
    assert key_of(on)(asked) == key


@pytest.mark.parametrize(
    ("on", "asked"),
    [
        ("header:X-User", request("/", "X-Use: joe")),
        ("header:X-User", request("/", "X-User:")),
        ("cookie:id", request()),
        ("cookie:id", request("/", "Cookie: did=7")),
        ("cookie:id", request("/", "Cookie: id=; b=7")),
        ("cookie:i.d", request("/", "Cookie: ixd=7")),
        ("query:id", request("/?")),
        ("query:id", request("/id=7")),
        ("query:id", request("/?did=7")),
        ("query:id", request("/?id=&x=7")),
    ],
)
def test_a_request_without_the_key_goes_by_its_client(on: str, asked: Exchange) -> None:
    assert key_of(on)(asked) == b"10.0.0.7"
