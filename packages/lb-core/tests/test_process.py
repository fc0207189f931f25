"""How many cores a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lb_core.process import usable_cores

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({}, ALLOWED),
        ({"system.slice/lb.service": "max 100000"}, ALLOWED),
        ({"system.slice/lb.service": "100000 100000"}, 1),
        ({"system.slice/lb.service": "50000 100000"}, 1),
        ({"system.slice": "100000 100000", "system.slice/lb.service": "max 100000"}, 1),
        ({"": "10000 100000"}, 1),
        ({"system.slice/lb.service": "900000000 100000"}, ALLOWED),
        ({"system.slice/lb.service": "nonsense"}, ALLOWED),
    ],
)
def test_the_quota_of_a_control_group_counts(tmp_path: Path, quotas: dict[str, str], cores: int) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/system.slice/lb.service\n")
    for path, text in quotas.items():
        where = tmp_path / "fs" / path
        where.mkdir(parents=True, exist_ok=True)
        (where / "cpu.max").write_text(f"{text}\n")
    assert usable_cores(tmp_path / "fs", cgroup) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", ALLOWED), ("100000", 1)])
def test_the_older_kind_too(tmp_path: Path, quota: str, cores: int) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n")
    where = tmp_path / "fs/cpu/docker/1"
    where.mkdir(parents=True)
    (where / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (where / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path / "fs", cgroup) == cores


def test_this_machine() -> None:
    assert 1 <= usable_cores() <= ALLOWED


def test_where_there_are_no_control_groups(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "none") == ALLOWED
