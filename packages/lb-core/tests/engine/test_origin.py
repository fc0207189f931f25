"""Who the client is, and the fields that tell the backend."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.engine.heads import cut
from lb_core.engine.origin import Network, Origin, is_trusted
from lb_core.engine.request_heads import read_request

if TYPE_CHECKING:
    from lb_core.engine.special import Special

PROXIES: tuple[Network, ...] = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


def behind(*fields: str) -> Special:
    """A request that came with these fields."""
    lines = "".join(f"{field}\r\n" for field in fields)
    data = f"GET / HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n".encode("latin-1")
    special = read_request(data, len(data) - 4, 100)[4]
    assert special is not None
    return special


def origin(peer: str = "10.0.0.1", networks: tuple[Network, ...] = PROXIES) -> Origin:
    return Origin(peer, "http", 8080, networks)


def lines(block: bytes) -> list[str]:
    assert block.endswith(b"\r\n")
    return block.decode("latin-1").split("\r\n")[:-1]


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.9", "192.0.2.1"),
        ("192.0.2.1,10.0.0.9,10.0.0.8", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.7, 10.0.0.8", "10.0.0.7"),
        ("10.0.0.7, 6.6.6.6, 10.0.0.8", "6.6.6.6"),
        ("2001:DB8::7", "2001:db8::7"),
        ("2a00::5, 2001:db8::7", "2a00::5"),
        ("[2a00::5], [2001:db8::7]:443", "2a00::5"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.9:80", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, ::ffff:10.0.0.9", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("garbage", "10.0.0.1"),
        ("192.0.2.1, unknown, 10.0.0.9", "10.0.0.9"),
        ("192.0.2.1, , 10.0.0.9", "10.0.0.9"),
        ("192.0.2.1, _hidden", "10.0.0.1"),
        ("192.0.2.256", "10.0.0.1"),
        ("192.0.2.1/32", "10.0.0.1"),
        ("1.2.3", "10.0.0.1"),
        ("010.0.0.1", "10.0.0.1"),
        ("[192.0.2.1", "10.0.0.1"),
        ("192.0.2.1]", "10.0.0.1"),
        ("[2a00::5]x", "10.0.0.1"),
        ("\xb9.2.3.4", "10.0.0.1"),
        ("", "10.0.0.1"),
        (",,,", "10.0.0.1"),
    ],
)
def test_the_chain_is_read_from_the_right(chain: str, client: str) -> None:
    special = behind(f"X-Forwarded-For: {chain}")
    assert origin().client(special) == client


def test_several_fields_are_one_chain() -> None:
    special = behind("X-Forwarded-For: 6.6.6.6, 192.0.2.1", "X-Forwarded-For: 10.0.0.9")
    assert origin().client(special) == "192.0.2.1"


@pytest.mark.parametrize(
    ("peer", "networks"),
    [
        ("192.0.2.9", PROXIES),
        ("10.0.0.1", ()),
        ("127.0.0.1", ()),
        ("127.0.0.1", PROXIES),
        ("::1", PROXIES),
        ("", PROXIES),
        ("/run/lb.sock", PROXIES),
    ],
)
def test_others_are_not_believed(peer: str, networks: tuple[Network, ...]) -> None:
    special = behind("X-Forwarded-For: 192.0.2.1")
    who = origin(peer, networks)
    assert not who.trusted
    assert who.client(special) == peer


def test_a_trusted_peer_that_says_nothing_is_the_client() -> None:
    special = behind("X-Forwarded-Proto: https")
    assert origin().client(None) == "10.0.0.1"
    assert origin().client(special) == "10.0.0.1"


def test_an_ipv4_address_written_as_ipv6_is_ipv4() -> None:
    who = origin("::ffff:10.0.0.1")
    assert who.peer == "10.0.0.1"
    assert who.trusted
    assert origin("::ffff:garbage").peer == "::ffff:garbage"
    assert is_trusted("::ffff:10.1.1.1", PROXIES)
    assert not is_trusted("::10.1.1.1", PROXIES)


@given(st.lists(st.ip_addresses().map(str), max_size=6), st.lists(st.ip_addresses().map(str), min_size=1, max_size=6))
def test_what_a_client_invents_changes_nothing(invented: list[str], written: list[str]) -> None:
    """Whatever stands left of an address that is no proxy's is of no effect."""
    written = ["192.0.2.77", *(each for each in written if is_trusted(each, PROXIES))]
    plain = behind(f"X-Forwarded-For: {', '.join(written)}")
    forged = behind(f"X-Forwarded-For: {', '.join([*invented, *written])}")
    assert origin().client(plain) == origin().client(forged) == "192.0.2.77"


# The block of fields


def test_the_block_of_an_ordinary_request() -> None:
    assert lines(Origin("192.0.2.1", "https", 443, ()).block(b" shop.example")) == [
        "X-Forwarded-For: 192.0.2.1",
        "X-Real-IP: 192.0.2.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example",
        "X-Forwarded-Port: 443",
        "Via: 1.1 lb",
    ]


def test_the_block_without_a_peer_names_nobody() -> None:
    assert lines(Origin("", "http", 80, ()).block(b" a"))[0] == "X-Forwarded-Proto: http"


def test_the_block_is_kept_until_the_host_changes() -> None:
    who = origin(networks=())
    first = who.block(b" a")
    assert who.block(b" a") is first
    assert b"X-Forwarded-Host: b\r\n" in who.block(b" b")
    assert who.block(b" a") == first


def believed(*fields: str, peer: str = "10.0.0.1") -> tuple[list[str], list[str]]:
    """For a trusted peer that sent these fields: what is added, and what is left of its own, Host aside."""
    special = behind(*fields)
    block, cuts = origin(peer).believed(special, b" shop.example")
    return lines(block), lines(cut(special.head, cuts))[2:]


def test_a_trusted_peer_is_appended_and_its_word_is_kept() -> None:
    said = ["X-Forwarded-Proto: https", "X-Forwarded-Host: Public.example", "X-Forwarded-Port: 443", "Forwarded: for=x"]
    added, left = believed("X-Forwarded-For: 6.6.6.6, 192.0.2.1", "X-Forwarded-For: 10.0.0.9", *said, "A: b")
    assert added == [
        "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.9, 10.0.0.1",
        "X-Real-IP: 192.0.2.1",
        "Via: 1.1 lb",
    ]
    assert left == [*said, "A: b"]


def test_what_a_trusted_peer_does_not_say_is_added() -> None:
    added, left = believed("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https")
    assert added == [
        "X-Forwarded-For: 192.0.2.1, 10.0.0.1",
        "X-Real-IP: 192.0.2.1",
        "X-Forwarded-Host: shop.example",
        "X-Forwarded-Port: 8080",
        "Via: 1.1 lb",
    ]
    assert left == ["X-Forwarded-Proto: https"]


def test_an_empty_word_of_a_trusted_peer_is_replaced() -> None:
    added, left = believed("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto:", "X-Forwarded-Host: a")
    assert "X-Forwarded-Proto: http" in added
    assert left == ["X-Forwarded-Host: a"]


def test_a_trusted_peer_without_a_chain_is_the_client() -> None:
    added, _ = believed("X-Forwarded-Proto: https", peer="2001:db8::1")
    assert added[:2] == ["X-Forwarded-For: 2001:db8::1", "X-Real-IP: 2001:db8::1"]


@pytest.mark.parametrize("field", ["X-Real-IP: 6.6.6.6", "X_Forwarded_For: 6.6.6.6", "X-Forwarded-User: root", "TE: x"])
def test_other_fields_go_for_a_trusted_peer_too(field: str) -> None:
    added, left = believed("X-Forwarded-For: 192.0.2.1", field)
    assert "X-Real-IP: 192.0.2.1" in added
    assert left == []


def test_connection_cannot_take_away_what_a_trusted_peer_said() -> None:
    _, left = believed("X-Forwarded-Proto: https", "Connection: X-Forwarded-Proto", "X-Forwarded-For: 192.0.2.1")
    assert left == ["X-Forwarded-Proto: https"]
