"""What systemd is told over a real datagram socket, and its verdict on the unit file."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from lb_core.systemd import Systemd
from tests.integration.lb_process import LbProcess, backend, free_port, get, wait_until
from tests.support.repository import ROOT

UNIT = ROOT / "examples" / "systemd" / "lb.service"


class Manager:
    """A service manager that notes what it is told; `address` goes into NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.setblocking(False)

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def listen(self) -> list[str]:
        """Everything told so far, a line each."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.told += self._socket.recv(4096).decode().split("\n")
        return self.told

    def wait_for(self, line: str, times: int = 1, within: float = 10.0) -> None:
        """Wait until a line that begins so has been told so many times."""

        def there() -> bool:
            return sum(each.startswith(line) for each in self.listen()) >= times

        wait_until(there, within=within, or_else=lambda: f"{line}: {self.told}")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A manager that the processes of the test find in their environment."""
    listening = Manager(str(tmp_path / "notify") if request.param == "path" else f"@lb-test-{time.monotonic_ns()}")
    monkeypatch.setenv("NOTIFY_SOCKET", listening.address)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield listening
    listening.close()


@contextlib.contextmanager
def process(tmp_path: Path, address: str, **options: object) -> Iterator[tuple[LbProcess, int]]:
    """`lb run` before one backend."""
    port, path = free_port(), tmp_path / "lb.yaml"
    routes = {"*": [address]}
    listeners = {"web": f"127.0.0.1:{port}"}
    path.write_text(yaml.safe_dump({"listeners": listeners, "access_log": False, "routes": routes, **options}))
    started = LbProcess("run", "-c", str(path), "--drain", "2s")
    try:
        yield started, port
    finally:
        started.close()


@pytest.mark.parametrize("manager", ["abstract"], indirect=True)
def test_it_is_told_of_the_start_a_reload_and_the_end(tmp_path: Path, manager: Manager) -> None:
    with backend("one") as one, process(tmp_path, one.address) as (started, port):
        manager.wait_for("READY=1")
        assert get(port) == (200, "one"), "connections are accepted by then"
        manager.wait_for("STATUS=")
        status = next(line for line in manager.told if line.startswith("STATUS="))
        assert re.fullmatch(
            r"STATUS=(starting|ready), 0\.0 requests/s, \d in flight, \d connections?, 1 of 1 backend up", status
        )
        begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        started.signal(signal.SIGHUP)
        manager.wait_for("READY=1", times=2)
        began = next(int(line[15:]) for line in manager.told if line.startswith("MONOTONIC_USEC="))
        assert begin <= began <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        reloading = manager.told.index("RELOADING=1")
        assert "READY=1" in manager.told[:reloading]
        assert "READY=1" in manager.told[reloading:]
        assert "STOPPING=1" not in manager.listen()
        assert "WATCHDOG=1" not in manager.told, "nobody asked for that"
        started.signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert started.wait() == 0


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_reload_that_is_refused_is_over_too(tmp_path: Path, manager: Manager) -> None:
    with backend("one") as one, process(tmp_path, one.address) as (started, _):
        manager.wait_for("READY=1")
        (tmp_path / "lb.yaml").write_text("routes: {")
        started.signal(signal.SIGHUP)
        started.wait_for("config refused")
        manager.wait_for("READY=1", times=2)


@pytest.mark.timed
@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_the_watchdog_hears_of_it_for_as_long_as_it_works(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with backend("one") as one, process(tmp_path, one.address) as (started, _):
        manager.wait_for("READY=1")
        begin = time.monotonic()
        manager.wait_for("WATCHDOG=1", times=4)
        assert time.monotonic() - begin < 2, "every half of the time"
        started.signal(signal.SIGSTOP)
        time.sleep(0.1)
        heard = manager.listen().count("WATCHDOG=1")
        time.sleep(0.4)
        assert manager.listen().count("WATCHDOG=1") == heard
        started.signal(signal.SIGCONT)
        manager.wait_for("WATCHDOG=1", times=heard + 1)


def test_a_watchdog_for_another_process_is_not_ours(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}
    assert Systemd({**environ, "WATCHDOG_PID": "4711"}, pid=4712).watchdog == 0.0
    assert Systemd({**environ, "WATCHDOG_PID": "4711"}, pid=4711).watchdog == 1.0
    assert Systemd({**environ}, pid=4711).watchdog == 1.0
    assert Systemd({**environ, "WATCHDOG_USEC": "soon"}).watchdog == 0.0
    assert Systemd({"WATCHDOG_USEC": "1000000"}).watchdog == 0.0, "nobody listens"


async def test_it_is_not_told_that_a_node_without_workers_works(manager: Manager) -> None:
    works = False
    systemd = Systemd({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "40000"})
    telling = asyncio.create_task(systemd.keep_telling(lambda: "fine", lambda: works))
    await asyncio.sleep(0.1)
    assert manager.listen() == ["STATUS=fine"]
    works = True
    await asyncio.to_thread(manager.wait_for, "WATCHDOG=1", 2)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)


def test_another_process_takes_over_and_this_one_says_no_more(manager: Manager) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"})
    systemd.hand_over(4711)
    systemd.stopping()
    systemd.works()
    systemd.status("still here")
    assert manager.listen() == ["MAINPID=4711"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda path: "", id="none"),
        pytest.param(lambda path: str(path / "missing"), id="missing"),
        pytest.param(lambda path: "vsock:2:1234", id="vsock"),
        pytest.param(lambda path: str(path), id="directory"),
    ],
)
def test_nothing_comes_of_it_where_nobody_listens(tmp_path: Path, fault: Callable[[Path], str]) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": fault(tmp_path), "WATCHDOG_USEC": "1000000"})
    systemd.ready()
    systemd.stopping()


def test_a_manager_that_does_not_read_holds_nothing_up(manager: Manager) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.address})
    begin = time.monotonic()
    for _ in range(2000):
        systemd.status("x" * 1000)
    assert time.monotonic() - begin < 2
    assert 0 < len(manager.listen()) < 2000


def test_what_matters_waits_for_a_manager_that_is_behind(manager: Manager) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.address})
    for _ in range(2000):
        systemd.status("x" * 1000)
    reading = threading.Timer(0.1, manager.listen)
    reading.start()
    systemd.hand_over(4711)
    reading.join()
    assert "MAINPID=4711" in manager.listen()


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says; the test is skipped without it."""
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit file, with a program that exists on this machine."""
    path = tmp_path / "lb.service"
    path.write_text(UNIT.read_text().replace("/opt/lb/bin/lb", sys.executable))
    return path


def test_the_unit_file_is_valid(unit: Path) -> None:
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_the_unit_file_exposes_little(unit: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", str(unit))
    found = re.search(r"Overall exposure level for lb.service: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= 2.0, done.stdout


def test_the_unit_file_gives_what_lb_needs() -> None:
    lines = UNIT.read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert settings["Type"] == "notify"
    assert settings["NotifyAccess"] == "all"
    drain = re.search(r"--drain (\d+)s", settings["ExecStart"])
    assert drain
    assert int(settings["TimeoutStopSec"].rstrip("s")) > int(drain[1])
