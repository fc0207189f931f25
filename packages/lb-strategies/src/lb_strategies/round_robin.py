"""Round robin: each backend in turn, whatever its weight.

The turn goes on from the backend chosen last, not from a position, so it survives a change of candidates: a backend
that leaves is passed over, one that joins has its turn when the round gets there, and a retry takes the next in line.
Backends that were there all the time therefore have counts that differ by at most one.

A backend in its slow start is passed over in as many rounds as its warmth asks for: at a third it has every third turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import hookimpl

if TYPE_CHECKING:
    from lb_core import Backend

WHOLE = 1 - 1e-9
"""A turn, but for what adding up shares loses."""


class RoundRobin:
    """The strategy `round_robin`."""

    __slots__ = ("_candidates", "_cold", "_next")

    def __init__(self) -> None:
        self._candidates: tuple[Backend, ...] = ()
        self._cold: dict[Backend, float] = {}
        self._next = 0

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        """The next in turn."""
        if candidates is not self._candidates:
            self._next = resume(self._candidates, self._next, candidates)
            self._candidates = candidates
            self._cold = {each: self._cold.get(each, 0.0) for each in candidates if each.warmth < 1}
        while True:
            position = self._next
            self._next = position + 1 if position + 1 < len(candidates) else 0
            backend = candidates[position]
            if not self._cold or backend not in self._cold or self._earned(backend):
                return backend

    def inherit(self, old: object) -> None:
        """Go on with the round of the route as it was before."""
        if isinstance(old, RoundRobin):
            self._candidates, self._next, self._cold = old._candidates, old._next, old._cold

    def _earned(self, backend: Backend) -> bool:
        """Whether a backend in its slow start has gathered a whole turn."""
        gathered = self._cold[backend] + backend.warmth
        earned = gathered >= WHOLE
        self._cold[backend] = gathered - 1 if earned else gathered
        return earned


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
