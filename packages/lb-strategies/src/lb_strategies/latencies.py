"""How fast backends answer: a peak-sensitive moving average for each.

As Finagle's PeakEwma has it: a latency above the average replaces it at once, one below draws it down by the time that
has passed since the last one, `average * w + latency * (1 - w)` with `w = exp(-elapsed / decay)`. A backend that turns
slow is therefore believed at once, and one that turns fast over some multiples of `decay`.

A backend that joins begins with the mean of the others. While nobody has been measured all count the same; after that,
those still without a measurement count half as much as the fastest answer, so that they are asked next and soon all are
known. A failure makes no such guess: it says nothing about the others.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lb_core import Backend

NOTHING_KNOWN = 0.001
GUESSED = 0.5
"""What those that were there from the beginning and have no measurement count for, of the fastest answer."""
LEAST = 1e-6
"""What a latency counts for at least, so that requests in flight make a difference whatever the clock's steps."""
FORGOTTEN = 600.0
"""Seconds after which a backend that was neither chosen nor a candidate is forgotten."""


class Latency:
    """The average of one backend.

    `seconds` is that average and `cost` the same for its weight, `measured` the moment of the last measurement (0.0 for
    none), `chosen` the moment it was last chosen.
    """

    __slots__ = ("chosen", "cost", "measured", "seconds", "weight")

    def __init__(self, seconds: float, weight: float, chosen: float) -> None:
        self.weight = weight
        self.measured = 0.0
        self.chosen = chosen
        self.set(seconds)

    def set(self, seconds: float) -> None:
        """Take a new average."""
        self.seconds = seconds
        self.cost = seconds / self.weight


class Latencies:
    """The averages of the backends that were candidates lately."""

    __slots__ = ("_decay", "_fastest", "_guessed", "_known")

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._known: dict[Backend, Latency] = {}
        self._guessed: dict[Backend, Latency] = {}
        self._fastest = float("inf")

    def of(self, backends: Iterable[Backend], now: float, before: Callable[[], float]) -> list[Latency]:
        """The averages of these, at their present weights.

        A backend not seen so far counts as last chosen `before()` seconds ago.
        """
        self._forget(now)
        known = self._known
        mean = self.mean()
        beginning = len(self._guessed) == len(known)
        found = []
        for backend in backends:
            latency = known.get(backend)
            if latency is None:
                latency = known[backend] = Latency(mean, backend.weight, now - before())
                if beginning:
                    self._guessed[backend] = latency
            elif latency.weight != backend.weight:
                latency.weight = backend.weight
                latency.set(latency.seconds)
            found.append(latency)
        return found

    def observe(self, backend: Backend, seconds: float, now: float, *, failed: bool = False) -> None:
        """A backend took so long, or counts as having done. Of one that never was a candidate nothing is kept."""
        latency = self._known.get(backend)
        if latency is None:
            return
        seconds = max(seconds, LEAST)
        average = latency.seconds
        if not latency.measured:
            latency.set(seconds)
            if self._guessed.pop(backend, None) is not None and not failed:
                self._guess(seconds)
        elif seconds >= average:
            latency.set(seconds)
        else:
            latency.set(seconds + (average - seconds) * exp((latency.measured - now) / self._decay))
        latency.measured = now

    def at_least(self, backend: Backend, seconds: float, now: float) -> None:
        """A backend took longer than this: who asked did not wait for its answer."""
        latency = self._known.get(backend)
        if latency is not None and seconds > latency.seconds:
            self.observe(backend, seconds, now)

    def mean(self) -> float:
        """The mean of what has been measured."""
        measured = [each.seconds for each in self._known.values() if each.measured]
        return sum(measured) / len(measured) if measured else NOTHING_KNOWN

    def measured(self) -> dict[Backend, float]:
        """The averages of the backends of which one is known."""
        return {backend: each.seconds for backend, each in self._known.items() if each.measured}

    def inherit(self, old: Latencies) -> None:
        """Go on with what another has measured; requests that began with that one are counted here too."""
        self._known, self._guessed, self._fastest = old._known, old._guessed, old._fastest

    def _guess(self, seconds: float) -> None:
        if seconds < self._fastest:
            self._fastest = seconds
            for latency in self._guessed.values():
                latency.set(seconds * GUESSED)

    def _forget(self, now: float) -> None:
        long_gone = [backend for backend, each in self._known.items() if now - each.chosen > FORGOTTEN]
        for backend in long_gone:
            del self._known[backend]
            self._guessed.pop(backend, None)
