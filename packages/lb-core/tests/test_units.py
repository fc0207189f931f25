"""Durations, sizes, shares and addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1m30s", 90.0),
        ("1.5s", 1.5),
        ("250us", 0.00025),
        ("2d", 172800.0),
        ("0s", 0.0),
        (" 3s ", 3.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (30, "a duration needs a unit: write 30s or 30ms instead of 30"),
        (0, "write 0s or 0ms instead of 0"),
        (1.5, "write 1.5s or 1.5ms"),
        ("30", 'write 30s or 30ms instead of "30"'),
        ("30 s", '"30 s" is not a duration: write 500ms, 10s, 5m or 1h'),
        ("-3s", '"-3s" is not a duration'),
        ("10x", "is not a duration"),
        ("٣s", "is not a duration"),
        ("", "is not a duration"),
        (True, "true is not a duration"),
        (None, "null is not a duration"),
        (["1s"], "a list is not a duration"),
        ("9999d", "is not between 0s and 3650d"),
        (timedelta(seconds=-1), "is not between 0s"),
    ],
)
def test_bad_durations_show_how_to_write_them(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as error:
        units.parse_duration(value)
    assert message in str(error.value)


@given(st.floats(0, units.LONGEST, allow_nan=False, allow_subnormal=False))
def test_durations_survive_a_round_trip(seconds: float) -> None:
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@given(st.integers(0, 10**7), st.sampled_from(["us", "ms", "s", "m", "h"]))
def test_whole_durations_are_written_briefly(number: int, unit: str) -> None:
    seconds = units.parse_duration(f"{number}{unit}") if number <= 80_000 else 1.0
    text = units.format_duration(seconds)
    assert units.parse_duration(text) == seconds
    assert len(text) <= len(f"{number}{unit}") + 1


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512B", 512),
        ("64KiB", 65536),
        ("10MB", 10_000_000),
        ("1GiB", 1 << 30),
        ("1.5KiB", 1536),
        ("2 kb", 2000),
        ("1tib", 1 << 40),
        ("0B", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (64, "a size needs a unit: write 64B, 64KiB or 64MiB instead of 64"),
        ("64", '"64" is not a size: write 512B, 64KiB, 10MB or 1GiB'),
        ("10m", "is not a size"),
        ("0.3B", "is not a whole number of bytes"),
        ("99999999TiB", "is not a whole number of bytes up to"),
        ("1iB", "is not a size"),
        (True, "true is not a size"),
        ({}, "a mapping is not a size"),
    ],
)
def test_bad_sizes(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as error:
        units.parse_size(value)
    assert message in str(error.value)


@given(st.integers(0, units.LARGEST))
def test_sizes_survive_a_round_trip(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@pytest.mark.parametrize(
    ("value", "share"), [("20%", 0.2), ("0.5 %", 0.005), (0.2, 0.2), (0, 0.0), ("100%", 1.0), (1.0, 1.0)]
)
def test_shares(value: object, share: float) -> None:
    assert units.parse_share(value) == share


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (20, "a share needs its unit: write 20% instead of 20"),
        (1, "write 1% instead of 1"),
        ("120%", "is not between 0% and 100%"),
        (1.5, "is not between 0% and 100%"),
        ("half", '"half" is not a share: write 20% or 0.2'),
        (True, "is not a share"),
    ],
)
def test_bad_shares(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as error:
        units.parse_share(value)
    assert message in str(error.value)


def test_a_share_is_written_as_a_percentage() -> None:
    assert units.format_share(0.2) == "20%"
    assert units.format_share(0.125) == "12.5%"


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (":8080", ("", 8080)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
        ("*:80", ("", 80)),
        (8080, ("", 8080)),
        ("8080", ("", 8080)),
    ],
)
def test_listen_addresses(value: object, address: tuple[str, int]) -> None:
    assert units.parse_listen(value)[:2] == address


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (":99999", "port 99999 is not between 0 and 65535"),
        (":http", '"http" is not a port'),
        ("localhost", '"localhost" has no port: write "localhost:8080"'),
        ("::1:80", 'write an IPv6 address in brackets, "[::1:80]:8080"'),
        ("a:b:80", 'is not an address: write ":8080"'),
        ("[::zz]:80", "is not an IPv6 address"),
        ("300.1.1.1:80", "is not an IPv4 address"),
        ("a b:80", "is not a host"),
        ("a..b:80", "is not a host"),
        (True, "true is not an address"),
        ("", "has no port"),
    ],
)
def test_bad_listen_addresses(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as error:
        units.parse_listen(value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("web1:8080", ("web1", 8080)),
        ("web_1:8080", ("web_1", 8080)),
        ("http://web1:8080", ("web1", 8080)),
        ("http://web1", ("web1", 80)),
        ("http://web1/", ("web1", 80)),
        ("HTTP://web1:81/", ("web1", 81)),
        ("http://[::1]", ("::1", 80)),
        ("[fe80::1]:81", ("fe80::1", 81)),
    ],
)
def test_backend_addresses(value: str, address: tuple[str, int]) -> None:
    assert units.parse_backend(value)[:2] == address


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("web1", '"web1" has no port: write "web1:8080"'),
        ("[::1]", "has no port"),
        ("https://web1", "TLS to backends comes with lb-ssl"),
        ("ftp://web1", "ftp:// is not served; write http:// or host:port"),
        ("http://web1/app", "a backend has no path, requests keep their own; write http://web1"),
        ("http://u:p@web1", "takes no user name or password"),
        ("web1:0", "port 0 is not between 1 and 65535"),
        ("2001:db8::1", "in brackets"),
        ("fe80::zz:1", "is not an address"),
        (":80", "is not a host"),
        (8080, '8080 is not the address of a backend: write "web1:8080"'),
        ("bü cher:80", "is not an international host name"),
        ("１２７.0.0.256:80", "is not an IPv4 address"),
    ],
)
def test_bad_backend_addresses(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as error:
        units.parse_backend(value)
    assert message in str(error.value)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for parse in (units.parse_backend, units.parse_listen):
        try:
            host, port = parse(text)
        except ValueError:
            continue
        assert 0 <= port <= 65535
        assert not any(sign in host for sign in " /@[]")


def test_networks() -> None:
    assert units.parse_network("10.0.0.0/8") == ip_network("10.0.0.0/8")
    assert units.parse_network("::1") == ip_network("::1/128")
    assert units.parse_network(ip_network("10.0.0.0/8")) == ip_network("10.0.0.0/8")
    with pytest.raises(ValueError, match=r'"10.0.0.1/8" has bits set to the right of its mask: write 10.0.0.0/8'):
        units.parse_network("10.0.0.1/8")
    with pytest.raises(ValueError, match="is not an address range"):
        units.parse_network("10.0.0.0/33")
    with pytest.raises(ValueError, match="7 is not an address range"):
        units.parse_network(7)


def test_long_values_are_shortened_in_messages() -> None:
    assert len(units.show("x" * 500)) < 80


@pytest.mark.parametrize("parse", [units.parse_listen, units.parse_backend])
@pytest.mark.parametrize("value", ["unix:/run/lb.sock", "unix:///run/lb.sock", " unix:/run/lb.sock "])
def test_unix_sockets(parse: Callable[[object], units.Address], value: str) -> None:
    assert parse(value) == ("", 0, "/run/lb.sock")


@pytest.mark.parametrize("parse", [units.parse_listen, units.parse_backend])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("unix:run/lb.sock", "write an absolute path, unix:/run/lb.sock"),
        ("unix:", "write an absolute path"),
        ("unix:/", "write an absolute path"),
        ("unix:/run/", "write an absolute path"),
        ("unix:/run/l b.sock", "write an absolute path"),
        ("unix:/run/lb\0.sock", "write an absolute path"),
        ("unix:@lb", "write an absolute path"),
        ("unix:/" + "é" * 54, "the path has 109 bytes, a unix socket takes 107 at most"),
    ],
)
def test_no_unix_sockets(parse: Callable[[object], units.Address], value: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(value)


def test_the_longest_path_of_a_unix_socket() -> None:
    assert len(units.parse_listen("unix:/" + "x" * 106).path) == 107


def test_peers() -> None:
    assert units.parse_peer("unix") == "unix"
    assert units.parse_peer("10.0.0.0/8") == ip_network("10.0.0.0/8")


@pytest.mark.parametrize(("value", "mode"), [("0660", 0o660), ("660", 0o660), ("0777", 0o777), ("0600", 0o600)])
def test_modes(value: str, mode: int) -> None:
    assert units.parse_mode(value) == mode
    assert units.parse_mode(units.format_mode(mode)) == mode


@pytest.mark.parametrize("value", [660, 0o660, "66", "0880", "1660", "rw-rw----", True, None, 6.6])
def test_no_modes(value: object) -> None:
    with pytest.raises(ValueError, match="write four octal digits in quotes"):
        units.parse_mode(value)
