"""The PROXY protocol, versions 1 and 2: who the client is, in front of a connection's first byte.

    PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\\r\\n         version 1: a line of at most 107 bytes
    \\r\\n\\r\\n\\0\\r\\nQUIT\\n, command, family, length, …      version 2: 16 bytes, then as many as they say

Both are read and written by HAProxy's proxy-protocol.txt, to the letter: a port with a leading zero, a command or
family that is not assigned, an address block too short, a TLV that runs over the end or a checksum that is wrong is no
header. LOCAL, UNKNOWN and an unspecified family say that there is nothing to say: the socket's own addresses hold. TLVs
are skipped, but for the checksum (CRC32c), which is compared where there is one. UDP counts like TCP: HTTP/3 comes over
it to the proxy in front of us.

No socket here: bytes in, addresses out.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal, NamedTuple

Version = Literal["v1", "v2"]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
MAX_LINE = 107
MAX_BLOCK = 4096
"""Bytes of a version 2 header at most, of 65,551 possible: addresses take 232, the known TLVs a few hundred."""

_LINE = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_LOCAL, _PROXY = 0x20, 0x21
_IPV4, _IPV6, _UNIX = 1, 2, 3
_BLOCK = {0: 0, _IPV4: 12, _IPV6: 36, _UNIX: 216}
_CRC32C = 3


class ProxyError(ValueError):
    """These bytes do not begin with a PROXY header."""


class End(NamedTuple):
    """One end of a connection; without host where it is a unix socket."""

    host: str
    port: int


class Header(NamedTuple):
    """A header that was read: its length in bytes, and both ends; none where the socket's own addresses hold."""

    length: int
    source: End | None
    destination: End | None


UNIX_END = End("", 0)


def read(data: bytes) -> Header | None:
    """The header at the start of `data`, or None while it is not complete. Raises ProxyError."""
    if data[:12] == SIGNATURE[: len(data)]:
        return _read_block(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _read_line(data)
    raise ProxyError("no PROXY header")


def write(version: Version, source: End, destination: End) -> bytes:
    """A header that tells both ends; one that tells nothing where either has no address: a unix socket.

    That is LOCAL in version 2, which every receiver must accept; HAProxy refuses PROXY with an unspecified family.
    """
    hosts = _same_family(source.host, destination.host)
    if hosts is None:
        return write_local(version)
    first, second = hosts
    if version == "v1":
        form = "TCP4" if first.version == 4 else "TCP6"
        return f"PROXY {form} {first} {second} {source.port} {destination.port}\r\n".encode()
    family = _IPV4 if first.version == 4 else _IPV6
    ports = source.port.to_bytes(2, "big") + destination.port.to_bytes(2, "big")
    return _block(_PROXY, family << 4 | 1, first.packed + second.packed + ports)


def write_local(version: Version) -> bytes:
    """A header for a connection of our own, that no client asked for: a health check."""
    return b"PROXY UNKNOWN\r\n" if version == "v1" else _block(_LOCAL, 0, b"")


def _read_line(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, MAX_LINE) + 2
    if end < 2:
        if len(data) >= MAX_LINE:
            raise ProxyError(f"a PROXY line of more than {MAX_LINE} bytes")
        return None
    line = data[:end]
    if _UNKNOWN.fullmatch(line):
        return Header(end, None, None)
    found = _LINE.fullmatch(line)
    if not found:
        raise ProxyError("a malformed PROXY line")
    family = IPv4Address if found[1] == b"TCP4" else IPv6Address
    try:
        source, destination = family(found[2].decode()), family(found[3].decode())
    except AddressValueError:
        raise ProxyError("a PROXY line with a malformed address") from None
    ports = int(found[4]), int(found[5])
    if max(ports) > 65535:
        raise ProxyError("a PROXY line with a port over 65535")
    return Header(end, End(str(source), ports[0]), End(str(destination), ports[1]))


def _read_block(data: bytes) -> Header | None:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise ProxyError(f"version and command {data[12]:#04x} are not those of a PROXY header")
    if len(data) > 13:
        _check_family(data[13])
    if len(data) < 16:
        return None
    end = 16 + int.from_bytes(data[14:16], "big")
    if end > MAX_BLOCK:
        raise ProxyError(f"a PROXY header of {end} bytes, over {MAX_BLOCK}")
    if len(data) < end:
        return None
    family, transport = data[13] >> 4, data[13] & 15
    if data[12] == _LOCAL:
        return Header(end, None, None)
    if not family or not transport:
        return Header(end, None, None)
    behind = 16 + _BLOCK[family]
    if behind > end:
        raise ProxyError("a PROXY header too short for its addresses")
    _check_tlvs(data[:end], behind)
    if family == _UNIX:
        return Header(end, UNIX_END, UNIX_END)
    width = 4 if family == _IPV4 else 16
    form = IPv4Address if family == _IPV4 else IPv6Address
    source, destination = form(data[16 : 16 + width]), form(data[16 + width : 16 + 2 * width])
    first, second = (
        int.from_bytes(data[behind - 4 : behind - 2], "big"),
        int.from_bytes(data[behind - 2 : behind], "big"),
    )
    return Header(end, End(str(source), first), End(str(destination), second))


def _check_family(byte: int) -> None:
    if byte >> 4 not in _BLOCK or byte & 15 > 2:
        raise ProxyError(f"a PROXY header of an unknown family, {byte:#04x}")


def _check_tlvs(header: bytes, at: int) -> None:
    """Walk from one TLV to the next; compare the checksum where there is one."""
    while at < len(header):
        value = at + 3
        end = value + int.from_bytes(header[at + 1 : value], "big")
        if value > len(header) or end > len(header):
            raise ProxyError("a PROXY header with a TLV that runs over its end")
        if header[at] == _CRC32C:
            if end - value != 4:
                raise ProxyError("a PROXY header with a checksum that is not four bytes long")
            if crc32c(b"%b\0\0\0\0%b" % (header[:value], header[end:])) != int.from_bytes(header[value:end], "big"):
                raise ProxyError("a PROXY header with a wrong checksum")
        at = end


def _block(command: int, family: int, rest: bytes) -> bytes:
    return b"%b%c%c%b%b" % (SIGNATURE, command, family, len(rest).to_bytes(2, "big"), rest)


def _same_family(*hosts: str) -> list[IPv4Address] | list[IPv6Address] | None:
    """The addresses, an IPv4 one written as IPv6 where the other is IPv6; None where one is no address."""
    try:
        return [IPv4Address(host) for host in hosts]
    except AddressValueError:
        pass
    try:
        return [IPv6Address(host.partition("%")[0] if ":" in host else f"::ffff:{host}") for host in hosts]
    except AddressValueError:
        return None


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum (RFC 4960, appendix B)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = [_entry(byte) for byte in range(256)]
