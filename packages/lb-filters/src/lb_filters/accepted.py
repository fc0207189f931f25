"""Which coding a client wants its answer in, by its Accept-Encoding (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import re
from functools import lru_cache

_MEMBER = re.compile(r"([!#$%&'*+\-.^_`|~0-9a-z]+)[ \t]*(?:;[ \t]*q=([01](?:\.[0-9]{0,3})?))?").fullmatch
_ALIASES = {"x-gzip": "gzip"}


@lru_cache(maxsize=1024)
def chosen(accept: str, offered: tuple[str, ...]) -> str:
    """The coding with the highest quality, of several the one offered first; empty for none.

    What is not named has the quality of `*`, or is not wanted. A client that prefers the answer as it is gets that. A
    member that cannot be read is passed over.
    """
    qualities: dict[str, float] = {}
    for member in accept.lower().split(","):
        found = _MEMBER(member.strip(" \t"))
        if found is not None:
            qualities[_ALIASES.get(found[1], found[1])] = min(float(found[2] or 1), 1.0)
    rest = qualities.get("*", 0.0)
    best, highest = "", 0.0
    for coding in offered:
        quality = qualities.get(coding, rest)
        if quality > highest:
            best, highest = coding, quality
    return best if highest >= qualities.get("identity", 0.0) else ""
