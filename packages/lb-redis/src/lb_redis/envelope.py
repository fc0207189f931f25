"""What nodes say to each other over the channel of facts: JSON, one message in one envelope.

    {"v": 1, "from": "edge-1", "boot": "9f…", "seq": 17, "kind": "fact", "topic": …, "message": …}

`seq` counts what one run of a node has said, so that whoever hears it notices a gap. An envelope of a later version is
read for the kinds that are known; keys that are not known are ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

VERSION = 1
LARGEST_FACT = 64 * 1024
"""Bytes of one message; a larger one is not told to other nodes."""
LARGEST = 512 * 1024
"""Bytes of one envelope; a larger one is not read."""
FULL = 128 * 1024
"""Bytes after which facts that are told together go on in another envelope."""

Fact = tuple[str, Any]
"""A topic and a message."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message of one node."""

    sender: str
    boot: str
    sequence: int
    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)


class Malformed(ValueError):
    """What was heard is no envelope; the text says why."""


def seal(envelope: Envelope) -> bytes:
    """An envelope as it is published; raises ValueError or TypeError for what JSON cannot carry."""
    head = {"v": VERSION, "from": envelope.sender, "boot": envelope.boot, "seq": envelope.sequence}
    text = json.dumps({**envelope.body, **head, "kind": envelope.kind}, separators=(",", ":"), allow_nan=False)
    return text.encode()


def unseal(data: object) -> Envelope:
    """The envelope in what was heard. Raises Malformed."""
    if not isinstance(data, (bytes, str)):
        raise Malformed("it is not text")
    if len(data) > LARGEST:
        raise Malformed(f"it has {len(data)} bytes, more than {LARGEST}")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("it is not JSON") from None
    match body:
        case {"v": int(), "from": str(sender), "boot": str(boot), "seq": int(sequence), "kind": str(kind)}:
            return Envelope(sender, boot, sequence, kind, body)
    raise Malformed("it lacks one of v, from, boot, seq and kind")


def batches(facts: Iterable[Fact]) -> Iterator[list[Fact]]:
    """Facts in portions that fit into an envelope; one that is too large by itself is left out."""
    portion: list[Fact] = []
    length = 0
    for topic, message in facts:
        each = length_of(topic, message)
        if each > LARGEST_FACT:
            continue
        if portion and length + each > FULL:
            yield portion
            portion, length = [], 0
        portion.append((topic, message))
        length += each
    if portion:
        yield portion


def facts_in(body: Mapping[str, Any]) -> list[Fact]:
    """The facts of a `state` envelope; what is not of their form is left out."""
    found = body.get("facts")
    pairs = found if isinstance(found, list) else []
    return [
        (each[0], each[1]) for each in pairs if isinstance(each, list) and len(each) == 2 and isinstance(each[0], str)
    ]


def length_of(topic: str, message: object) -> int:
    """Bytes of a fact as JSON; more than may be told for what JSON cannot carry."""
    try:
        return len(topic) + len(json.dumps(message, separators=(",", ":"), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return LARGEST_FACT + 1
