"""Slow clients by the thousand, as slowhttptest makes them: everybody else is served in every second.

`make test` takes 1,000 connections for 8 seconds in each mode; `make hostile` 4,000 for 20 seconds, with the timeouts
that a listener has by default, and slowhttptest itself where it is installed. Figures are printed.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lb_process import LbProcess, free_port, lb
from tests.support.large_backend import large_backend
from tests.support.probe import probing
from tests.support.services import require
from tests.support.slow import (
    BODY,
    CHUNKS,
    HEADERS,
    MODES,
    READ,
    READ_LARGE,
    Crowd,
    Mode,
    descriptors,
    raise_file_limit,
    rss_mb,
)

HOSTILE = bool(os.environ.get("LB_HOSTILE"))
SIZE = 4000 if HOSTILE else 1000
SECONDS = 20 if HOSTILE else 8
QUICK = "timeouts: {header: 3s, body: 3s, write: 4s}"
MOST_KB = {READ: 400, READ_LARGE: 400}
"""What each of a crowd may add to the process: a client that does not read has a read's worth of its answer waiting."""


@contextmanager
def serving(tmp_path: Path, options: str = "") -> Iterator[tuple[LbProcess, int]]:
    """`lb run` with one backend, and its port."""
    raise_file_limit()
    port = free_port()
    with large_backend() as backend:
        (tmp_path / "lb.yaml").write_text(
            f"listeners: {{web: {{address: '127.0.0.1:{port}', {options or 'limits: {}'}}}}}\n"
            f"access_log: off\nroutes: {{'*': ['127.0.0.1:{backend}']}}\n"
        )
        with lb("run", "-c", "lb.yaml", cwd=tmp_path) as process:
            process.wait_for("listens on")
            yield process, port


def param(mode: Mode) -> Any:
    """A mode; what waits for a thousand who do not read takes the memory for TCP from whatever runs beside it."""
    return pytest.param(mode, id=mode.name, marks=[pytest.mark.timed] if mode in (READ, READ_LARGE) else [])


@pytest.mark.slow
@pytest.mark.parametrize("mode", [param(mode) for mode in MODES])
def test_everybody_else_is_served(mode: Mode, tmp_path: Path) -> None:
    # 4,000 answers of any length, stopped midway, take more memory than this kernel has for TCP, the backend's included
    size = min(SIZE, 1000) if mode == READ_LARGE else SIZE
    rate = 400 if mode in (READ, READ_LARGE) else 1000  # 100 MB a second of answers begun; more is no slow client
    with serving(tmp_path, "" if HOSTILE else QUICK) as (process, port), Crowd(port, mode, size, rate=rate) as crowd:
        before = rss_mb(process.process.pid)
        most = before
        with probing(port) as probe:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                most = max(most, rss_mb(process.process.pid))
                time.sleep(0.2)
        print(
            f"\n{mode.name}: {crowd.most} connections for {SECONDS} s; {probe}; "
            f"{most - before:.0f} MB more; ended: {dict(crowd.closed.most_common(4))}"
        )
        assert crowd.most >= size * 0.9
        assert probe.available == 1, probe.failures[:5]
        assert probe.p(0.99) < 1000
        assert (most - before) * 1024 / size < MOST_KB.get(mode, 20)
        assert process.process.poll() is None
    assert "Traceback" not in process.errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "limit", "told"),
    [
        (HEADERS, 3, "HTTP/1.1 408 Request Timeout"),
        (BODY, 3, "HTTP/1.1 408 Request Timeout"),
        (CHUNKS, 3, "HTTP/1.1 408 Request Timeout"),
        (READ, 4, ""),  # it would have to read what its own kernel holds before it learns of its end
    ],
    ids=lambda value: value.name if isinstance(value, Mode) else "",
)
def test_all_of_them_are_cut_in_time(mode: Mode, limit: float, told: str, tmp_path: Path) -> None:
    with serving(tmp_path, QUICK) as (process, port), Crowd(port, mode, 100, again=False) as crowd:
        idle = 14
        time.sleep(limit - 1)
        assert crowd.open == 100
        time.sleep(5)
        assert descriptors(process.process.pid) <= idle + 2
        if told:
            assert crowd.open == 0
            assert sum(crowd.closed.values()) == crowd.closed[told] == 100, crowd.closed
            assert min(crowd.ages) > limit - 0.6


@pytest.mark.slow
@pytest.mark.skipif(not HOSTILE, reason="part of `make hostile`")
@pytest.mark.parametrize("mode", ["-H", "-B", "-R", "-X"], ids=["slow headers", "slow body", "range", "slow read"])
def test_slowhttptest_finds_the_service_available(mode: str, tmp_path: Path) -> None:
    program = require("slowhttptest")
    more = ["-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"] if mode == "-X" else ["-i", "5"]
    with serving(tmp_path) as (process, port):
        before = rss_mb(process.process.pid)
        path = "page" if mode == "-X" else ""
        command = [program, mode, "-c", str(SIZE), "-r", "1000", "-l", str(SECONDS), "-p", "2", *more]
        with probing(port) as probe:
            ended = subprocess.run(
                [*command, "-u", f"http://127.0.0.1:{port}/{path}", "-g", "-o", str(tmp_path / "out")],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
        available = [int(row[-1]) > 0 for row in rows]
        print(
            f"\nslowhttptest {mode}: available in {sum(available)} of {len(available)} s by its own probe; {probe}; "
            f"{rss_mb(process.process.pid) - before:.0f} MB more"
        )
        assert all(available), re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout)[-2000:]
        assert probe.available == 1, probe.failures[:5]
