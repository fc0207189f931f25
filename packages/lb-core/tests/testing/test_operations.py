"""Counting operations: the same each time, and whoever traced before goes on."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from lb_core.testing.operations import operations


def scan(count: int) -> int:
    return min(abs(number) for number in range(count))


def test_more_work_is_more_operations() -> None:
    ten, thousand = operations(lambda: scan(10)), operations(lambda: scan(1000))
    assert operations(lambda: scan(10)) == ten
    assert 50 * ten < thousand < 150 * ten


def test_a_tracer_goes_on_afterwards() -> None:
    def tracer(frame: FrameType, event: str, argument: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        operations(lambda: scan(3))
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
