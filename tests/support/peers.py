"""HAProxy and nginx as they are installed, run in the foreground with a configuration of the test's own."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.services import require

_HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
"""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextmanager
def haproxy(folder: Path, sections: str, port: int) -> Iterator[None]:
    """HAProxy with these sections after our defaults, until it accepts connections on `port`."""
    program = require("haproxy")
    file = folder / f"haproxy-{port}.cfg"
    file.write_text(_HAPROXY + sections)
    with _running([program, "-db", "-f", str(file)], port):
        yield


@contextmanager
def nginx(folder: Path, server: str, port: int) -> Iterator[None]:
    """nginx with this in its `http` section, until it accepts connections on `port`."""
    program = require("nginx")
    file = folder / f"nginx-{port}.conf"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    file.write_text(
        f"daemon off; master_process off; pid {folder}/nginx-{port}.pid; error_log {folder}/nginx-{port}.log;\n"
        f"events {{ worker_connections 100; }}\nhttp {{ access_log off; {paths} {server} }}\n"
    )
    with _running([program, "-c", str(file), "-p", str(folder), "-e", f"{folder}/nginx-{port}.log"], port):
        yield


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            end = time.monotonic() + 5
            while not _accepts(port):
                if process.poll() is not None or time.monotonic() > end:
                    process.kill()
                    output = process.stdout.read() if process.stdout else ""
                    raise AssertionError(f"{command[0]} does not accept connections on port {port}: {output}")
                time.sleep(0.02)
            yield
        finally:
            process.kill()


def _accepts(port: int) -> bool:
    with socket.socket() as asking:
        asking.settimeout(0.5)
        return asking.connect_ex(("127.0.0.1", port)) == 0
