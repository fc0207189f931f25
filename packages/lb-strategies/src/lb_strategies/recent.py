"""What was worked out for the last few tuples of candidates.

A pool passes the same tuple object until it changes, a retry passes the tuple without the backend that was tried, and
a fallback pool passes its own. Keeping a few makes going back and forth free. Tuples are compared by identity: they
are held here, so an identity is never reused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Backend

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values of the `limit` tuples used last, each built when first asked for."""

    __slots__ = ("_build", "_kept", "_limit")

    def __init__(self, build: Callable[[tuple[Backend, ...]], Value], limit: int = 4) -> None:
        self._build = build
        self._limit = limit
        self._kept: list[tuple[tuple[Backend, ...], Value]] = []

    def get(self, candidates: tuple[Backend, ...]) -> Value:
        """The value that belongs to this very tuple."""
        for place, (known, value) in enumerate(self._kept):
            if known is candidates:
                self._kept.insert(0, self._kept.pop(place))
                return value
        value = self._build(candidates)
        self._kept.insert(0, (candidates, value))
        del self._kept[self._limit :]
        return value
