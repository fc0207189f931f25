"""A short soak: the same as `make soak`, with fewer requests."""

from __future__ import annotations

import mmap
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.soak.memory import footprint, own_kb, queued
from tests.soak.mixture import MIXTURE
from tests.soak.run import Plan, soak

if TYPE_CHECKING:
    from tests.support.figures import Measured


def test_memory_is_read_from_proc() -> None:
    before = footprint(os.getpid())
    held = mmap.mmap(
        -1, 30_000_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    )  # goes back to the system when it is closed, which malloc's memory may not
    for _ in range(30):
        held.write(bytes(1_000_000))
    with closing(socket.socket()):
        after = footprint(os.getpid())
    assert 25_000 < after.own - before.own < 35_000
    assert after.descriptors == before.descriptors + 1
    held.close()
    assert own_kb(os.getpid()) < after.own - 25_000


def test_bytes_that_wait_in_sockets_are_counted() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            taken, _ = server.accept()
            with closing(taken):
                client.sendall(b"x" * 10_000)
                assert queued([port]) == 10_000
                assert taken.recv(4000, socket.MSG_WAITALL)
                assert queued([port]) == 6_000


@pytest.mark.slow
async def test_a_short_soak(tmp_path: Path, measured: Measured) -> None:
    report = await soak(tmp_path, Plan(24_000, 14_000, fill=4000, reload_each=4000))
    assert not report.failures, str(report)
    assert report.kinds.keys() == {kind.__name__ for kind in MIXTURE}
    measured("soak, growth of its own memory", f"{report.growth / 1024:.2f} MB over {report.requests:,} requests")
