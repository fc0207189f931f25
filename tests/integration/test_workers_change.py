"""Several workers, and what changes while they serve: the configuration, their number, they themselves."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.lb_process import LbProcess, free_port
from tests.integration.test_reload_under_load import under_load
from tests.integration.worker_process import Crew, lives, workers
from tests.support.backends import Backend, Request
from tests.support.balancing import until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import request, response

if TYPE_CHECKING:
    from tests.support.figures import Measured

RELOADS = 20
GET = request()
FINE = response(b"fine")


async def quickly(seen: Request) -> None:
    await asyncio.sleep(0.002)
    seen.write(FINE)


async def ask(port: int, host: str = "example.com") -> int:
    """The status of a request over a connection of its own."""
    async with await Client.connect(port) as client:
        return (await client.ask(request(host=host))).status


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.timed
async def test_twenty_reloads_under_load_lose_nothing(tmp_path: Path, measured: Measured) -> None:
    async with Backend(quickly, name="one") as one, workers(tmp_path, one, covered=False) as crew:
        extra = free_port()
        web = crew.config["listeners"]["web"]
        async with under_load(crew.port) as (load, answered):
            for index in range(1, RELOADS + 1):
                more = {"more": {"address": f"127.0.0.1:{extra}"}} if index % 2 else {}
                routes = {**crew.config["routes"], f"only-{index}.example": [one.address]}
                routes.pop(f"only-{index - 1}.example", None)
                await crew.reload(listeners={"web": web, **more}, routes=routes, opens=bool(more))
                for _ in range(4):  # whoever answers has the new one
                    assert await ask(crew.port, f"only-{index}.example") == 200
                    if more:
                        assert await ask(extra) == 200
                if not more:
                    await crew.until(lambda: refuses(extra))
        assert len(crew.events("config loaded")) == RELOADS
        assert not crew.events("worker died")
        assert not crew.events("listener failed")
    measured(f"{RELOADS} reloads of 2 workers under load", f"0 of {load.total + len(answered)} lost, 0 refused")


@pytest.mark.timed
async def test_a_rolling_restart_under_load_loses_nothing(tmp_path: Path, measured: Measured) -> None:
    async with Backend(quickly) as backend, workers(tmp_path, backend, covered=False, drain="10s") as crew:
        before = crew.pids
        stop, answered = asyncio.Event(), 0

        async def newcomers() -> None:
            nonlocal answered
            while not stop.is_set():
                assert await ask(crew.port) == 200
                answered += 1

        load = Load(crew.port, connections=16, pause=0.002)
        tasks = [asyncio.create_task(load.run()), *(asyncio.create_task(newcomers()) for _ in range(4))]
        await until(lambda: load.total > 50 and answered > 10, within=10)
        assert "2 workers will be restarted" in await crew.command("workers", "restart")
        await crew.until(lambda: crew.events("workers restarted"))
        crew.process.signal(signal.SIGRTMIN)
        await crew.until(lambda: len(crew.events("workers restarted")) == 2)
        await crew.until(lambda: len(crew.pids) == 2)
        load.stop()
        stop.set()
        await asyncio.gather(*tasks)
        assert load.lost == []
        assert load.answers.keys() == {200}
        assert not set(crew.pids) & set(before)
        await asyncio.sleep(0.3)
        figures = await crew.workers()
        assert [each["state"] for each in figures] == ["serving"] * 2
        assert (await crew.ask("status"))["load"]["requests"] == load.total + answered, "what they counted is kept"
    measured("two rolling restarts under load", f"0 of {load.total + answered} lost, 0 refused")


async def test_more_workers_and_fewer(tmp_path: Path) -> None:
    async with Backend(quickly) as backend, workers(tmp_path, backend) as crew:
        async with under_load(crew.port):
            await crew.reload(workers=3)
            await crew.until(lambda: len(crew.events("worker started")) == 3)
        figures = await crew.workers()
        load = Load(crew.port, connections=32, count=200)
        await load.run()
        await asyncio.sleep(0.3)
        after = {each["seat"]: each["requests"] for each in await crew.workers()}
        assert len(figures) == 3
        assert all(after.values()), "all three serve"
        stop = asyncio.Event()
        statuses: Counter[int] = Counter()

        async def newcomers() -> None:
            while not stop.is_set():
                statuses[await ask(crew.port)] += 1

        asking = [asyncio.create_task(newcomers()) for _ in range(4)]
        await crew.reload(workers=2)
        await crew.until(lambda: len(crew.pids) == 2)
        await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(*asking)
        assert statuses.keys() == {200}
        assert not crew.events("worker died")
        await crew.reload(workers=1)
        await crew.until(lambda: crew.events("restart needed"))
        assert "the file says `workers: 1`, and here workers carry the traffic" in crew.events("restart needed")[0]
        assert len(crew.pids) == 2


async def test_what_waits_in_a_listener_that_goes_is_served(tmp_path: Path) -> None:
    """Each worker takes what waits in its own sockets before it closes them."""
    async with Backend(quickly) as backend, workers(tmp_path, backend) as crew:
        extra = free_port()
        more = {"address": f"127.0.0.1:{extra}"}
        web = crew.config["listeners"]["web"]
        await crew.reload(listeners={"web": web, "more": more}, opens=True)
        clients = []
        for _ in range(3):
            clients += [await Client.connect(extra) for _ in range(8)]
            for client in clients:
                await client.send(GET)
            await crew.reload(listeners={"web": web})
            for client in clients:
                async with client:
                    assert (await client.answer()).status == 200
            clients = []
            await crew.reload(listeners={"web": web, "more": more}, opens=True)


async def test_unix_sockets_are_everybody_s(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"

    def get() -> bytes:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(str(path))
            asking.sendall(GET)
            return asking.recv(4096)

    async with Backend(quickly) as backend, workers(tmp_path, backend) as crew:
        listeners = {**crew.config["listeners"], "inside": {"address": f"unix:{path}", "mode": "0600"}}
        await crew.reload(listeners=listeners, opens=True)
        assert path.stat().st_mode & 0o777 == 0o600
        assert (await asyncio.to_thread(get)).startswith(b"HTTP/1.1 200")
        crew.kill(crew.pids[0])
        assert (await asyncio.to_thread(get)).startswith(b"HTTP/1.1 200")
        await crew.until(lambda: len(crew.events("worker started")) == 3)
        await crew.reload(listeners={"web": listeners["web"]})
        await crew.until(lambda: not path.exists())
        assert len(crew.pids) == 2


async def test_the_access_log_has_every_line_whole(tmp_path: Path) -> None:
    """Two workers on one pipe, with lines that are longer than what a pipe takes in one piece."""
    long = "/" + "a" * 6000
    async with (
        Backend(quickly) as backend,
        workers(tmp_path, backend, quiet=False, access_log={"format": "json"}) as crew,
    ):
        asked: Counter[str] = Counter()

        async def some(number: int) -> None:
            async with await Client.connect(crew.port) as client:
                for index in range(60):
                    target = long if (index + number) % 3 == 0 else f"/{number}/{index}"
                    assert (await client.ask(request(target))).status == 200
                    asked[target] += 1

        await asyncio.gather(*(some(number) for number in range(24)))
        crew.process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(crew.process.wait, 10) == 0
        logged = Counter(json.loads(line)["target"] for line in crew.process.output)
        assert {target: logged[target] for target in asked} == asked


async def test_a_log_file_is_opened_again_by_every_process(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with (
        Backend(quickly) as backend,
        workers(tmp_path, backend, quiet=False, access_log={"file": str(log)}) as crew,
    ):
        await Load(crew.port, connections=16, count=64).run()
        log.rename(tmp_path / "moved.log")
        crew.process.signal(signal.SIGUSR1)
        await crew.until(log.exists)
        await asyncio.sleep(0.1)
        await Load(crew.port, connections=16, count=64).run()
        everybody = [crew.process.process.pid, crew.nursery, *crew.pids]
        held = [
            str(each.readlink()) for pid in everybody for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()
        ]
        assert not [each for each in held if "moved.log" in each]
        crew.process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(crew.process.wait, 10) == 0
        lines = [line for name in ("moved.log", "access.log") for line in (tmp_path / name).read_text().splitlines()]
        assert len(lines) == 128
        assert all(json.loads(line)["status"] == 200 for line in lines)
        assert len(log.read_text().splitlines()) == 64


PLUGIN = """
import os, signal
from contextlib import asynccontextmanager
from lb_core import hookimpl

@hookimpl
@asynccontextmanager
async def lifespan(balancer):
    if balancer.serves and os.path.exists({flag!r}):
        {what}
    yield
"""


def plugin(tmp_path: Path, what: str) -> tuple[str, Path]:
    """A program that serves lb.yaml with a plugin, which does something in each worker's start while a file exists."""
    flag = tmp_path / "flag"
    (tmp_path / "trouble.py").write_text(PLUGIN.format(flag=str(flag), what=what))
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import trouble\n"
        "from lb_core.plugins import Plugins\n"
        "from lb_core.cli import main\n"
        "discover = Plugins.discover\n"
        "Plugins.discover = lambda **options: discover(**{**options, 'extra': [trouble]})\n"
        "main()\n"
    )
    return script, flag


async def started_with(tmp_path: Path, script: str, backend: Backend) -> Crew:
    """The balancer with such a plugin."""
    import yaml

    port = free_port()
    config: dict[str, Any] = {
        "listeners": {"web": f"127.0.0.1:{port}"},
        "access_log": False,
        "workers": 2,
        "control": str(tmp_path / "control.sock"),
        "routes": {"*": [backend.address]},
    }
    file = tmp_path / "lb.yaml"
    file.write_text(yaml.safe_dump(config))
    return Crew(LbProcess("run", "-c", str(file), program=("-c", script), covered=True), port, file, config)


async def test_workers_that_crash_again_and_again_are_started_after_longer_pauses(tmp_path: Path) -> None:
    script, flag = plugin(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    async with Backend(quickly) as backend:
        crew = await started_with(tmp_path, script, backend)
        try:
            await crew.until(lambda: "twice quits" in crew.process.errors)
            untouched, victim = crew.pids
            flag.touch()
            crew.kill(victim)
            begin = time.monotonic()
            await crew.until(lambda: len(crew.events("worker crash loop")) == 3)
            assert time.monotonic() - begin > 0.1 + 0.2 + 0.4
            pauses = [line.rpartition(" in ")[2] for line in crew.events("worker crash loop")]
            assert pauses == ["0.2 s", "0.4 s", "0.8 s"]
            assert "SIGSEGV" in crew.events("worker died")[-1]
            assert await ask(crew.port) == 200
            assert lives(untouched)
            flag.unlink()
            await crew.until(lambda: len(crew.pids) == 2)
            await crew.until(lambda: len(crew.events("worker started")) == 3)
        finally:
            await asyncio.to_thread(crew.process.close)


async def test_the_end_does_not_wait_for_workers_that_do_not_start(tmp_path: Path) -> None:
    script, flag = plugin(tmp_path, "balancer.sharing.seat == 1 and os.kill(os.getpid(), signal.SIGSEGV)")
    flag.touch()
    async with Backend(quickly) as backend:
        crew = await started_with(tmp_path, script, backend)
        try:
            await crew.until(lambda: crew.events("worker crash loop"))
            assert await ask(crew.port) == 200, "the other one serves"
            assert "twice quits" not in crew.process.errors
            crew.process.signal(signal.SIGTERM)
            assert await asyncio.to_thread(crew.process.wait, 10) == 0
        finally:
            await asyncio.to_thread(crew.process.close)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "no worker starts: the last one ended by SIGSEGV"),
        ("raise ValueError('no luck today')", "plugin 'trouble' failed to start: no luck today"),
    ],
)
async def test_where_no_worker_starts_the_start_fails(tmp_path: Path, what: str, said: str) -> None:
    script, flag = plugin(tmp_path, what)
    flag.touch()
    async with Backend(quickly) as backend:
        crew = await started_with(tmp_path, script, backend)
        try:
            assert await asyncio.to_thread(crew.process.wait, 10) == 1
            assert said in crew.process.errors.splitlines()[-1]
        finally:
            await asyncio.to_thread(crew.process.close)


STRATEGIES = """
class First:
    from lb_core import hookimpl
    @hookimpl
    def select_backend(self, candidates):
        return candidates[0]
"""
PYTHON = """
from lb_core import LoadBalancer
{imports}
balancer = LoadBalancer()
balancer.set("workers", 2)
balancer.set("access_log", "off")
balancer.set("control", {control!r})
balancer.listener("web", "127.0.0.1:{port}")
with balancer.route_domain("*") as route:
    route.container("one", "{backend}")
    route.strategy({strategy})
"""


async def test_a_class_in_the_configuration_file_is_refused_and_one_in_a_module_is_not(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "own_strategies.py").write_text(STRATEGIES)
    file = tmp_path / "balancer.py"
    common = {"control": str(tmp_path / "control.sock"), "port": port}
    async with Backend(quickly) as backend:
        inside = PYTHON.format(imports=STRATEGIES, strategy="First", backend=backend.address, **common)
        outside = PYTHON.format(
            imports="from own_strategies import First", strategy="First", backend=backend.address, **common
        )
        file.write_text(inside)
        refused = LbProcess("run", "-c", str(file))
        try:
            assert await asyncio.to_thread(refused.wait, 10) == 3
            assert "routes.*.strategy: this cannot be sent to a worker: First stands in the conf" in refused.errors
            assert "put it into a module" in refused.errors
        finally:
            await asyncio.to_thread(refused.close)
        file.write_text(outside)
        crew = Crew(LbProcess("run", "-c", str(file)), port, file, {})
        try:
            await crew.until(lambda: "twice quits" in crew.process.errors)
            assert await ask(port) == 200
            file.write_text(inside)
            crew.process.signal(signal.SIGHUP)
            await crew.until(lambda: crew.events("config refused"))
            assert await ask(port) == 200
            assert "the previous configuration goes on" in crew.process.errors
        finally:
            await asyncio.to_thread(crew.process.close)
