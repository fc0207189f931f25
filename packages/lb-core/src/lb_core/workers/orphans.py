"""Workers whose nursery has ended: nobody waits for them any more, so their ends are seen by their descriptors."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lb_core.workers.seated import Seated

    Ended = Callable[[int, int | None, str], None]


def watch(workers: Iterable[Seated], ended: Ended) -> None:
    """Call `ended(seat, status, reason)` for each when it has; at once for one that nobody can see any more."""
    loop = asyncio.get_running_loop()
    for worker in list(workers):
        if worker.pidfd < 0:
            ended(worker.seat, None, "a lost nursery")
        else:
            loop.add_reader(worker.pidfd, _seen, worker.seat, worker.pid, worker.pidfd, ended)


def _seen(seat: int, pid: int, pidfd: int, ended: Ended) -> None:
    asyncio.get_running_loop().remove_reader(pidfd)
    status = None
    with suppress(ChildProcessError):  # as the first process of a container we inherit it
        status = os.waitpid(pid, os.WNOHANG)[1]
    ended(seat, status, "")
