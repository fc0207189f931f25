"""The bench every module here shares, and the line about all of them at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from zlib import crc32

import pytest

from lb_core.engine import downstream, upstream
from lb_core.engine.request_heads import read_request
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


@pytest.fixture(autouse=True)
def with_or_without_speedups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the cases, always the same, go without the scanners of lb-speedups; those have a test of equality too."""
    if crc32(request.node.name.encode()) % 2:
        monkeypatch.setattr(downstream, "read", read_request)
        monkeypatch.setattr(upstream, "scan_response", None)


def pytest_runtest_logreport(report: TestReport) -> None:
    if report.failed and "tests/conformance/" in report.nodeid:
        tally.wrong += 1


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if tally.runs:
        terminalreporter.write_line(tally.summary())
