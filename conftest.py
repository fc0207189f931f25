"""What holds for every test of the repository: one summary, and how tests are shared among processes."""

from __future__ import annotations

from typing import Any

import pytest

pytest_plugins = ["tests.support.summary"]

APART = "tests/project/test_packages_alone.py::test_unit_tests_pass"
"""Long tests that share nothing but what is built for all of them: each may go to another process."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--timed` for tools/run-tests; -m is left to whoever runs it."""
    text = "only the tests that measure, or all the others"
    parser.addoption("--timed", choices=("only", "without"), help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for; where processes share the tests, files that take long come first."""
    wanted = config.getoption("timed")
    if wanted:
        timed = [item for item in items if item.get_closest_marker("timed")]
        others = [item for item in items if not item.get_closest_marker("timed")]
        items[:], left_out = (timed, others) if wanted == "only" else (others, timed)
        config.hook.pytest_deselected(items=left_out)
    if hasattr(config, "workerinput"):
        long = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """A file stays in one process; files go out in the order above."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(APART) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)
