"""Processes pinned to a CPU, started one by one and ended all together: nothing outlives a run."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

PROXY_CPU = 0
LOAD_CPU = 1
START_SECONDS = 15.0


class Failed(Exception):
    """A run cannot go on; the message says why and what to do."""


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def raise_file_limit(files: int) -> None:
    """Allow this process and its children that many open files, or say what is in the way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= files:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, max(files, hard)))
    except (ValueError, OSError) as error:
        raise Failed(
            f"{files} open files are needed and the limit is {hard}: raise it with `ulimit -n {files}`"
        ) from error


class Processes:
    """A temporary folder and what was started in it; leaving the context ends and removes both."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="lb-bench-", dir=memory if os.access(memory, os.W_OK) else None))
        self.folder.chmod(0o755)  # nginx drops root and must still read its files
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, name: str, text: str) -> Path:
        """Write a configuration into the folder."""
        path = self.folder / name
        path.write_text(text)
        return path

    def start(
        self,
        name: str,
        command: list[str],
        *,
        port: int,
        cpu: int | str,
        seconds: float = START_SECONDS,
        environ: dict[str, str] | None = None,
    ) -> int:
        """Start a command and return its process id once it listens on the port; its output goes into NAME.log."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["taskset", "-c", str(cpu), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **(environ or {})},
            )
        self._running.append(process)
        if not _listens(process, port, seconds):
            said = log.read_text(errors="replace")[-1500:]
            raise Failed(f"{name} does not listen on port {port}. Command: {' '.join(command)}\n{said}")
        return process.pid

    def stop(self) -> None:
        """End everything that was started: asked first, then killed."""
        for kind, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
            alive = [process for process in self._running if process.poll() is None]
            for process in alive:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, kind)
            for process in alive:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
        self._running.clear()


def _listens(process: subprocess.Popen[bytes], port: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False
