"""Round robin: each backend in turn, whatever its weight.

The turn goes on from the backend chosen last, not from a position, so it survives a change of candidates: a backend
that leaves is passed over, one that joins has its turn when the round gets there, and a retry takes the next in line.
Backends that were there all the time therefore have counts that differ by at most one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import hookimpl

if TYPE_CHECKING:
    from lb_core import Backend


class RoundRobin:
    """The strategy `round_robin`."""

    __slots__ = ("_candidates", "_next")

    def __init__(self) -> None:
        self._candidates: tuple[Backend, ...] = ()
        self._next = 0

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        """The next in turn."""
        if candidates is not self._candidates:
            self._next = resume(self._candidates, self._next, candidates)
            self._candidates = candidates
        position = self._next
        self._next = position + 1 if position + 1 < len(candidates) else 0
        return candidates[position]


def resume(old: tuple[Backend, ...], following: int, new: tuple[Backend, ...]) -> int:
    """Where in `new` a round goes on that had `old[following]` as its next.

    That is right after the backend chosen last, or, where that one is gone, at the first of those due after it.
    """
    if not old:
        return 0
    places = {backend: place for place, backend in enumerate(new)}
    last = old[following - 1]
    if last in places:
        return (places[last] + 1) % len(new)
    due = old[following:] + old[:following]
    return next((places[backend] for backend in due if backend in places), 0)
