"""Questions that only the workers can answer, put to all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING, Any

from lb_core.workers import messages

if TYPE_CHECKING:
    from lb_core.workers.seated import Seated

SECONDS = 2.0
"""How long a worker may take to answer; what others have said is told without it."""


class _Question:
    def __init__(self, seats: Iterable[int]) -> None:
        self.open = set(seats)
        self.answers: list[Any] = []
        self.complete = asyncio.Event()

    def close(self, seat: int) -> None:
        self.open.discard(seat)
        if not self.open:
            self.complete.set()


class Questions:
    """Those that wait for answers."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._numbers = count(1)
        self._open: dict[int, _Question] = {}

    async def put(self, workers: Iterable[Seated], what: str, argument: str) -> list[Any]:
        """Ask all of these; returns what they answer, in no order."""
        asked = list(workers)
        number = next(self._numbers)
        question = self._open[number] = _Question(each.seat for each in asked)
        for each in asked:
            each.send(messages.Ask(number, what, argument))
        try:
            if asked:
                async with asyncio.timeout(self._seconds):
                    await question.complete.wait()
        except TimeoutError:
            pass
        finally:
            del self._open[number]
        return question.answers

    def answered(self, number: int, seat: int, value: Any) -> None:
        """A worker has answered."""
        question = self._open.get(number)
        if question is not None and seat in question.open:
            question.answers.append(value)
            question.close(seat)

    def gone(self, seat: int) -> None:
        """A worker will not answer any more."""
        for question in list(self._open.values()):
            question.close(seat)
