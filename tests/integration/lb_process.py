"""`lb` as a process of its own, for tests: started, asked over real connections, signalled, and always ended."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.uncovered import environment

WITHIN = 15.0
COMMAND = ("-m", "lb_core.cli")


class LbProcess:
    """A running `lb`, `covered` where coverage follows it. `lines` is what it has written to standard error so far."""

    def __init__(
        self,
        *args: str,
        cwd: Path | None = None,
        files: int = 0,
        program: Iterable[str] = COMMAND,
        covered: bool = False,
    ) -> None:
        environ = {**(os.environ if covered else environment()), "PYTHONUNBUFFERED": "1"}
        limit = ["prlimit", f"--nofile={files}:{files}"] if files else []
        self.process = subprocess.Popen(
            [*limit, sys.executable, *program, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=environ,
        )
        self.lines: list[str] = []
        self.output: list[str] = []
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        self._readers = [
            threading.Thread(target=_copy, args=(self.process.stderr, self.lines)),
            threading.Thread(target=_copy, args=(self.process.stdout, self.output)),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def errors(self) -> str:
        """Standard error as one text."""
        return "".join(self.lines)

    def wait_for(self, text: str, *, within: float = WITHIN) -> None:
        """Wait until a text stands in standard error; fails with what does stand there."""
        self._wait_for(text, self.lines, within)

    def wait_for_output(self, text: str, *, within: float = WITHIN) -> None:
        """Wait until a text stands in standard output; fails with what does stand there."""
        self._wait_for(text, self.output, within)

    def _wait_for(self, text: str, lines: list[str], within: float) -> None:
        def there() -> bool:
            return text in "".join(lines)

        wait_until(lambda: there() or self.process.poll() is not None, within=within, or_else=self._said)
        if not there():
            self.wait()
        assert there(), self._said()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, within: float = WITHIN) -> int:
        """Wait for its end; returns the exit status."""
        status = self.process.wait(within)
        for reader in self._readers:
            reader.join(within)
        return status

    def close(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for stream in (self.process.stderr, self.process.stdout):
            if stream is not None:
                stream.close()

    def _said(self) -> str:
        return f"status {self.process.poll()}, output:\n{''.join(self.output)}\nstandard error:\n{self.errors}"


@contextmanager
def lb(
    *args: str,
    cwd: Path | None = None,
    files: int = 0,
    program: Iterable[str] = COMMAND,
    covered: bool = False,
) -> Iterator[LbProcess]:
    """`lb` with these arguments, for the length of a `with`; `files` is how many it may have open."""
    started = LbProcess(*args, cwd=cwd, files=files, program=program, covered=covered)
    try:
        yield started
    finally:
        started.close()


class BackendProcess:
    """A backend of the demo, as a process."""

    def __init__(self, name: str, *, port: int = 0, latency_ms: float = 0) -> None:
        command = [sys.executable, "-m", "lb_core.demo.backend", "--with-parent", "--name", name]
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--latency-ms", str(latency_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.address = f"127.0.0.1:{self.port}"

    def close(self) -> None:
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


@contextmanager
def backend(name: str, *, port: int = 0, latency_ms: float = 0) -> Iterator[BackendProcess]:
    """A backend process, for the length of a `with`."""
    started = BackendProcess(name, port=port, latency_ms=latency_ms)
    try:
        yield started
    finally:
        started.close()


def get(port: int, path: str = "/", host: str = "127.0.0.1", timeout: float = 10.0) -> tuple[int, str]:
    """GET over a connection of its own; returns status and the name of the backend that answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("X-Backend", "")
    finally:
        connection.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, below the range that clients take theirs from."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port in 100 tries")


def wait_until(
    condition: Callable[[], object], *, within: float = WITHIN, or_else: Callable[[], str] = lambda: ""
) -> None:
    """Wait until a condition holds; fails after `within` seconds with the text of `or_else`."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within} s: {or_else()}"
        time.sleep(0.02)


def _copy(stream: Iterable[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)  # noqa: PERF402  extend would show nothing until the stream ends
