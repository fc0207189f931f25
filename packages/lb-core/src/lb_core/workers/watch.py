"""Watching workers: whether they live, and what they count."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lb_core.workers import beats

if TYPE_CHECKING:
    from lb_core.workers.beats import Beats
    from lb_core.workers.counters import Sums
    from lb_core.workers.seated import Seated

EVERY = 0.5
HUNG_AFTER = 10
"""Looks without a beat."""
STARTS_WITHIN = 120
"""The same for a worker that starts, or applies a configuration."""
COUNTING_MOST = 20
"""Adding up may take one part in so many of the time."""


class Watch:
    """Looks at the workers twice a second; `hung` is told of one whose loop does not turn, which is then killed."""

    def __init__(
        self, workers: Mapping[int, Seated], beating: Beats, sums: Sums, hung: Callable[[Seated, float], None]
    ) -> None:
        self._workers = workers
        self._beats = beating
        self._sums = sums
        self._hung = hung

    async def run(self, generation: Callable[[], int]) -> None:
        """Look for as long as it is not cancelled; `generation` is that of the configuration all shall have."""
        count_at = 0.0
        while True:
            await asyncio.sleep(EVERY)
            for worker in list(self._workers.values()):
                self._look_at(worker, generation())
            begin = time.monotonic()
            if begin >= count_at:
                self._sums.collect(self._workers)
                count_at = begin + max(2 * EVERY - 0.1, COUNTING_MOST * (time.monotonic() - begin))

    def _look_at(self, worker: Seated, generation: int) -> None:
        missed = worker.pulse.look(self._beats.read(worker.seat, beats.BEAT))
        busy = worker.state == "starting" or worker.generation != generation
        if missed >= (STARTS_WITHIN if busy else HUNG_AFTER) and not worker.hung:
            self._hung(worker, missed * EVERY)
            worker.end_hung()
        elif time.monotonic() > worker.ends_by:
            worker.kill()
