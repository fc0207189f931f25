"""Host patterns of routes, normalised: lower case, no trailing dot, non-ASCII labels as A-labels (IDNA).

example.com       that host
*.example.com     one label before it
**.example.com    one or more labels before it
*                 every host nothing else matches
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from lb_core.units import show, to_ascii

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?").fullmatch
_PORT = re.compile(r"(.+):[0-9]+").fullmatch


def normalise_pattern(text: str) -> str:
    """The one way to write a host pattern; ValueError says what to write instead."""
    if text == "*":
        return text
    if "://" in text:
        raise ValueError(
            f"{show(text)} is a URL: a route is a host, write {show(text.split('://', 1)[1].split('/')[0])}"
        )
    if "/" in text:
        raise ValueError(
            f"{show(text)} has a path: write the host, and the path as `path_prefix` of a rule under `match`"
        )
    if text.startswith("[") or text.count(":") > 1:
        return _ipv6(text)
    if with_port := _PORT(text):
        raise ValueError(f"{show(text)} has a port: hosts are matched without it, write {show(with_port[1])}")
    for wildcard in ("**.", "*."):
        if text.startswith(wildcard):
            return wildcard + _name(text.removeprefix(wildcard), text)
    return _name(text, text)


def is_wildcard(pattern: str) -> bool:
    """Whether a normalised pattern stands for more than one host."""
    return pattern.startswith("*")


def _name(name: str, text: str) -> str:
    if "*" in name:
        raise ValueError(
            f'{show(text)}: a wildcard stands for whole labels at the front: write "*.example.com" or "**.example.com"'
        )
    name = name.removesuffix(".").lower()
    if not name.isascii():
        name = to_ascii(name)
    if not name or len(name) > 253:
        raise ValueError(f"{show(text)} is not a host: it has {len(name)} characters, 1 to 253 are possible")
    for label in name.split("."):
        if not _LABEL(label):
            raise ValueError(f"{show(text)} is not a host: {show(label)} should be 1 to 63 letters, digits, '-' or '_'")
    return name


def _ipv6(text: str) -> str:
    try:
        return f"[{IPv6Address(text.removeprefix('[').removesuffix(']')).compressed}]"
    except ValueError:
        raise ValueError(
            f'{show(text)} is not an IPv6 address: write it like "[2001:db8::1]", without a port'
        ) from None
