"""Whole lines from several processes in one pipe, terminal or socket.

A write of at most PIPE_BUF bytes comes out in one piece, also when the process is killed meanwhile; a longer one may
be mixed with those of others. So lines are written in portions of that size, and one that is longer alone: whoever
writes it waits until no other writes, and the others wait for it. A file needs none of that: with O_APPEND each write
is whole.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager

PORTION = getattr(select, "PIPE_BUF", 512)


class Turns:
    """The right to write to something that other processes write to as well; `lock` is a file all of them have open."""

    def __init__(self, lock: int) -> None:
        self._lock = lock

    @contextmanager
    def turn(self, size: int) -> Iterator[None]:
        """For one write of that size."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX if size > PORTION else fcntl.LOCK_SH, 1)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1)


def needs_turns(descriptor: int) -> bool:
    """Whether what several processes write there may be mixed."""
    return not stat.S_ISREG(os.fstat(descriptor).st_mode)


def portions(lines: bytes) -> Iterator[memoryview]:
    """Whole lines, as many at a time as come out in one piece."""
    rest, begin = memoryview(lines), 0
    while begin < len(lines):
        end = len(lines)
        if end - begin > PORTION:
            end = lines.rfind(b"\n", begin, begin + PORTION) + 1 or lines.find(b"\n", begin) + 1 or len(lines)
        yield rest[begin:end]
        begin = end
