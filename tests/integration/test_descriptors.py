"""No file descriptor left: no spin, those who are there are served, and all is well again when some come free."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.lb_process import LbProcess, free_port, get, lb, wait_until
from tests.integration.lb_process import backend as backend_process
from tests.support.slow import cpu_seconds, descriptors

pytestmark = [pytest.mark.slow, pytest.mark.timed]

LIMIT = 128
REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


@contextmanager
def limited(tmp_path: Path, connections: str, more: str = "") -> Iterator[tuple[LbProcess, int]]:
    """`lb run` that may open 128 files, before one backend."""
    port = free_port()
    with backend_process("blue") as blue:
        (tmp_path / "lb.yaml").write_text(
            f"listeners: {{web: {{address: '127.0.0.1:{port}', limits: {{connections: {connections}}}}}}}\n"
            f"access_log: {{format: json, file: access.log}}\n"
            f"routes: {{'*': {{backends: {{blue: '{blue.address}'}}, {more}}}}}\n"
        )
        with lb("run", "-c", "lb.yaml", cwd=tmp_path, files=LIMIT) as process:
            process.wait_for("listens on")
            yield process, port


class Crowd:
    """Connections that stay; each may ask."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def join(self, size: int) -> None:
        """Connect so many more; who is turned away at once counts as well."""
        for _ in range(size):
            opened = socket.socket()
            opened.settimeout(5)
            opened.connect(("127.0.0.1", self._port))
            self.sockets.append(opened)

    def leave(self) -> None:
        """Close all of them."""
        for each in self.sockets:
            each.close()
        self.sockets.clear()

    def ask(self) -> list[bytes]:
        """Each asks in turn; the statuses, empty where the connection is gone."""
        return [ask(each) for each in self.sockets]


def ask(connection: socket.socket) -> bytes:
    """The status of a GET, or nothing where the connection is gone."""
    with suppress(OSError):
        connection.sendall(REQUEST)
        return connection.recv(4096)[9:12]
    return b""


def cpu_share(process: LbProcess, seconds: float = 2.0) -> float:
    """CPU used, of one core."""
    pid = process.process.pid
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / seconds


def test_by_default_accepting_leaves_descriptors_for_the_work(tmp_path: Path) -> None:
    """48 of 128 may be clients; the others are told so, and no connection to a backend fails."""
    with limited(tmp_path, "auto") as (process, port), Crowd(port) as crowd:
        for _ in range(60):
            crowd.join(1)
            time.sleep(0.01)
        statuses = crowd.ask()
        assert statuses.count(b"200") == 48
        assert statuses.count(b"503") >= 8
        assert descriptors(process.process.pid) < LIMIT - 8
        print(f"\nby default: {descriptors(process.process.pid)} of {LIMIT} open, CPU {cpu_share(process):.1%}")
        process.wait_for("refused by limits.connections")
        crowd.leave()
        wait_until(lambda: get(port)[0] == 200, within=2)


def test_a_burst_leaves_those_who_are_served_alone(tmp_path: Path) -> None:
    with limited(tmp_path, "auto") as (_, port), Crowd(port) as served, Crowd(port) as burst:
        served.join(20)
        assert served.ask() == [b"200"] * 20
        statuses: list[bytes] = []
        asking = threading.Thread(target=lambda: [statuses.extend(served.ask()) for _ in range(20)])  # type: ignore[func-returns-value]
        asking.start()
        for _ in range(5):
            burst.join(300)
            time.sleep(0.1)
            burst.leave()
        asking.join()
        assert statuses == [b"200"] * 400
        wait_until(lambda: get(port)[0] == 200, within=2)


def test_exhausted_it_neither_spins_nor_forgets_to_accept(tmp_path: Path) -> None:
    """Without a limit on connections, so that they do take every descriptor."""
    with limited(tmp_path, "0") as (process, port), Crowd(port) as crowd:
        pid = process.process.pid
        crowd.join(20)
        assert crowd.ask() == [b"200"] * 20
        early = crowd.sockets[:20]
        crowd.join(200)
        wait_until(lambda: descriptors(pid) >= LIMIT - 3)
        share = cpu_share(process)
        served = [ask(each) for each in early]
        begin = time.monotonic()
        crowd.leave()
        wait_until(lambda: _served(port), within=5)
        print(
            f"\nexhausted: CPU {share:.1%} of a core; of 20 connections {served.count(b'200')} still served, "
            f"{served.count(b'503')} answered 503; recovered after {time.monotonic() - begin:.2f} s"
        )
        assert share < 0.2
        assert set(served) <= {b"200", b"503"}
        assert len(served) == 20
        for _ in range(50):
            assert get(port)[0] == 200
        assert "Traceback" not in process.errors


def test_no_descriptor_for_a_connection_to_a_backend_is_a_503(tmp_path: Path) -> None:
    with limited(tmp_path, "0") as (process, port), Crowd(port) as crowd:
        crowd.join(200)
        wait_until(lambda: descriptors(process.process.pid) >= LIMIT - 1)
        begin = time.monotonic()
        early = crowd.sockets[:10]
        for each in early:
            each.sendall(REQUEST)
        statuses = [each.recv(4096)[9:12] for each in early]
        assert time.monotonic() - begin < 3
        assert set(statuses) <= {b"200", b"503"}
        assert b"503" in statuses
        crowd.leave()
        wait_until(lambda: _served(port), within=5)
        log = tmp_path / "access.log"
        wait_until(lambda: log.read_text().count("no_descriptor") >= statuses.count(b"503"), or_else=log.read_text)


def test_health_checks_without_a_descriptor_say_nothing_of_the_backend(tmp_path: Path) -> None:
    check = "health_check: {type: tcp, interval: 200ms, interval_down: 200ms, unhealthy_after: 2}"
    with limited(tmp_path, "0", check) as (process, port), Crowd(port) as crowd:
        wait_until(lambda: _served(port), within=5)
        crowd.join(250)
        wait_until(lambda: descriptors(process.process.pid) >= LIMIT - 1)
        time.sleep(2)
        assert not re.search(r"backend.down", process.errors), process.errors
        crowd.leave()
        wait_until(lambda: _served(port), within=5)


def _served(port: int) -> bool:
    with suppress(OSError):
        return get(port, timeout=2)[0] == 200
    return False
