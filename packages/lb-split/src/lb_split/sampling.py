"""Every so many of a hundred, evenly: after n calls n times the share were chosen, give or take less than one."""

from __future__ import annotations

WHOLE = 1_000_000


class Sampling:
    """Chooses `percent` of the calls, to a ten-thousandth of a percent."""

    __slots__ = ("_credit", "_step")

    def __init__(self, percent: float) -> None:
        self._step = round(percent * WHOLE / 100)
        self._credit = WHOLE // 2

    def __call__(self) -> bool:
        """Whether this one is chosen."""
        credit = self._credit + self._step
        if credit < WHOLE:
            self._credit = credit
            return False
        self._credit = credit - WHOLE
        return True
