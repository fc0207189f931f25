"""The example as a user runs it: uvicorn and two backends as processes, over real sockets."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "embedding.md"
_python = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port: int = found.getsockname()[1]
        return port


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < limit, "it did not come true in 15 seconds"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


class Running:
    """The three processes."""

    def __init__(self) -> None:
        self.backends: dict[str, subprocess.Popen[bytes]] = {}
        addresses = []
        for name in ("blue", "green"):
            port = free_port()
            addresses.append(f"127.0.0.1:{port}")
            command = [sys.executable, "-m", "lb_core.demo.backend", "--name", name, "--port", str(port)]
            self.backends[name] = subprocess.Popen(command)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.app = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "app:app", "--port", str(port)],
            env={**os.environ, "BACKENDS": ",".join(addresses)},
        )

    def stop(self) -> None:
        processes = [self.app, *self.backends.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    made = Running()
    try:
        until(lambda: answers(f"{made.url}/"))
        yield made
    finally:
        made.stop()


def test_its_own_page_is_its_own(running: Running) -> None:
    assert httpx.get(f"{running.url}/hello").text.startswith("Hello. Behind me: 127.0.0.1:")


def test_everything_else_goes_to_both_backends(running: Running) -> None:
    until(lambda: httpx.get(f"{running.url}/hello").text.count("(up)") == 2)
    answers = [httpx.get(f"{running.url}/some/path").text for _ in range(20)]
    assert {name for name in running.backends for answer in answers if name in answer} == {"blue", "green"}


def test_a_backend_that_dies_is_not_noticed(running: Running) -> None:
    running.backends["blue"].kill()
    running.backends["blue"].wait(10)
    assert {httpx.get(f"{running.url}/").status_code for _ in range(20)} == {200}


def test_it_ends_in_order(running: Running) -> None:
    running.app.terminate()
    assert running.app.wait(10) in (0, -15)  # uvicorn ends by the signal it was sent


@pytest.mark.parametrize("number", range(4))
def test_the_programs_of_the_page_run(number: int) -> None:
    blocks = _python.findall(PAGE.read_text())
    assert len(blocks) == 4
    namespace: dict[str, object] = {"__name__": f"embedding_{number}"}
    exec(compile(blocks[number], f"{PAGE.name}:{number}", "exec"), namespace)
    assert "balancer" in namespace
