"""Figures that grow and are only looked at: how often something has happened in all processes of a node together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.sharing.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Iterable


class Figures(Slots):
    """Slots whose numbers outlive the worker that wrote them: the control process adds them to its own row.

    `write` says what this process has counted so far, since its start.
    """

    __slots__ = ()

    def write(self, numbers: Iterable[int]) -> None:
        """This process's figures, all of them."""
        mine = self.mine
        for place, number in enumerate(numbers):
            mine[place] = number

    def seat_gone(self, seat: int) -> None:
        """In the control process: keep what the worker of that seat had counted."""
        if len(self._rows) > 1:
            for place, number in enumerate(self._rows[seat][: self.size]):
                self.mine[place] += number
        super().seat_gone(seat)
