"""A DNS server on loopback UDP (RFC 1035): answers A, AAAA and CNAME from a table, or misbehaves."""

from __future__ import annotations

import asyncio
import enum
import struct
from ipaddress import ip_address
from types import TracebackType
from typing import cast

TYPES = {"A": 1, "CNAME": 5, "AAAA": 28}
NAMES = {number: kind for kind, number in TYPES.items()}
NO_ERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


class Mode(enum.Enum):
    """What the server does with a question."""

    ANSWER = enum.auto()
    FAIL = enum.auto()
    SILENT = enum.auto()


class DnsServer(asyncio.DatagramProtocol):
    """`records` holds (name, type) -> (seconds to live, values), `asked` every question, `failing` broken types."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.asked: list[tuple[str, str]] = []
        self.mode = Mode.ANSWER
        self.failing: set[str] = set()
        self.port = 0

    def set(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """Replace the addresses of a name; none leaves it without any."""
        for kind, version in (("A", 4), ("AAAA", 6)):
            found = [address for address in addresses if ip_address(address).version == version]
            self.records.pop((name, kind), None)
            if found:
                self.records[name, kind] = ttl, found

    def alias(self, name: str, target: str, ttl: int = 60) -> None:
        """Make a name another name for `target`."""
        self.records[name, "CNAME"] = ttl, [target]

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()
        await asyncio.sleep(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, kind, question = _question(data)
        self.asked.append((name, kind))
        if self.mode is Mode.SILENT:
            return
        code, answers = NO_ERROR, self._answers(name, kind)
        if self.mode is Mode.FAIL or kind in self.failing:
            code, answers = SERVFAIL, []
        elif not answers and not any(known == name for known, _ in self.records):
            code = NXDOMAIN
        head = data[:2] + struct.pack("!5H", 0x8180 | code, 1, len(answers), 0, 0)
        self._transport.sendto(head + question + b"".join(answers), addr)

    def _answers(self, name: str, kind: str) -> list[bytes]:
        ttl, (target,) = self.records.get((name, "CNAME"), (0, [""]))
        if target:
            return [_record(name, "CNAME", ttl, _labels(target)), *self._answers(target, kind)]
        ttl, values = self.records.get((name, kind), (0, []))
        return [_record(name, kind, ttl, ip_address(value).packed) for value in values]


def _question(data: bytes) -> tuple[str, str, bytes]:
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    number = struct.unpack_from("!H", data, at + 1)[0]
    return ".".join(labels).lower(), NAMES.get(number, str(number)), data[12 : at + 5]


def _labels(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"


def _record(name: str, kind: str, ttl: int, value: bytes) -> bytes:
    return _labels(name) + struct.pack("!2HIH", TYPES[kind], 1, ttl, len(value)) + value
