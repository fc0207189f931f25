"""PROXY headers as bytes: each is read whole, split at every byte, and followed by a request."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.engine.proxy_protocol import (
    MAX_BLOCK,
    SIGNATURE,
    UNIX_END,
    End,
    Header,
    ProxyError,
    Version,
    crc32c,
    read,
    write,
    write_local,
)

BEHIND = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
IPV4 = ip_address("192.0.2.7").packed + ip_address("198.51.100.1").packed + struct.pack(">HH", 56324, 443)
IPV6 = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed + struct.pack(">HH", 56324, 443)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/lb.sock".ljust(108, b"\0")
ENDS4 = (End("192.0.2.7", 56324), End("198.51.100.1", 443))
ENDS6 = (End("2001:db8::7", 56324), End("2001:db8::1", 443))
NO_ENDS = (None, None)


def block(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + bytes((command, family)) + struct.pack(">H", len(rest) if length is None else length) + rest


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


def with_checksum(family: int, addresses: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    data = block(0x21, family, addresses + before + tlv(3, bytes(4)) + after)
    at = 16 + len(addresses) + len(before) + 3
    return data[:at] + struct.pack(">I", crc32c(data)) + data[at + 4 :]


GOOD = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", ENDS4),
    "v1 TCP4, longest": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        (End("255.255.255.255", 65535), End("255.255.255.255", 65535)),
    ),
    "v1 TCP4, ports 0": (b"PROXY TCP4 192.0.2.7 198.51.100.1 0 0\r\n", (End("192.0.2.7", 0), End("198.51.100.1", 0))),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", ENDS6),
    "v1 TCP6, upper case": (b"PROXY TCP6 2001:DB8::7 2001:0DB8:0:0:0:0:0:1 56324 443\r\n", ENDS6),
    "v1 TCP6, longest": (
        b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        (End(":".join(["ffff"] * 8), 65535), End(":".join(["ffff"] * 8), 65535)),
    ),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", NO_ENDS),
    "v1 UNKNOWN, longest": (
        b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        NO_ENDS,
    ),
    "v1 UNKNOWN, anything": (b"PROXY UNKNOWN what ever \t\x00\r\n", NO_ENDS),
    "v2 TCP over IPv4": (block(0x21, 0x11, IPV4), ENDS4),
    "v2 UDP over IPv4": (block(0x21, 0x12, IPV4), ENDS4),
    "v2 TCP over IPv6": (block(0x21, 0x21, IPV6), ENDS6),
    "v2 UDP over IPv6": (block(0x21, 0x22, IPV6), ENDS6),
    "v2 unix stream": (block(0x21, 0x31, UNIX), (UNIX_END, UNIX_END)),
    "v2 unix datagram": (block(0x21, 0x32, UNIX), (UNIX_END, UNIX_END)),
    "v2 unspecified": (block(0x21, 0x00, b""), NO_ENDS),
    "v2 unspecified, bytes to skip": (block(0x21, 0x00, b"\xff" * 40), NO_ENDS),
    "v2 IPv4 over an unspecified transport": (block(0x21, 0x10, IPV4), NO_ENDS),
    "v2 LOCAL": (block(0x20, 0x00, b""), NO_ENDS),
    "v2 LOCAL with addresses": (block(0x20, 0x11, IPV4), NO_ENDS),
    "v2 LOCAL with bytes that mean nothing": (block(0x20, 0x11, b"\xff" * 5), NO_ENDS),
    "v2 with TLVs": (block(0x21, 0x11, IPV4 + tlv(1, b"http/1.1") + tlv(0xEA, b"x" * 300) + tlv(4, b"")), ENDS4),
    "v2 with a checksum": (with_checksum(0x11, IPV4), ENDS4),
    "v2 with a checksum among TLVs": (with_checksum(0x21, IPV6, tlv(2, b"example.com"), tlv(4, bytes(9))), ENDS6),
    "v2, longest": (block(0x21, 0x11, IPV4 + tlv(4, bytes(MAX_BLOCK - 16 - 12 - 3))), ENDS4),
}

BAD = {
    "a request": BEHIND,
    "v1 lower case": b"proxy TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
    "v1 UDP4": b"PROXY UDP4 192.0.2.7 198.51.100.1 56324 443\r\n",
    "v1 two spaces": b"PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n",
    "v1 a space at the end": b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 \r\n",
    "v1 a tab": b"PROXY TCP4\t192.0.2.7 198.51.100.1 56324 443\r\n",
    "v1 no ports": b"PROXY TCP4 192.0.2.7 198.51.100.1\r\n",
    "v1 a port too large": b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n",
    "v1 a port with a leading zero": b"PROXY TCP4 192.0.2.7 198.51.100.1 056324 443\r\n",
    "v1 a port with a sign": b"PROXY TCP4 192.0.2.7 198.51.100.1 +5 443\r\n",
    "v1 an address with a leading zero": b"PROXY TCP4 192.0.2.07 198.51.100.1 56324 443\r\n",
    "v1 an address of three parts": b"PROXY TCP4 192.0.2 198.51.100.1 56324 443\r\n",
    "v1 IPv6 said to be IPv4": b"PROXY TCP4 2001:db8::7 2001:db8::1 56324 443\r\n",
    "v1 IPv4 said to be IPv6": b"PROXY TCP6 192.0.2.7 198.51.100.1 56324 443\r\n",
    "v1 a zone": b"PROXY TCP6 fe80::1%1 2001:db8::1 56324 443\r\n",
    "v1 a name": b"PROXY TCP4 localhost 198.51.100.1 56324 443\r\n",
    "v1 LF alone": b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n" + BEHIND,
    "v1 UNKNOWN, LF within": b"PROXY UNKNOWN a\nb\r\n",
    "v1 UNKNOWN, CR within": b"PROXY UNKNOWN a\rb\r\n",
    "v1 UNKNOWNS": b"PROXY UNKNOWNS\r\n",
    "v1 108 bytes": b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
    "v1 without end": b"PROXY UNKNOWN ".ljust(107, b"x"),
    "v2 version 1": block(0x11, 0x11, IPV4),
    "v2 version 3": block(0x31, 0x11, IPV4),
    "v2 command 2": block(0x22, 0x11, IPV4),
    "v2 family 4": block(0x21, 0x41, IPV4),
    "v2 family 4, LOCAL": block(0x20, 0x41, b""),
    "v2 transport 3": block(0x21, 0x13, IPV4),
    "v2 IPv4 too short": block(0x21, 0x11, IPV4[:-1]),
    "v2 IPv6 too short": block(0x21, 0x21, IPV4),
    "v2 unix too short": block(0x21, 0x31, UNIX[:-1]),
    "v2 no addresses": block(0x21, 0x11, b""),
    "v2 a TLV over the end": block(0x21, 0x11, IPV4 + tlv(4, bytes(9))[:-1]),
    "v2 a TLV cut in its length": block(0x21, 0x11, IPV4 + b"\x04\x00"),
    "v2 a wrong checksum": with_checksum(0x11, IPV4)[:-1] + bytes((with_checksum(0x11, IPV4)[-1] ^ 1,)),
    "v2 addresses changed under the checksum": with_checksum(0x11, IPV4).replace(
        b"\xc0\x00\x02\x07", b"\xc0\x00\x02\x08"
    ),
    "v2 a checksum of two bytes": block(0x21, 0x11, IPV4 + tlv(3, b"\0\0")),
    "v2 too long": block(0x21, 0x11, IPV4, length=MAX_BLOCK - 15),
    "v2 a broken signature": SIGNATURE[:-1] + b"\r" + bytes(4),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("behind", [b"", BEHIND, GOOD["v1 TCP4"][0]], ids=["alone", "request", "another"])
def test_a_header_is_read_whole(name: str, behind: bytes) -> None:
    data, ends = GOOD[name]
    assert read(data + behind) == (len(data), *ends)


@pytest.mark.parametrize("name", GOOD)
def test_a_header_is_waited_for_to_its_last_byte(name: str) -> None:
    data, _ = GOOD[name]
    assert [read(data[:size]) for size in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused(name: str) -> None:
    with pytest.raises(ProxyError):
        read(BAD[name])


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_none_at_any_split(name: str) -> None:
    data = BAD[name]
    for size in range(len(data)):
        try:
            assert read(data[:size]) is None
        except ProxyError:
            return
    with pytest.raises(ProxyError):
        read(data)


def test_a_header_too_long_is_refused_before_it_has_come() -> None:
    with pytest.raises(ProxyError, match="4097 bytes, over 4096"):
        read(block(0x21, 0x11, b"", length=MAX_BLOCK - 15))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_none_or_refused(data: bytes) -> None:
    for prefix in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"):
        try:
            found = read(prefix + data)
        except ProxyError:
            continue
        assert found is None or found.length <= len(prefix + data)


ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)
PORTS = st.integers(0, 65535)


@given(st.sampled_from(["v1", "v2"]), ADDRESSES, ADDRESSES, PORTS, PORTS)
def test_what_is_written_is_read_again(
    version: Version, source: object, destination: object, one: int, two: int
) -> None:
    data = write(version, End(str(source), one), End(str(destination), two))
    found = read(data + BEHIND)
    assert found is not None
    assert found.source is not None
    assert found.destination is not None
    assert (found.length, found.source.port, found.destination.port) == (len(data), one, two)
    for said, meant in ((found.source, source), (found.destination, destination)):
        address = ip_address(said.host)
        assert meant in (address, getattr(address, "ipv4_mapped", None))
    assert len(data) <= (107 if version == "v1" else 52)


def test_written_to_the_letter() -> None:
    assert write("v1", *ENDS4) == GOOD["v1 TCP4"][0]
    assert write("v1", *ENDS6) == GOOD["v1 TCP6"][0]
    assert write("v2", *ENDS4) == GOOD["v2 TCP over IPv4"][0]
    assert write("v2", *ENDS6) == GOOD["v2 TCP over IPv6"][0]


@pytest.mark.parametrize("end", [UNIX_END, End("testclient", 50000)])
def test_without_an_address_nothing_is_said(end: End) -> None:
    assert write("v1", end, ENDS4[1]) == b"PROXY UNKNOWN\r\n"
    assert write("v2", end, ENDS4[1]) == block(0x20, 0, b"")
    assert write("v2", ENDS6[0], end) == block(0x20, 0, b"")


def test_a_link_local_address_loses_its_zone() -> None:
    assert write("v1", End("fe80::1%eth0", 1), ENDS6[1]) == b"PROXY TCP6 fe80::1 2001:db8::1 1 443\r\n"


def test_a_connection_of_our_own() -> None:
    assert read(write_local("v1")) == Header(15, None, None)
    assert write_local("v2") == block(0x20, 0, b"")


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of every catalogue of checksums
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
