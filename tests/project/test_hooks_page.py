"""docs/hooks.md says what the specifications say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from lb_core.contract import SETUP, TRAFFIC
from tests.support.repository import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / "docs" / "generate_hooks.py"


def check(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=60, check=False)


def test_the_page_is_up_to_date() -> None:
    ended = check(SCRIPT)
    assert ended.returncode == 0, ended.stderr


def test_a_stale_page_is_told_with_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / SCRIPT.name
    shutil.copy(SCRIPT, script)
    assert check(script).returncode == 1, "a missing page is stale"
    page = SCRIPT.with_name("hooks.md").read_text()
    (tmp_path / "hooks.md").write_text(page.replace("None asks the next plugin", "None asks nobody", 1))
    ended = check(script)
    assert ended.returncode == 1
    assert "is stale: run `make docs`" in ended.stderr


def test_every_hook_has_its_section_headed_by_its_signature() -> None:
    lines = SCRIPT.with_name("hooks.md").read_text().splitlines()
    headings = [line.removeprefix("### `").partition("(")[0] for line in lines if line.startswith("### ")]
    assert headings == [*TRAFFIC, *SETUP]
    assert "### `on_backend_error(exchange: Exchange, error: AttemptError) -> None`" in lines
