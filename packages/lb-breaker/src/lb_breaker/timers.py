"""Calls at a later moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> object: ...


def later(seconds: float, call: Callable[[], None]) -> Timer:
    """Call it on the running loop."""
    return asyncio.get_running_loop().call_later(seconds, call)
