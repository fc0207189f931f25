"""Without coverage a process starts in half the time, and does its work in a third: for lines that others see too."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def environment() -> dict[str, str]:
    """The environment for a process that coverage does not follow."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE_"))}


@contextmanager
def uncovered() -> Iterator[None]:
    """Coverage looks away from this thread, and from those that it starts."""
    before, of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    yield
    threading.settrace(of_threads)
    sys.settrace(before)
