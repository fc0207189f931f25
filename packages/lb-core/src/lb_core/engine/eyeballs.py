"""Happy eyeballs: several addresses of one backend, and the first that connects (RFC 8305 section 5)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lb_core.engine.upstream import Upstream

HEAD_START = 0.25
"""Seconds an attempt has before the next address is tried beside it."""

Open = Callable[[str], Coroutine[Any, Any, "Upstream"]]


async def race(addresses: Sequence[str], open_one: Open, head_start: float = HEAD_START) -> tuple[str, Upstream]:
    """Try the addresses in order, the next after a head start or a failure; the address that won, and its connection.

    The others are closed. Raises OSError naming every address when none connects.
    """
    loop = asyncio.get_running_loop()
    left = list(reversed(addresses))
    running: dict[asyncio.Task[Upstream], str] = {}
    failures: dict[str, BaseException] = {}
    try:
        while left or running:
            if left:
                address = left.pop()
                running[loop.create_task(open_one(address))] = address
            wait = head_start if left else None
            done, _ = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    return running.pop(task), task.result()
                failures[running.pop(task)] = error
                if not isinstance(error, OSError):
                    raise error
    finally:
        for task in running:
            task.add_done_callback(_close)
            task.cancel()
    raise _together(failures)


def _close(task: asyncio.Task[Upstream]) -> None:
    """One that was overtaken, also just as it connected."""
    with suppress(asyncio.CancelledError, Exception):
        task.result().abandon()


def _together(failures: dict[str, BaseException]) -> OSError:
    """One error for all addresses; its number is that of the first."""
    reasons = [(address, getattr(error, "errno", None), error) for address, error in failures.items()]
    text = "; ".join(f"{address}: {os.strerror(number) if number else error}" for address, number, error in reasons)
    return OSError(reasons[0][1], text)
