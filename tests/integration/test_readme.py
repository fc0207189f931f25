"""The commands of README.md and docs/ work as they stand there.

A ```console block runs when the line above it says so. `<!-- runs -->` runs its commands one after the other in an
empty directory; each must end with status 0. `<!-- runs until stopped -->` waits for the balancer that the last command
starts, asks it, and ends it. Ports are replaced by free ones.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.lb_process import free_port, get, wait_until
from tests.support import uncovered

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"<!-- runs(?P<how>[^>]*) -->\n```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+|(?<=--port )\d+")


def blocks(how: str) -> list[object]:
    """The marked blocks of every page, each with its place as the test's name."""
    return [
        pytest.param(block["text"], id=f"{page.name}:{text.count(chr(10), 0, block.start()) + 1}")
        for page in PAGES
        for text in [page.read_text()]
        for block in BLOCK.finditer(text)
        if block["how"].strip() == how
    ]


def script(block: str) -> str:
    """The block's commands, with every port replaced by one that is free."""
    commands = "\n".join(line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ "))
    ports = {port: str(free_port()) for port in set(PORT.findall(commands))}
    return PORT.sub(lambda found: ports[found[0]], commands)


def environment() -> dict[str, str]:
    """This process's, with `lb` and `python3` those under test."""
    return {**uncovered.environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_there_are_blocks_of_both_kinds() -> None:
    assert blocks("")
    assert blocks("until stopped")


@pytest.mark.parametrize("block", blocks(""))
def test_commands(block: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-e", "-c", script(block)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or list(tmp_path.iterdir())


@pytest.mark.parametrize("block", blocks("until stopped"))
def test_a_balancer(block: str, tmp_path: Path) -> None:
    commands = script(block)
    port = int(re.findall(r"--listen 127\.0\.0\.1:(\d+)", commands)[0])
    said = tmp_path / "stderr"
    with said.open("w") as stderr:
        running = subprocess.Popen(
            ["bash", "-c", commands],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "twice quits" in said.read_text(), or_else=said.read_text)
        wait_until(lambda: {get(port)[1] for _ in range(4)} == {"blue", "green"}, within=5, or_else=said.read_text)
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(10)
