"""What a process holds, read from /proc: memory that is its own alone, descriptors, threads, bytes in its sockets.

Memory is what is anonymous: heap, stacks and written copies of files. Resident and proportional sizes would also
change with who else maps the same libraries.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TABLES = ("net/tcp", "net/tcp6")
_LISTENING = "0A"


@dataclass(frozen=True)
class Footprint:
    """One reading; memory in kB."""

    own: int
    proportional: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.own / 1024:.1f} MB of its own ({self.proportional / 1024:.1f} MB with its share of libraries), "
            f"{self.descriptors} descriptors, {self.threads} threads"
        )


def footprint(pid: int) -> Footprint:
    """What a process holds now."""
    sizes = {}
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
        name, _, size = line.partition(":")
        sizes[name] = int(size.split()[0])
    return Footprint(
        own=sizes["Anonymous"] + sizes.get("Swap", 0),
        proportional=sizes["Pss"],
        descriptors=len(os.listdir(PROC / str(pid) / "fd")),
        threads=len(os.listdir(PROC / str(pid) / "task")),
    )


def own_kb(pid: int) -> int:
    """Its own memory alone."""
    return footprint(pid).own


def queued(ports: Iterable[int]) -> int:
    """Bytes that the kernel holds for sockets at either end of these ports: not yet acknowledged, or not yet read."""
    wanted = {f"{port:04X}" for port in ports}
    total = 0
    for table in _TABLES:
        if not (PROC / table).exists():  # a kernel without IPv6
            continue
        for line in (PROC / table).read_text().splitlines()[1:]:
            _, local, remote, state, queues, *_ = line.split()
            if state == _LISTENING or wanted.isdisjoint((local.rpartition(":")[2], remote.rpartition(":")[2])):
                continue
            sending, _, receiving = queues.partition(":")
            total += int(sending, 16) + int(receiving, 16)
    return total
