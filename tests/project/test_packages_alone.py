"""A distribution works with what it depends on and nothing else, as somebody has it who installed only that."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import zipfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.repository import PACKAGES, ROOT, module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import NewVenv

TEST_TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "jsonschema")
START_SECONDS = 15.0


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_wheel_holds_its_module_and_nothing_else(package: Path, wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels[package.name]) as wheel:
        names = wheel.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {module(package)}
    shipped = {name for name in names if name.startswith(module(package) + "/")}
    sources = {
        path.relative_to(package / "src").as_posix()
        for path in (package / "src" / module(package)).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == sources
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_unit_tests_pass_with_the_package_alone(
    package: Path, wheels: dict[str, Path], new_venv: NewVenv, tmp_path: Path
) -> None:
    venv = new_venv(*_with_own_dependencies(package, wheels), *TEST_TOOLS)
    command: list[str | Path] = [
        venv / "python",
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        package / "tests",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False, env=_bare())
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]


@pytest.fixture(scope="session")
def core_alone(wheels: dict[str, Path], new_venv: NewVenv) -> Path:
    """The bin folder of an environment with lb-core and what it depends on."""
    return new_venv(wheels["lb-core"])


def test_lb_core_alone_proxies_with_the_default_strategy(core_alone: Path, tmp_path: Path) -> None:
    port = _free_port()
    with _backend() as backend, _running([core_alone / "lb", "run", backend, "--listen", f"127.0.0.1:{port}"], port):
        answers = [httpx.get(f"http://127.0.0.1:{port}/path", timeout=5) for _ in range(3)]
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "from the backend")] * 3


def test_lb_core_alone_names_the_package_that_brings_a_strategy(core_alone: Path, tmp_path: Path) -> None:
    config = tmp_path / "lb.yaml"
    config.write_text('routes:\n  "*":\n    backends: ["127.0.0.1:9"]\n    strategy: p2c\n')
    command: list[str | Path] = [core_alone / "lb", "check", config]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=_bare())
    said = ended.stdout + ended.stderr
    assert ended.returncode == 3, said
    assert "p2c" in said
    assert "install lb-strategies" in said
    assert "lb.yaml:4" in said
    assert "Traceback" not in said


def _with_own_dependencies(package: Path, wheels: dict[str, Path]) -> list[Path]:
    """The package's wheel and those of the packages of this repository that it depends on."""
    from tests.support.repository import project

    needed = {requirement.partition("==")[0] for requirement in project(package)["dependencies"]}
    return [wheels[package.name], *(wheels[other] for other in wheels if other in needed)]


def _bare() -> dict[str, str]:
    """An environment without a setting that would lead to other packages, or to another configuration."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "LB_", "COV_", "COVERAGE_", "VIRTUAL_ENV"))
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _backend() -> Iterator[str]:
    """A backend in a thread of this process, as host:port."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "16")
            self.end_headers()
            self.wfile.write(b"from the backend")

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _running(command: list[str | Path], port: int) -> Iterator[None]:
    """A command that listens on a port, ended with SIGTERM, on which it must drain and exit with 0."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_bare())
    try:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        assert process.poll() is None, f"{command} ended: {process.communicate()[0]}"
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
