"""What a process that serves asks of the system: an event loop, open files, and how many cores there are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from math import ceil, inf
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's loop, or asyncio's on platforms without it."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def raise_file_limit() -> float:
    """Allow as many open files as the system lets us, since every connection is one; returns how many that are."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return inf if hard == resource.RLIM_INFINITY else hard
    return inf


def usable_cores(root: Path = CGROUPS, cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """How many cores this process may use: those it may run on, or what a container's quota amounts to, if less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, ceil(_quota(root, cgroup))))


def _quota(root: Path, cgroup: Path) -> float:
    """The least CPU quota of this process's control group and those around it, in cores."""
    least = float(1 << 20)
    for line in _words(cgroup):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            here = root / path.lstrip("/")
            for each in (here, *here.parents):
                if each == root.parent:
                    break
                least = min(least, _cores(_words(each / "cpu.max")))
        elif "cpu" in controllers.split(","):
            here = root / "cpu" / path.lstrip("/")
            for each in (here, root / "cpu"):
                least = min(least, _cores([*_words(each / "cpu.cfs_quota_us"), *_words(each / "cpu.cfs_period_us")]))
    return least


def _cores(lines: list[str]) -> float:
    """`max 100000` and `-1`, `100000` are no quota; `150000 100000` and `150000`, `100000` are 1.5 cores."""
    numbers = " ".join(lines).split()
    if len(numbers) != 2 or not numbers[0].isdigit() or not numbers[1].isdigit() or not int(numbers[1]):
        return inf
    return int(numbers[0]) / int(numbers[1])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
