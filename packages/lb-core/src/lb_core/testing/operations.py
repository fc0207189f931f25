"""Counting what a call does in Python operations, which unlike time are the same on every machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def operations(call: Callable[[], object]) -> int:
    """How many operations (bytecodes) of Python a call executes; what C functions do inside is not counted.

    Whoever traces (a debugger, coverage) does not see the call and goes on afterwards.
    """
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG001  # pragma: no cover  (cannot trace itself)
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
