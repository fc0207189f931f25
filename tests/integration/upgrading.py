"""`lb run` that is upgraded in place, for tests: one process after the other, which share output and sockets."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.integration.lb_process import LbProcess, free_port, wait_until
from tests.support.balancing import until

_UPGRADED = re.compile(r" upgraded: pid (\d+), version (\S+), serves").findall


class Service:
    """A running `lb`, whichever process it is now. `started` is the first one; it has everybody's output.

    It is `covered` where coverage follows it.
    """

    def __init__(self, folder: Path, tree: dict[str, Any], *, covered: bool = False) -> None:
        self.port = free_port()
        self.ready = free_port()
        self.control = folder / "control.sock"
        self.file = folder / "lb.yaml"
        listeners = {"web": {"address": f"127.0.0.1:{self.port}", "limits": {"requests": 0}}}
        readiness = f"127.0.0.1:{self.ready}"
        self.tree: dict[str, Any] = {
            "listeners": listeners,
            "readiness": readiness,
            "control": str(self.control),
            "access_log": False,
            **tree,
        }
        self.write()
        self.started = LbProcess("run", "-c", str(self.file), "--drain", "5s", covered=covered)

    @property
    def errors(self) -> str:
        """Everybody's standard error."""
        return self.started.errors

    @property
    def pids(self) -> list[int]:
        """The processes it has been, the present one last."""
        return [self.started.process.pid, *(int(pid) for pid, _ in _UPGRADED(self.errors))]

    @property
    def versions(self) -> list[str]:
        """The versions of those that took over."""
        return [version for _, version in _UPGRADED(self.errors)]

    def write(self, **changes: Any) -> None:
        """Another configuration file."""
        self.tree |= changes
        new = self.file.with_suffix(".new")
        new.write_text(yaml.safe_dump(self.tree))
        new.rename(self.file)  # never seen half written

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the present process."""
        os.kill(self.pids[-1], number)

    async def upgrade(self) -> None:
        """Upgrade it, and wait until the old process is gone."""
        before = self.pids
        self.signal(signal.SIGUSR2)
        await self.until(lambda: len(self.pids) > len(before))
        await self.until(lambda: not alive(before[-1]))
        if len(before) == 1:
            assert self.started.process.wait(1) == 0

    async def said(self, text: str, times: int = 1) -> None:
        """Wait until somebody has said so."""
        await self.until(lambda: self.errors.count(text) >= times)

    async def until(self, condition: Any, *, within: float = 10.0) -> None:
        """Wait for it; fails with what was said so far."""
        try:
            await until(condition, within=within)
        except (AssertionError, TimeoutError):
            raise AssertionError(self.errors) from None

    def close(self) -> None:
        """End whoever is left."""
        self.started.process.poll()
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        with suppress(AssertionError):
            wait_until(lambda: not any(map(alive, self.pids)), within=5)
        for pid in filter(alive, self.pids):
            os.kill(pid, signal.SIGKILL)
        self.started.close()


@asynccontextmanager
async def service(folder: Path, tree: dict[str, Any], *, covered: bool = False) -> AsyncIterator[Service]:
    """A running service, which is ended on leaving."""
    running = Service(folder, tree, covered=covered)
    try:
        await asyncio.to_thread(running.started.wait_for, "twice quits")
        yield running
    finally:
        await asyncio.to_thread(running.close)


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
