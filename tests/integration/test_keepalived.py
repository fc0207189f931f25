"""The example for keepalived is a configuration that keepalived takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.repository import ROOT

EXAMPLE = ROOT / "examples" / "keepalived" / "keepalived.conf"


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    """What keepalived says of a file; the test is skipped without it."""
    program = shutil.which("keepalived", path="/usr/sbin:/usr/bin:/sbin")
    if not program:
        pytest.skip("keepalived is missing: apt-get install keepalived")
    called = [program, "--config-test", "-f", str(path)]
    return subprocess.run(called, capture_output=True, text=True, timeout=30, check=False)


def test_the_example_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "keepalived.conf"
    # keepalived 2.2.7 ends its own test by a signal where scripts have a user of their own
    path.write_text(EXAMPLE.read_text().replace("script_user nobody", "script_user root"))
    done = checked(path)
    assert (done.returncode, done.stderr) == (0, "")
    path.write_text(path.read_text().replace("track_script", "tarck_script"))
    assert checked(path).returncode != 0
