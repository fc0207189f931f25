"""The balancer killed with SIGKILL under load, and started again on the same port at once."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.integration.lb_process import LbProcess, free_port
from tests.support.backends import Backend, Request
from tests.support.balancing import tree, until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import request, response

if TYPE_CHECKING:
    from tests.support.figures import Measured


async def quickly(seen: Request) -> None:
    """An answer after as long as a small application takes; /slow takes very long."""
    await asyncio.sleep(30 if seen.message.target == b"/slow" else 0.005)
    seen.write(response(b"done"))


async def start(path: Path) -> LbProcess:
    """`lb run` with this file, listening."""
    started = LbProcess("run", "-c", str(path))
    try:
        await asyncio.to_thread(started.wait_for, "twice quits")
    except BaseException:
        started.close()
        raise
    return started


async def test_killed_and_started_again_on_the_same_port_three_times(tmp_path: Path, measured: Measured) -> None:
    """No socket, lock or file of the dead process is in the way, and its backends were let go by the kernel."""
    port, path = free_port(), tmp_path / "lb.yaml"
    took: list[float] = []
    async with Backend(quickly) as backend:
        path.write_text(yaml.safe_dump(tree([backend], listener={"address": f"127.0.0.1:{port}"})))
        started = await start(path)
        try:
            for _ in range(3):
                load = Load(port, connections=20, reconnect=False)
                loading = asyncio.create_task(load.run())
                async with await Client.connect(port) as slow:
                    await slow.send(request("/slow"))
                    await until(lambda load=load: load.total > 100, within=10)
                    started.signal(signal.SIGKILL)
                    begin = time.monotonic()
                    assert await slow.end(within=1) == b"", "clients learn of it at once"
                    await asyncio.wait_for(loading, 2)
                    assert 0 < len(load.lost) <= 20, "only what was under way"
                    assert await asyncio.to_thread(started.wait) == -signal.SIGKILL
                    await until(lambda: all(each.ended.is_set() for each in backend.connections), within=1)
                started.close()
                started = await start(path)
                async with await Client.connect(port) as client:
                    assert (await client.ask(request())).body == b"done"
                took.append(time.monotonic() - begin)
                assert "taken" not in started.errors
                assert "Traceback" not in started.errors
        finally:
            started.close()
    measured("SIGKILL and a new start on the same port", f"serves after {max(took):.1f} s, Python's own start included")
