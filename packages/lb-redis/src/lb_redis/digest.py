"""Whether two nodes know the same, found out without telling it all.

Facts are put into 64 buckets by their topic, and each bucket has a digest. Times run on while they travel, so a number
with a point counts for nothing in a digest: whoever makes facts tells times as floats and everything else otherwise.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lb_redis.envelope import Fact

BUCKETS = 64

Digests = dict[str, str]
"""Bucket by its digest; a bucket without facts has none."""


def digests(facts: Iterable[Fact]) -> Digests:
    """The digest of each bucket."""
    lines: dict[str, list[bytes]] = {}
    for topic, message in facts:
        lines.setdefault(bucket_of(topic), []).append(f"{topic}\0{_canonical(message)}".encode())
    return {bucket: blake2b(b"\n".join(sorted(found)), digest_size=8).hexdigest() for bucket, found in lines.items()}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The buckets in which two nodes do not know the same."""
    return {bucket for bucket in {*one, *other} if one.get(bucket) != other.get(bucket)}


def bucket_of(topic: str) -> str:
    """The bucket of a topic."""
    return str(crc32(topic.encode()) % BUCKETS)


def within(facts: Iterable[Fact], buckets: Iterable[object]) -> list[Fact]:
    """The facts of some buckets."""
    wanted = {str(bucket) for bucket in buckets}
    return [fact for fact in facts if bucket_of(fact[0]) in wanted]


def _canonical(message: object) -> str:
    return json.dumps(_timeless(message), separators=(",", ":"), sort_keys=True, default=str)


def _timeless(value: Any) -> Any:
    match value:
        case float():
            return None
        case dict():
            return {str(key): _timeless(item) for key, item in value.items()}
        case list() | tuple():
            return [_timeless(item) for item in value]
    return value
