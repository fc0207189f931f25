"""The loop of these tests is uvloop's, as in production; what they measure stands in the summary of the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.support.figures import Measured, note


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of every async test in this directory."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def measured() -> Measured:
    """`measured(what, figure)` notes a figure for the summary."""
    return note
