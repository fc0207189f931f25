"""Where the parts of the repository are, for tests of the project itself."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
SOURCES = sorted(path for package in PACKAGES for path in (package / "src").rglob("*.py"))


def project(package: Path) -> dict[str, Any]:
    """The [project] table of a package."""
    table: dict[str, Any] = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    return table


def module(package: Path) -> str:
    """The one import name a package brings."""
    return str(project(package)["name"]).replace("-", "_")


def name(path: Path) -> str:
    """A path as it is written in the repository."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse(path.read_text(), filename=str(path))


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the repository that git tracks or would track; without git, every file outside hidden folders."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        hidden = re.compile(r"^\.(?!ci\b)|/\.|__pycache__|\.egg-info/").search
        listed = [path.as_posix() for path in found if not hidden(path.as_posix())]
    return tuple(path for entry in sorted(listed) if entry and (path := ROOT / entry).is_file())
