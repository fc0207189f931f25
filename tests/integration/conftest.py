"""The loop of these tests is uvloop's, as in production; what they measure is shown at the end of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.support.figures import Measured, figures, note


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of every async test in this directory."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def measured() -> Measured:
    """`measured(what, figure)` notes a figure for the summary."""
    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured."""
    if figures:
        terminalreporter.section("measured")
        width = max(len(what) for what, _ in figures)
        for what, figure in figures:
            terminalreporter.write_line(f"{what:{width}}  {figure}")
