"""`lb demo` as a whole: with and without a terminal, and however it ends nothing stays behind."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.integration import lb_process
from tests.integration.lb_process import free_port, get, wait_until

lb = partial(lb_process.lb, covered=True)

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]|\r")


def backends_of(parent: int) -> list[int]:
    """The processes a demo has started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_without_a_terminal_it_tries_the_three_things_itself_and_loses_nothing() -> None:
    port = free_port()
    with lb("demo", "--for", "12", "--port", str(port)) as demo:
        demo.wait_for_output("listener open")
        backends = backends_of(demo.process.pid)
        assert len(backends) == 3
        assert {get(port)[0] for _ in range(10)} == {200}
        assert demo.wait(40) == 0, demo.output
    text = "".join(demo.output)
    assert f"http://127.0.0.1:{port}" in text
    in_order = ["1. kill", "fast: process", "fast: started again", "2. sed", "weight back", "answers by backend"]
    assert [text.index(part) for part in in_order] == sorted(text.index(part) for part in in_order)
    assert re.search(r"fast: (ejected|down)", text)
    assert re.search(r"middle \d+% \(draining\)", text)
    assert "config refused" not in text
    sent, answered, lost = map(int, re.findall(r"^(\d+) requests, (\d+) answered, (\d+) lost$", text, re.MULTILINE)[0])
    assert (answered, lost) == (sent, 0)
    assert sent > 300
    assert "Traceback" not in text + demo.errors
    assert not any(map(alive, backends))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_early_with_a_summary_and_no_process_left(number: signal.Signals) -> None:
    with lb("demo", "--for", "60", "--port", str(free_port())) as demo:
        demo.wait_for_output("answered")
        backends = backends_of(demo.process.pid)
        demo.signal(number)
        assert demo.wait() == 0
        assert "0 lost" in demo.output[-2]
    assert not any(map(alive, backends))


def test_killed_outright_it_leaves_no_process_behind() -> None:
    with lb("demo", "--for", "60", "--port", str(free_port())) as demo:
        demo.wait_for_output("answered")
        backends = backends_of(demo.process.pid)
        assert all(map(alive, backends))
        demo.signal(signal.SIGKILL)
        demo.wait()
        wait_until(lambda: not any(map(alive, backends)), within=5)


def test_a_taken_port_is_named_and_nothing_stays_behind() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with lb("demo", "--port", str(port)) as demo:
            assert demo.wait() == 1
            assert f"port {port} on 127.0.0.1 is taken" in demo.errors
            assert "Traceback" not in demo.errors


def test_in_a_terminal_it_draws_a_picture_until_ctrl_c() -> None:
    port = free_port()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "lb_core.cli", "demo", "--port", str(port)]
    environ = {**os.environ, "TERM": "xterm-256color"}
    environ.pop("COLUMNS", None)
    environ.pop("LINES", None)
    demo = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True)
    os.close(slave)
    shown = ""
    try:
        shown += read_until(master, "✓ up", 15)
        backends = backends_of(demo.pid)
        shown += read_until(master, "requests/s", 5)
        demo.send_signal(signal.SIGINT)  # what the terminal sends for Ctrl+C
        shown += read_until(master, "answers by backend", 15)
        assert demo.wait(10) == 0
    finally:
        demo.kill()
        demo.wait()
        os.close(master)
    for text in (
        "lb demo",
        f"http://127.0.0.1:{port}",
        "Backend",
        "In flight",
        "kill ",
        "sed -i",
        "Ctrl+C ends the demo",
    ):
        assert text in shown
    assert re.search(r"\d+ requests, \d+ answered, 0 lost", shown)
    assert not any(map(alive, backends))


def read_until(terminal: int, text: str, within: float) -> str:
    """What the terminal shows until a text appears; fails when it does not."""
    shown, end = "", time.monotonic() + within
    while text not in shown:
        assert time.monotonic() < end, f"{text!r} did not appear in:\n{shown}"
        if select.select([terminal], [], [], 0.2)[0]:
            with suppress(OSError):  # the other end is closed
                shown += ESCAPES.sub("", os.read(terminal, 65536).decode("utf-8", errors="replace"))
    return shown
