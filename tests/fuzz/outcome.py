"""What an input caused, as it was seen from every side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.reading import Message


@dataclass(slots=True)
class Seen:
    """A request that reached the backend, as far as it came."""

    message: Message
    connection: int
    answer: bytes = b""
    """The body it was answered with."""
    tunnel: bytes = b""
    answered: bool = False


@dataclass(slots=True)
class Outcome:
    """All that an input caused."""

    seen: list[Seen] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    """What reached the backend and was no request."""
    received: bytes = b""
    """What the client got."""
    ended: str = "open"
    """How its connection stood when nothing moved any more: open, closed, reset."""
    hangs: list[str] = field(default_factory=list)
    sentinel: list[str] = field(default_factory=list)
    reused: set[int] = field(default_factory=set)
    """The connections to the backend that served the sentinel."""
    after: bytes = b""
    """The body that a last request over the same connection must be answered with."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and how."""

    invariant: str
    detail: str
