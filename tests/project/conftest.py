"""Distributions as a user gets them: built once, installed into environments of their own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.repository import PACKAGES, ROOT

UV = Path(sys.executable).with_name("uv")
INSTALL_SECONDS = 180

NewVenv = Callable[..., Path]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of every package, by the package's name."""
    run = tmp_path_factory.getbasetemp()
    folder = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "wheels"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes that share the tests build once for all
        if not folder.exists():
            command: list[str | Path] = [UV, "build", "--quiet", "--wheel", "--all-packages", "--out-dir", folder]
            subprocess.run(command, cwd=ROOT, check=True, timeout=INSTALL_SECONDS)
    built = {path.name.partition("-")[0].replace("_", "-"): path for path in folder.glob("*.whl")}
    assert built.keys() == {package.name for package in PACKAGES}
    return built


@pytest.fixture(scope="session")
def new_venv(tmp_path_factory: pytest.TempPathFactory) -> NewVenv:
    """Make a virtual environment with some requirements and nothing else; returns its bin folder."""

    def make(*requirements: str | Path) -> Path:
        folder = tmp_path_factory.mktemp("venv")
        subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True, timeout=60)
        command = [UV, "pip", "install", "--quiet", "--python", folder / "bin" / "python"]
        command += ["--constraint", ROOT / "constraints.txt", *requirements]
        subprocess.run([str(part) for part in command], check=True, timeout=INSTALL_SECONDS)
        return folder / "bin"

    return make
