"""What plugins import from `lb_core.sharing` is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lb_core import sharing


@pytest.mark.parametrize("name", sharing.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(sharing, name).__module__.startswith("lb_core.") or name == "Note"


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Slot'"):
        sharing.Slot  # noqa: B018


def test_counts_are_loaded_when_somebody_asks_for_them() -> None:
    code = "import sys, lb_core.sharing as s; print([m for m in sys.modules if 'counts' in m]); s.windows"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.strip() == "[]"
