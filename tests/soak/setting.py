"""The processes of a soak: two backends and `lb run -c FILE`, with a file that changes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.integration.lb_process import COMMAND, LbProcess, free_port, lb, wait_until
from tests.soak.memory import Footprint, footprint
from tests.soak.mixture import HOST, MAX_BODY
from tests.support.backends import refusing
from tests.support.repository import ROOT
from tests.support.uncovered import environment


class Setting:
    """A running balancer, its backends and its file."""

    def __init__(self, folder: Path, ports: tuple[int, int], refusing: str, *, traced: bool = False) -> None:
        self.path = folder / "lb.yaml"
        self.backends = ports
        self.port = free_port()
        self.announced = free_port()
        self.reloads = 0
        self.traced = traced
        self._refusing = refusing
        self._log = folder / "access.log"
        self.write()
        self.lb: LbProcess
        self._begin = 0
        self._traces = 0

    @property
    def pid(self) -> int:
        """The balancer's process."""
        return self.lb.process.pid

    def now(self) -> Footprint:
        """What the balancer holds now."""
        return footprint(self.pid)

    def write(self) -> None:
        """The file: another one each time, with backends that come and go and settings that change."""
        one, two = (f"127.0.0.1:{port}" for port in self.backends)
        odd = self.reloads % 2
        backends = {"one": one, "two": two} | ({"three": two} if odd else {})
        timeouts = {"connect": f"{3 + self.reloads % 5}s"}
        routes: dict[str, Any] = {
            HOST: {"backends": backends, "health_check": {"path": "/bytes/2", "interval": "1s"}, "timeouts": timeouts},
            f"*.{HOST}": {"backends": [one, two]},
            "refused.example": {"backends": {"none": self._refusing, "two": two}, "timeouts": timeouts},
            "nobody.example": {"backends": [self._refusing], "ejection": "off"},
            f"only-{self.reloads}.example": {"backends": [one]},
        }
        routes["refused.example"]["ejection"] = "off"
        routes[HOST]["max_body"] = f"{MAX_BODY}B"
        peers = {
            "address": f"127.0.0.1:{self.announced}",
            "proxy_protocol": "127.0.0.0/8",
            "limits": {"per_client": 100},
        }
        tree = {
            "listeners": {"web": f"127.0.0.1:{self.port}", "announced": peers},
            "trusted_proxies": ["127.0.0.0/8"],
            "access_log": {"format": "json", "file": str(self._log)},
            "routes": routes,
        }
        self.path.write_text(yaml.safe_dump(tree))

    def reload(self) -> None:
        """Change the file and have it read."""
        self.reloads += 1
        self.write()
        self.lb.signal(signal.SIGHUP)

    def tidy(self) -> None:
        """Keep the access log from filling the disk."""
        if self._log.exists() and self._log.stat().st_size > 64_000_000:
            with self._log.open("r+b") as log:
                log.truncate()

    @property
    def complaints(self) -> list[str]:
        """What it has said since it serves, but for what is always said."""
        said = self.lb.lines[self._begin :]
        return [line for line in said if line.strip() and not any(good in line for good in _GOOD)]

    def trace(self) -> str:
        """What a traced balancer has allocated since it was asked before."""
        ask = self.path.with_name("trace")
        ask.touch()
        wait_until(lambda: not ask.exists(), within=120)
        self._traces += 1
        return ask.with_name(f"trace.{self._traces}").read_text()

    def serving(self, running: LbProcess) -> None:
        """The balancer runs."""
        self.lb = running
        for text in ("announced listens", "web listens", "twice quits"):
            running.wait_for(text)
        self._begin = next(number for number, line in enumerate(running.lines) if "twice quits" in line) + 1


_GOOD = (" config loaded: ", ": up (")


@contextmanager
def setting(folder: Path, *, traced: bool = False) -> Iterator[Setting]:
    """All of it, for the length of a `with`."""
    program = [str(Path(__file__).with_name("traced.py"))] if traced else COMMAND
    with ExitStack() as stack:
        ports = stack.enter_context(_backend("--resets")), stack.enter_context(_backend())
        made = Setting(folder, ports, stack.enter_context(refusing()), traced=traced)
        made.serving(stack.enter_context(lb("run", "-c", str(made.path), cwd=folder, program=program)))
        yield made


@contextmanager
def _backend(*args: str) -> Iterator[int]:
    command = [sys.executable, "-m", "tests.soak.backend", *args]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
