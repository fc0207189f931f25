"""The bench every module here shares, and the line about all of them at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conformance import tally
from tests.conformance.bench import Bench, opened

if TYPE_CHECKING:
    from _pytest.reports import TestReport
    from _pytest.terminal import TerminalReporter


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One backend and its balancers for a module."""
    with opened() as made:
        yield made


def pytest_runtest_logreport(report: TestReport) -> None:
    if report.failed and "tests/conformance/" in report.nodeid:
        tally.wrong += 1


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if tally.runs:
        terminalreporter.write_line(tally.summary())
