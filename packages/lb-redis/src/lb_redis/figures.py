"""What the connection to Redis has cost and borne, for whoever draws figures from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Figures:
    """Counters since the start, and gauges; seconds are monotonic where nothing else is said."""

    commands: int = 0
    """Commands sent, those of scripts counted as one."""
    errors: int = 0
    """Those that failed or were not answered in time."""
    bytes_sent: int = 0
    """Of what the commands carry."""
    bytes_received: int = 0
    """Of the answers and of what is published by others."""
    seconds: float = 0.0
    """Spent waiting for answers."""
    joined: bool = False
    """Whether Redis is there now."""
    joins: int = 0
    losses: int = 0
    lost_seconds: float = 0.0
    """All times without Redis that are over; `Link.lost_seconds` adds the present one."""
    last_exchange: float = 0.0
    """When counts were last exchanged, in seconds since the epoch; 0.0 for never."""
    facts_sent: int = 0
    facts_received: int = 0
    facts_dropped: int = 0
    """Facts that could not be told or understood; the next comparison makes good for them."""


def size(value: object) -> int:
    """How many bytes a command or an answer carries."""
    match value:
        case bytes() | str():
            return len(value)
        case list() | tuple():
            return sum(map(size, value))
        case None:
            return 0
    return 8
