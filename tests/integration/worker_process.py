"""`lb run` with workers, for tests: who its processes are, and what its commands say of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lb_core.control.client import ask
from tests.integration.lb_process import LbProcess, free_port, wait_until
from tests.support.balancing import tree
from tests.support.uncovered import environment

if TYPE_CHECKING:
    from tests.support.backends import Backend


class Crew:
    """A running `lb` with workers: `process` is its control process, `port` where it listens, `file` what it serves."""

    def __init__(self, process: LbProcess, port: int, file: Path, config: dict[str, Any]) -> None:
        self.process = process
        self.port = port
        self.file = file
        self.config = config

    @property
    def nursery(self) -> int:
        """The process that forks workers."""
        (found,) = children(self.process.process.pid)
        return found

    @property
    def pids(self) -> list[int]:
        """The workers that are there now."""
        return children(self.nursery)

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process."""
        os.kill(pid, number)

    def events(self, kind: str) -> list[str]:
        """The lines about events of a kind, `worker died`."""
        return [line for line in "".join(self.process.lines).splitlines() if f" {kind}:" in line]

    def write(self, **changes: Any) -> None:
        """Another configuration file, for the next reload."""
        self.config |= changes
        self.file.write_text(yaml.safe_dump(self.config))

    async def reload(self, *, opens: bool = False, **changes: Any) -> None:
        """Write it, and wait until it is in force; with `opens` until a new listener is open in all."""
        loaded, opened = len(self.events("config loaded")), len(self.events("listener open"))
        self.write(**changes)
        self.process.signal(signal.SIGHUP)
        await self.until(lambda: len(self.events("config loaded")) > loaded)
        await self.until(lambda: len(self.events("listener open")) >= opened + opens)

    async def command(self, *args: str, fails: bool = False) -> str:
        """What `lb` says that is asked over the control socket."""
        return await asyncio.to_thread(self._command, args, fails)

    async def ask(self, what: str, **request: Any) -> Any:
        """What the control socket answers."""
        return await asyncio.to_thread(ask, self.config["control"], {"ask": what, **request})

    async def workers(self) -> list[dict[str, Any]]:
        """What `lb workers --json` says."""
        said = await self.ask("command", name="workers", arguments=[], json=True)
        found: list[dict[str, Any]] = json.loads(said)["workers"]
        return found

    async def until(self, condition: Any, *, within: float = 30.0) -> None:
        """Wait until a condition holds; fails with what the process has said."""
        await asyncio.to_thread(wait_until, condition, within=within, or_else=lambda: self.process.errors)

    def _command(self, args: tuple[str, ...], fails: bool) -> str:
        command = [sys.executable, "-m", "lb_core.cli", *args, "--control", self.config["control"]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment(), check=False)
        assert bool(done.returncode) is fails, done.stderr
        return done.stderr if fails else done.stdout


@contextlib.asynccontextmanager
async def workers(
    path: Path,
    *backends: Backend,
    count: int | str = 2,
    drain: str = "5s",
    quiet: bool = True,
    covered: bool = True,
    **options: Any,
) -> AsyncIterator[Crew]:
    """`lb run` with so many workers before backends in this process; at the end nothing of it may be left."""
    port = free_port()
    listener = {"address": f"127.0.0.1:{port}", "limits": {"requests": 0}, **options.pop("listener", {})}
    config = tree(backends, listener=listener)
    config |= {"workers": count, "control": str(path / "control.sock"), **options}
    if quiet:
        config |= {"access_log": False}
    file = path / "lb.yaml"
    file.write_text(yaml.safe_dump(config))
    crew = Crew(LbProcess("run", "-c", str(file), "--drain", drain, covered=covered), port, file, config)
    everybody: set[int] = set()
    try:
        await asyncio.to_thread(crew.process.wait_for, "twice quits")
        yield crew
        assert "Traceback" not in crew.process.errors, crew.process.errors
        if crew.process.process.poll() is None:
            everybody = {crew.nursery, *crew.pids}
    finally:
        await asyncio.to_thread(crew.process.close)
    await asyncio.to_thread(wait_until, lambda: not any(map(lives, everybody)), or_else=lambda: str(everybody))


def children(pid: int) -> list[int]:
    """The processes that this one has started and that live."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as found:
        return [each for each in map(int, found.read().split()) if lives(each)]
    return []


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
