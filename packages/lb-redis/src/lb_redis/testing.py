"""A redis-server of one's own, for tests: started on a free port, stopped, frozen, killed, started empty again.

    with RedisServer() as redis:
        LoadBalancer.from_file(…)        with `cluster: {redis: redis.url}`
        redis.pause()

It needs the program `redis-server`, on Debian in the package of that name.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

WITHIN = 10.0
BUS = 10_000
"""How far the port on which the nodes of a Redis Cluster talk is above the other."""


def redis_program(name: str = "redis-server") -> str | None:
    """The path of a program of Redis; None where it is not installed."""
    return shutil.which(name, path=f"{os.defpath}:/usr/local/bin:/usr/bin:/usr/sbin:/sbin")


class RedisServer:
    """A redis-server in a folder of its own; what it held is gone when it is started again.

    `options` are those of its command line: `("--maxmemory", "2mb")`. With `tls` it listens for TLS only, and `options`
    name the files.
    """

    def __init__(self, *options: str, tls: bool = False, program: str = "redis-server", port: int = 0) -> None:
        found = redis_program(program)
        if found is None:
            raise FileNotFoundError(f"{program} is missing: apt-get install {program}")
        self.port = port or free_port()
        self.folder = tempfile.mkdtemp(prefix="lb-redis-")
        listen = ("--port", "0", "--tls-port", str(self.port)) if tls else ("--port", str(self.port))
        self._command = [found, *self._first(program), *listen, "--bind", "127.0.0.1", "--dir", self.folder]
        if program == "redis-server":
            self._command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        self._command += options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process; 0 where it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        log = os.path.join(self.folder, "log")
        with open(log, "ab") as output:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        end = time.monotonic() + WITHIN
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.01)
        with open(log, errors="replace") as said:
            text = said.read()[-2000:]
        self.kill()
        raise RuntimeError(f"{self._command[0]} does not accept connections on port {self.port}: {text}")

    def pause(self) -> None:
        """Freeze it: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Kill it and start it again, empty."""
        self.kill()
        self.start()

    def command(self, *words: str, port: int = 0) -> Any:
        """What it answers to a command, through redis-py."""
        import redis

        with redis.Redis(port=port or self.port, decode_responses=True, protocol=2) as client:
            return client.execute_command(*words)

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _first(self, program: str) -> Sequence[str]:
        """A Sentinel keeps what it learns in its configuration file, which must be there."""
        if program != "redis-sentinel":
            return ()
        path = os.path.join(self.folder, "sentinel.conf")
        with open(path, "w"):
            return (path,)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def free_port() -> int:
    """A port that nobody has just now; neither has anybody the one that a Redis Cluster uses beside it."""
    for _ in range(200):
        port = 12_000 + int.from_bytes(os.urandom(2), "big") % 8_000
        if _is_free(port) and _is_free(port + BUS):
            return port
    raise RuntimeError("no free port in 200 tries")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
