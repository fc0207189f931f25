"""First: fills one backend up to its limit, then the next, in the order of the configuration.

Few backends then do all the work, and the others can be switched off. A backend without `max_connections` is never
full: those after it get nothing while it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import hookimpl

if TYPE_CHECKING:
    from lb_core import Backend

EXACT = 16
"""Up to so many backends every choice looks at all of them. Above, those found full are passed over for some choices,
one for each sixteen backends, before they are looked at again."""


class First:
    """The strategy `first`."""

    __slots__ = ("_begin", "_candidates", "_left")

    def __init__(self) -> None:
        self._candidates: tuple[Backend, ...] = ()
        self._begin = 0
        self._left = 0

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        """The first with room; when all are full, the first."""
        self._left -= 1
        if self._left < 0 or candidates is not self._candidates:
            self._candidates = candidates
            self._left = len(candidates) // EXACT
            self._begin = 0
        for place in range(self._begin, len(candidates)):
            backend = candidates[place]
            if backend.in_flight < backend.limit:
                self._begin = place
                return backend
        self._begin = 0
        return candidates[0]
