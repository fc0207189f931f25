"""The loop of these tests is uvloop's, as in production."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of every async test in this directory."""
    return {"uvloop": uvloop.new_event_loop}
