"""Programs that some tests need and Python does not bring."""

from __future__ import annotations

import os
import shutil

import pytest

DEBIAN_PACKAGES = {"nginx": "nginx-light"}


def require(program: str) -> str:
    """The path of a program. Without it the test is skipped and says so; in CI (`CI=true`) it fails instead."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found:
        return found
    message = f"{program} is missing: apt-get install {DEBIAN_PACKAGES.get(program, program)}"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(message)
    pytest.skip(message)
