"""What holds for every test of the repository: one summary, and how pytest-xdist shares them among processes."""

from __future__ import annotations

from typing import Any

import pytest

pytest_plugins = ["tests.support.summary"]

APART = "tests/project/test_packages_alone.py::test_unit_tests_pass"
"""Long tests that share nothing but what is built for all of them: each may go to another process."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the tests, files that take long come first, lest one is left for the end."""
    if hasattr(config, "workerinput"):
        long = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """A file stays in one process, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(APART) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)
