"""Durations, sizes, shares and addresses as people write them.

    500ms  10s  5m  1h  1m30s        durations; a bare number is refused: seconds or milliseconds?
    512B  64KiB  10MB  1GiB          sizes; KiB is 1024 bytes, KB is 1000
    20%  0.2                         shares
    :8080  127.0.0.1:8080  [::1]:80  addresses
    unix:/run/lb.sock                a socket file

Every parser raises ValueError with a message that shows how to write the value.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, NamedTuple

Network = IPv4Network | IPv6Network
Peer = Network | Literal["unix"]
UNIX: Literal["unix"] = "unix"

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_FRACTIONS = {"ms": 1000.0, "us": 1_000_000.0}
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(us|ms|s|m|h|d))+$"
_DURATION = re.compile(DURATION_PATTERN).match
_DURATION_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h|d)").findall
LONGEST = 3650 * 86400.0

_BYTES = {"b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT][iI]?)?[bB]$"
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?i?b)", re.IGNORECASE).fullmatch
LARGEST = 1 << 60

_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?").fullmatch
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL).fullmatch


_UNIX_ADDRESS = re.compile(r"unix:(?://)?(.*)", re.DOTALL).fullmatch
_SOCKET_FILE = re.compile(r"/[^\x00-\x20\x7f\"'{}]*[^\x00-\x20\x7f\"'{}/]").fullmatch
LONGEST_SOCKET_FILE = 107
"""Bytes of the path, as the kernel has 108 for it (unix(7))."""

_MODE = re.compile(r"0?[0-7]{3}").fullmatch


class Address(NamedTuple):
    """A host (a name, an IPv4 or an IPv6 address without brackets; empty for all interfaces) and a port.

    Of a unix socket it is the path of its file instead.
    """

    host: str
    port: int
    path: str = ""


def show(value: object) -> str:
    """A value as it would be written in the file, short enough for a message."""
    match value:
        case bool():
            text = "true" if value else "false"
        case None:
            text = "null"
        case str():
            text = f'"{value}"'
        case dict():
            text = "a mapping"
        case list() | tuple():
            text = "a list"
        case _:
            text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}…{text[-10:]}"


def counted(count: int, noun: str) -> str:
    """`1 route`, `2 routes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def parse_duration(value: object) -> float:
    """Seconds of `500ms`, `10s`, `5m`, `1h`, `1m30s` or a timedelta."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"a duration needs a unit: write {value}s or {value}ms instead of {value}")
    elif isinstance(value, str) and _DURATION(text := value.strip()):
        seconds = sum(
            float(number) * _SECONDS[unit] if unit in _SECONDS else float(number) / _FRACTIONS[unit]
            for number, unit in _DURATION_PARTS(text)
        )
    elif isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value.strip()):
        raise ValueError(f'a duration needs a unit: write {value.strip()}s or {value.strip()}ms instead of "{value}"')
    else:
        raise ValueError(f"{show(value)} is not a duration: write 500ms, 10s, 5m or 1h")
    if not 0 <= seconds <= LONGEST:
        raise ValueError(f"{show(value)} is not between 0s and {format_duration(LONGEST)}")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest way to write a number of seconds that `parse_duration` reads back exactly."""
    for unit, factor in _SECONDS.items():
        if seconds >= factor and seconds % factor == 0:
            return f"{int(seconds / factor)}{unit}"
    for unit, factor in _FRACTIONS.items():
        whole = round(seconds * factor)
        if whole and whole / factor == seconds:
            return f"{whole}{unit}"
    return f"{Decimal(repr(float(seconds))):f}s" if seconds else "0s"


def parse_size(value: object) -> int:
    """Bytes of `512B`, `64KiB`, `10MB` or `1GiB`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"a size needs a unit: write {value}B, {value}KiB or {value}MiB instead of {value}")
    found = _SIZE(value.strip()) if isinstance(value, str) else None
    if not found or found[2].lower() not in _BYTES:
        raise ValueError(f"{show(value)} is not a size: write 512B, 64KiB, 10MB or 1GiB")
    exact = Decimal(found[1]) * _BYTES[found[2].lower()]
    if exact != int(exact) or exact > LARGEST:
        raise ValueError(f"{show(value)} is not a whole number of bytes up to {format_size(LARGEST)}")
    return int(exact)


def format_size(size: int) -> str:
    """The shortest way to write a number of bytes that `parse_size` reads back exactly."""
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB"):
        factor = _BYTES[unit.lower()]
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def parse_share(value: object) -> float:
    """A share from 0 to 1 of `20%` or `0.2`."""
    if isinstance(value, int) and not isinstance(value, bool) and value != 0:
        raise ValueError(f"a share needs its unit: write {value}% instead of {value}")
    if isinstance(value, str) and (found := _SHARE(value.strip())):
        share = float(found[1]) / 100
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        share = float(value)
    else:
        raise ValueError(f"{show(value)} is not a share: write 20% or 0.2")
    if not 0 <= share <= 1:
        raise ValueError(f"{show(value)} is not between 0% and 100%")
    return share


def format_share(share: float) -> str:
    """A share as a percentage."""
    return f"{share * 100:.10g}%"


def parse_port(value: object, *, lowest: int = 1) -> int:
    """A port number; `lowest` is 0 where 0 means "any free port"."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{show(value)} is not a port: write a number from {lowest} to 65535")
    if not lowest <= value <= 65535:
        raise ValueError(f"port {value} is not between {lowest} and 65535")
    return value


def parse_network(value: object) -> Network:
    """An address range: `10.0.0.0/8`, `::1`, `192.0.2.7`."""
    if isinstance(value, (IPv4Network, IPv6Network)):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{show(value)} is not an address range: write 10.0.0.0/8 or 192.0.2.7")
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        wider = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{show(value)} is not an address range: write 10.0.0.0/8 or 192.0.2.7") from None
    raise ValueError(f"{show(value)} has bits set to the right of its mask: write {wider}")


def parse_peer(value: object) -> Peer:
    """An address range, or `unix`: whoever is at the other end of a unix socket."""
    if value == UNIX:
        return UNIX
    return parse_network(value)


def parse_mode(value: object) -> int:
    """The mode of a socket file: `0660`. A number is refused, as TOML and JSON read it in different ways."""
    if isinstance(value, str) and _MODE(value.strip()):
        return int(value.strip(), 8)
    raise ValueError(f'{show(value)} is not the mode of a file: write four octal digits in quotes, "0660"')


def format_mode(mode: int) -> str:
    """A mode as `parse_mode` reads it back."""
    return f"{mode:04o}"


def _parse_socket_file(value: str) -> Address | None:
    """`unix:/run/lb.sock` or `unix:///run/lb.sock`; None for anything that does not begin with `unix:`."""
    found = _UNIX_ADDRESS(value.strip())
    if not found:
        return None
    path = found[1]
    if not _SOCKET_FILE(path):
        raise ValueError(
            f"{show(value)} is not the address of a unix socket: write an absolute path, unix:/run/lb.sock"
        )
    size = len(os.fsencode(path))
    if size > LONGEST_SOCKET_FILE:
        raise ValueError(f"{show(value)}: the path has {size} bytes, a unix socket takes {LONGEST_SOCKET_FILE} at most")
    return Address("", 0, path)


def parse_listen(value: object) -> Address:
    """The address of a listener: `:8080`, `127.0.0.1:8080`, `[::1]:8080`, a port alone, or `unix:/run/lb.sock`.

    Port 0 is any free port.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return Address("", parse_port(value, lowest=0))
    if not isinstance(value, str):
        raise ValueError(f'{show(value)} is not an address: write ":8080" or "127.0.0.1:8080"')
    if value.isascii() and value.isdigit():
        return Address("", parse_port(value, lowest=0))
    if unix := _parse_socket_file(value):
        return unix
    host, port = _split(value, example=":8080")
    return Address("" if host in ("", "*") else _host(host), parse_port(port, lowest=0))


def parse_backend(value: object) -> Address:
    """The address of a backend: `web1:8080`, `[::1]:8080`, `http://web1:8080` or `unix:/run/app.sock`.

    The port is 80 where a URL leaves it out.
    """
    if not isinstance(value, str):
        raise ValueError(f'{show(value)} is not the address of a backend: write "web1:8080"')
    if unix := _parse_socket_file(value):
        return unix
    url = _SCHEME(value)
    if not url:
        host, port = _split(value, example="web1:8080")
        return Address(_host(host), parse_port(port))
    scheme, rest = url[1].lower(), url[2]
    if scheme == "https":
        raise ValueError(f"{show(value)}: TLS to backends comes with lb-ssl; write http:// or host:port")
    if scheme != "http":
        raise ValueError(f"{show(value)}: {scheme}:// is not served; write http:// or host:port")
    authority = rest.removesuffix("/")
    if any(sign in authority for sign in "/?#"):
        raise ValueError(
            f"{show(value)}: a backend has no path, requests keep their own; write http://{authority.split('/')[0]}"
        )
    if "@" in authority:
        raise ValueError(f"{show(value)}: a backend's URL takes no user name or password")
    if re.fullmatch(r"\[[^\]]*\]|[^:]+", authority):
        authority += ":80"
    host, port = _split(authority, example="http://web1:8080")
    return Address(_host(host), parse_port(port))


def _split(text: str, *, example: str) -> tuple[str, str]:
    host, colon, port = text.strip().rpartition(":")
    if not colon or (text.strip().endswith("]") and host.startswith("[")):
        raise ValueError(f'{show(text)} has no port: write "{text.strip() or "web1"}:8080"')
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        if _is_ipv6(text.strip()):
            raise ValueError(f'{show(text)}: write an IPv6 address in brackets, "[{text.strip()}]:8080"')
        if _is_ipv6(host):
            raise ValueError(f'{show(text)}: write an IPv6 address in brackets, "[{host}]:{port}"')
        raise ValueError(f'{show(text)} is not an address: write "{example}"')
    return host, port


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def to_ascii(name: str) -> str:
    """An international host name as DNS knows it: `bücher.example` is `xn--bcher-kva.example` (IDNA)."""
    import idna

    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"{show(name)} is not an international host name: {error}") from None


def _host(text: str) -> str:
    if text.startswith("["):
        if not _is_ipv6(text[1:-1]):
            raise ValueError(f"{show(text)} is not an IPv6 address")
        return text[1:-1]
    if not text.isascii():
        text = to_ascii(text)
    if not _NAME(text) or ".." in text:
        raise ValueError(f"{show(text)} is not a host: use letters, digits, '-', '_' and '.'")
    if re.fullmatch(r"[0-9.]+", text):
        try:
            ip_address(text)
        except ValueError:
            raise ValueError(f"{show(text)} is not an IPv4 address") from None
    return text
