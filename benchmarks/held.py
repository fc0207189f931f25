"""Which process holds how many of a port's connections, read from /proc."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ESTABLISHED = "01"
LOCAL, STATE, INODE = 1, 3, 9
"""Columns of /proc/net/tcp."""


def held(pids: Iterable[int], port: int) -> Counter[int]:
    """Open connections to a port by the process that accepted them; a process with none is not in it."""
    inodes = _accepted(port)
    return Counter(pid for pid in pids for inode in _sockets(pid) if inode in inodes)


def _accepted(port: int) -> set[str]:
    ending = f":{port:04X}"
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[LOCAL].endswith(ending) and columns[STATE] == ESTABLISHED:
            found.add(columns[INODE])
    return found


def _sockets(pid: int) -> list[str]:
    found = []
    with suppress(OSError):
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                kind, _, rest = os.readlink(descriptor.path).partition(":[")
                if kind == "socket":
                    found.append(rest.rstrip("]"))
    return found
