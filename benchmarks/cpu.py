"""What a process tree has cost: CPU time in nanoseconds, memory in kB, read from /proc.

schedstat counts nanoseconds on the CPU, kernel work included, so it sees what clock ticks of 10 ms miss. Other load on
the machine changes it only through caches and the sibling hyper-thread.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
IDLE_COLUMNS = (3, 4)  # idle and iowait of the first line of /proc/stat


def tree(pid: int) -> list[int]:
    """The process and everything that descends from it."""
    children = defaultdict(list)
    for stat in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children[int(fields[1])].append(int(stat.parent.name))
    found = [pid]
    for parent in found:
        found += children[parent]
    return found


def cpu_ns(pids: list[int]) -> int:
    """CPU nanoseconds of all threads of these processes so far."""
    total = 0
    for pid in pids:
        for schedstat in (PROC / str(pid) / "task").glob("*/schedstat"):
            with suppress(OSError):
                total += int(schedstat.read_text().split()[0])
    return total


def machine_ns() -> int:
    """CPU nanoseconds that all of the machine's cores were busy so far."""
    columns = (PROC / "stat").read_text().partition("\n")[0].split()[1:9]
    return sum(int(ticks) for column, ticks in enumerate(columns) if column not in IDLE_COLUMNS) * TICK_NS


def rss_kb(pids: list[int]) -> int:
    """Resident memory of these processes; what they share is counted once between them."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total
