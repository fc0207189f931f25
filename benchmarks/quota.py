"""The share of a CPU that a process may use, kept by the kernel (cgroups, version 1 or 2); setting it needs root."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import Failed

if TYPE_CHECKING:
    from types import TracebackType

CGROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 20_000
"""A process that has used its share pauses until the period ends; a shorter one is kept less exactly."""
REMOVING_SECONDS = 2.0


class Quotas:
    """Shares of a CPU; leaving the context removes what was set, which needs the processes to have ended."""

    def __init__(self, root: Path = CGROUPS) -> None:
        self._unified = (root / "cgroup.controllers").exists()
        self._root = root if self._unified else root / "cpu"
        self._groups: dict[int, Path] = {}

    def __enter__(self) -> Quotas:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        deadline = time.monotonic() + REMOVING_SECONDS
        while self._groups and time.monotonic() < deadline:
            for pid, group in list(self._groups.items()):
                with suppress(OSError):  # a process that ends is in its group for a moment longer
                    group.rmdir()
                    del self._groups[pid]
            time.sleep(0.01)

    def limit(self, pid: int, share: float) -> None:
        """Let a process use at most this part of one CPU."""
        try:
            group = self._groups.get(pid) or self._make(pid)
            self._set(group, int(share * PERIOD_US))
        except OSError as error:
            raise Failed(
                f"the share of a CPU cannot be set in {self._root} ({error}): it needs root, and a machine or container"
                " whose control groups may be changed. With --share 0 only the whole machine is measured"
            ) from error

    def lift(self) -> None:
        """Let every process use what it can."""
        for group in self._groups.values():
            self._set(group, None)

    def _make(self, pid: int) -> Path:
        if self._unified:
            (self._root / "cgroup.subtree_control").write_text("+cpu")
        group = self._root / f"lb-bench-{pid}"
        group.mkdir(exist_ok=True)
        self._groups[pid] = group
        (group / "cgroup.procs").write_text(str(pid))
        return group

    def _set(self, group: Path, quota_us: int | None) -> None:
        if self._unified:
            (group / "cpu.max").write_text(f"{'max' if quota_us is None else quota_us} {PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(-1 if quota_us is None else quota_us))
