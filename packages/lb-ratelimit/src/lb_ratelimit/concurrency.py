"""Concurrency: at most `requests` of a key under way at the same time, exactly.

A request is under way from when it is let pass until it has ended, however it ended. Keys are kept while they have one,
so there are never more of them than requests under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lb_ratelimit.counters import InFlight

if TYPE_CHECKING:
    from lb_ratelimit.recent import Key


class Gauge(Protocol):
    """Where it is counted what is under way: in this process alone, or together with others."""

    def __len__(self) -> int:
        """How many keys have a request under way."""

    def peek(self, key: Key) -> int:
        """How many are under way."""

    def add(self, key: Key, amount: int = 1) -> float:
        """One has begun, or with -1 ended; returns how many are under way then."""


class Concurrency:
    """`requests` at the same time."""

    __slots__ = ("counters", "requests")

    def __init__(self, requests: int, counters: Gauge | None = None) -> None:
        self.requests = requests
        self.counters: Gauge = InFlight() if counters is None else counters

    def take(self, key: Key, now: float) -> bool:  # noqa: ARG002 (time does not matter here)
        """Whether a request may pass, which is then under way."""
        if self.counters.peek(key) >= self.requests:
            return False
        self.counters.add(key)
        return True

    def give_back(self, key: Key, now: float) -> None:  # noqa: ARG002
        """A request has ended."""
        self.counters.add(key, -1)

    def remaining(self, key: Key, now: float) -> int:  # noqa: ARG002
        """How many more may be under way."""
        return max(0, self.requests - self.counters.peek(key))

    def reset(self, key: Key, now: float) -> None:
        """Nobody knows when one of them ends."""

    def retry_after(self, key: Key, now: float) -> float:  # noqa: ARG002
        """A second, which is as good as any other advice."""
        return 1.0

    def resize(self, most: int) -> None:
        """What is under way cannot be forgotten."""
