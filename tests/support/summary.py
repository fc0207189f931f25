"""What tests measured and counted, at the end of a run, also when several processes share the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance import tally
from tests.support.figures import figures

if TYPE_CHECKING:
    from _pytest.reports import TestReport
    from _pytest.terminal import TerminalReporter


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands over what it has; the process that prints is another."""
    handed: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if handed is not None:
        handed["figures"] = figures
        handed["conformance"] = sorted(tally.cases), tally.runs


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker hands over; one that crashed has nothing."""
    handed = getattr(node, "workeroutput", {})
    figures.extend((what, figure) for what, figure in handed.get("figures", ()))
    cases, runs = handed.get("conformance", ((), 0))
    tally.add(cases, runs)


def pytest_runtest_logreport(report: TestReport) -> None:
    """Count the conformance cases that went wrong; every report comes by in the process that prints."""
    if report.failed and "tests/conformance/" in report.nodeid:
        tally.wrong += 1


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Show it."""
    if tally.runs:
        terminalreporter.write_line(tally.summary())
    if figures:
        terminalreporter.section("measured")
        width = max(len(what) for what, _ in figures)
        for what, figure in sorted(figures, key=lambda each: each[0]):
            terminalreporter.write_line(f"{what:{width}}  {figure}")
