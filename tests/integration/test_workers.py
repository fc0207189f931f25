"""Several workers: they share the traffic, die and are replaced, and end together."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.lb_process import LbProcess, free_port, get, wait_until
from tests.integration.worker_process import Crew, children, lives, workers
from tests.support.backends import Backend, Request
from tests.support.balancing import until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import Cut, request, response

if TYPE_CHECKING:
    from tests.support.figures import Measured

KILLS = 20
GET = request()
FINE = response(b"fine")


async def quickly(seen: Request) -> None:
    await asyncio.sleep(0.002)
    seen.write(response(b"fine"))


class Newcomers:
    """A connection a request, all the time; `slowest` is the longest any of them has taken."""

    def __init__(self, port: int, *, connections: int = 4) -> None:
        self.port = port
        self.answered = 0
        self.lost: list[str] = []
        self.slowest = 0.0
        self._stopped = False
        self._connections = connections

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._connections):
                tasks.create_task(self._ask())

    def stop(self) -> None:
        self._stopped = True

    async def _ask(self) -> None:
        while not self._stopped:
            begin = time.monotonic()
            try:
                async with await Client.connect(self.port) as client:
                    assert (await client.ask(GET, within=10)).status == 200
                self.answered += 1
            except (Cut, ConnectionError) as error:
                self.lost.append(f"{type(error).__name__} {error}")
            self.slowest = max(self.slowest, time.monotonic() - begin)
            await asyncio.sleep(0.002)


async def test_workers_share_the_traffic_and_one_status_shows_it(tmp_path: Path) -> None:
    async with Backend(FINE) as backend, workers(tmp_path, backend) as crew:
        load = Load(crew.port, connections=16, count=400)
        await load.run()
        assert load.answers == {200: 400}
        # what a connection is counted for is put down ten times a second
        await asyncio.sleep(0.3)
        figures = await crew.workers()
        assert [each["state"] for each in figures] == ["serving"] * 2
        assert [each["pid"] for each in figures] == sorted(crew.pids)
        assert sum(each["requests"] for each in figures) == 400
        assert all(each["requests"] and each["memory"] for each in figures), "both serve"
        status = await crew.ask("status")
        assert status["urls"] == [f"http://127.0.0.1:{crew.port}"]
        assert len(status["workers"]) == 2
        said = await crew.command("workers")
        assert [line.split()[0] for line in said.splitlines()] == ["SEAT", "1", "2"]


async def test_a_decision_is_found_whoever_made_it(tmp_path: Path) -> None:
    async with Backend(FINE) as backend, workers(tmp_path, backend, count=3) as crew:
        for number in range(12):
            async with await Client.connect(crew.port) as client:
                asked = request("/", b"", f"X-Request-Id: look-{number}-at-me")
                assert (await client.ask(asked)).status == 200
        for number in range(12):
            found = await crew.ask("decision", request_id=f"look-{number}-at-me")
            assert [each["request_id"] for each in found["decisions"]] == [f"look-{number}-at-me"]
        assert found["kept"] >= 12
        assert "id        look-3-at-me" in await crew.command("explain", "--why", "look-3-at-me")


async def killed(crew: Crew, pid: int) -> float:
    """Kill a worker; returns how long it took until there was another one that serves."""
    started = len(crew.events("worker started"))
    begin = time.monotonic()
    crew.kill(pid)
    await crew.until(lambda: len(crew.events("worker started")) > started)
    return time.monotonic() - begin


@pytest.mark.timed
async def test_twenty_killed_workers_lose_what_they_had_in_hand_and_no_more(tmp_path: Path, measured: Measured) -> None:
    async with Backend(quickly) as backend, workers(tmp_path, backend, covered=False) as crew:
        kept, new = Load(crew.port, connections=8, pause=0.002), Newcomers(crew.port)
        tasks = [asyncio.create_task(kept.run()), asyncio.create_task(new.run())]
        await until(lambda: kept.total > 50 and new.answered > 20, within=10)
        slowest, begin, before_all = 0.0, time.monotonic(), kept.total + new.answered
        for number in range(KILLS):
            before = len(kept.lost) + len(new.lost)
            slowest = max(slowest, await killed(crew, crew.pids[number % 2]))
            # each client has one request under way at most
            assert len(kept.lost) + len(new.lost) - before <= 8 + 4
            assert len(crew.pids) == 2
        rate = (kept.total + new.answered - before_all) / (time.monotonic() - begin)
        kept.stop()
        new.stop()
        await asyncio.gather(*tasks)
        assert slowest < 1.0
        assert new.slowest < 1.0, "nobody waited for longer than a second"
        assert kept.answers.keys() == {200}
        assert not [each for each in (*kept.lost, *new.lost) if "refused" in each.lower()]
        assert len(crew.events("worker died")) == KILLS
        lost, served = len(kept.lost) + len(new.lost), kept.total + new.answered
        await asyncio.sleep(0.3)
        requests = sum(each["requests"] for each in await crew.workers())
        assert requests < served, "those of the dead are not the living's"
        status = await crew.ask("status")
        # a worker that is killed takes with it what it had not put down yet: a tenth of a second
        assert served - KILLS * 0.2 * rate <= status["load"]["requests"] <= served + lost
    measured(f"{KILLS} workers killed under load", f"{lost} of {served} lost, replaced within {slowest * 1000:.0f} ms")


async def test_connections_nobody_has_accepted_survive_a_worker(tmp_path: Path) -> None:
    """They wait in sockets of the control process, and whoever is left takes them."""
    async with Backend(FINE) as backend, workers(tmp_path, backend) as crew:
        stopped = crew.pids[0]
        crew.kill(stopped, signal.SIGSTOP)
        clients = [await Client.connect(crew.port) for _ in range(16)]
        for client in clients:
            await client.send(GET)
        crew.kill(stopped)
        for client in clients:
            async with client:
                assert (await client.answer(within=5)).status == 200


@pytest.mark.timed
async def test_a_worker_that_hangs_is_noticed_and_replaced(tmp_path: Path, measured: Measured) -> None:
    async with Backend(FINE) as backend, workers(tmp_path, backend, covered=False) as crew:
        stopped, other = crew.pids
        begin = time.monotonic()
        crew.kill(stopped, signal.SIGSTOP)
        await crew.until(lambda: crew.events("worker hung"), within=8)
        noticed = time.monotonic() - begin
        await crew.until(lambda: len(crew.events("worker started")) == 3)
        assert 4 < noticed < 7
        assert not lives(stopped)
        assert other in crew.pids
        assert not crew.events("worker died"), "what it was killed for is told once"
    measured("a hung worker", f"noticed after {noticed:.1f} s")


async def test_workers_end_when_their_control_process_is_killed(tmp_path: Path) -> None:
    async with Backend(quickly) as backend, workers(tmp_path, backend) as crew:
        everybody = [crew.nursery, *crew.pids]
        async with await Client.connect(crew.port) as client:
            assert (await client.ask(GET)).status == 200
            crew.kill(crew.process.process.pid)
            await crew.until(lambda: not any(map(lives, everybody)))


async def slowly(seen: Request) -> None:
    await asyncio.sleep(0.02)
    seen.write(response(await seen.body()))


async def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    async with Backend(slowly) as backend, workers(tmp_path, backend) as crew:
        load = Load(crew.port, connections=32, reconnect=False)
        loading = asyncio.create_task(load.run())
        await until(lambda: load.total > 200)
        pids = [crew.nursery, *crew.pids]
        crew.process.signal(signal.SIGTERM)
        await asyncio.wait_for(loading, 5)
        assert await asyncio.to_thread(crew.process.wait, 5) == 0
        assert load.lost == []
        assert load.answers.keys() == {200}
        assert not any(map(lives, pids))


@pytest.mark.timed
async def test_a_second_signal_ends_the_drain(tmp_path: Path) -> None:
    async def never(seen: Request) -> None:
        await seen.connection.ended.wait()

    async with Backend(never) as backend, workers(tmp_path, backend, covered=False, drain="30s") as crew:
        async with await Client.connect(crew.port) as client:
            await client.send(GET)
            await until(lambda: len(backend.requests) == 1)
            crew.process.signal(signal.SIGTERM)
            assert await client.silent(0.5), "it is waited for"
            begin = time.monotonic()
            crew.process.signal(signal.SIGTERM)
            assert await asyncio.to_thread(crew.process.wait, 5) == 0
            assert time.monotonic() - begin < 2
        assert "cut 1 connection" in crew.process.errors


async def test_signals_to_everybody_are_the_control_process_s_alone(tmp_path: Path) -> None:
    """The terminal's Ctrl+C, and what a service manager sends to all processes of a service."""
    async with Backend(slowly) as backend, workers(tmp_path, backend) as crew:
        for pid in (crew.nursery, *crew.pids):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                crew.kill(pid, number)
        async with await Client.connect(crew.port) as client:
            assert (await client.ask(GET)).status == 200
        assert len(crew.pids) == 2
        assert not crew.events("worker died")


async def test_a_port_that_is_taken_is_found_before_any_worker_starts(tmp_path: Path) -> None:
    async with Backend(FINE) as backend, workers(tmp_path, backend) as crew:
        for count in ("1", "2"):
            second = LbProcess("run", backend.address, "--listen", f"127.0.0.1:{crew.port}", "--workers", count)
            try:
                assert await asyncio.to_thread(second.wait, 10) == 1
                assert f"port {crew.port} on 127.0.0.1 is taken (by" in second.errors
                assert "worker" not in second.errors
            finally:
                await asyncio.to_thread(second.close)


async def test_a_lost_nursery_is_told_and_the_workers_go_on(tmp_path: Path) -> None:
    async with Backend(FINE) as backend, workers(tmp_path, backend) as crew:
        pids = crew.pids
        crew.kill(crew.nursery)
        await crew.until(lambda: crew.events("nursery lost"))
        async with await Client.connect(crew.port) as client:
            assert (await client.ask(GET)).status == 200
        assert "the nursery has ended; send SIGUSR2" in await crew.command("workers", "restart", fails=True)
        for pid in pids:
            crew.kill(pid)
        assert await asyncio.to_thread(crew.process.wait, 5) == 1
        assert "no worker is left" in crew.process.errors
        assert not crew.events("worker crash loop"), "no next one starts"


def test_no_worker_is_forked_beside_threads() -> None:
    script = (
        "import threading, time\n"
        "from lb_core import LoadBalancer\n"
        "threading.Thread(target=time.sleep, args=(30,), daemon=True, name='somebody').start()\n"
        "balancer = LoadBalancer()\n"
        "balancer.set('workers', 2)\n"
        "balancer.run(port=0)\n"
    )
    process = LbProcess(program=("-c", script))
    try:
        assert process.wait(10) == 1
        assert "workers: threads run already (somebody)" in process.errors
    finally:
        process.close()


def test_a_script_of_ones_own_serves_with_workers(tmp_path: Path) -> None:
    port = free_port()
    script = (
        "import os\n"
        "from lb_core import LoadBalancer\n"
        "balancer = LoadBalancer()\n"
        "balancer.set('workers', 2)\n"
        "balancer.set('access_log', 'off')\n"
        f"balancer.set('control', {str(tmp_path / 'control.sock')!r})\n"
        "with balancer.route_domain('*') as route:\n"
        "    route.container('one', '127.0.0.1:1')\n"
        f"raise SystemExit(balancer.run(host='127.0.0.1', port={port}))\n"
    )
    process = LbProcess(program=("-c", script))
    try:
        wait_until(
            lambda: sum(len(children(each)) for each in children(process.process.pid)) == 2,
            or_else=lambda: process.errors,
        )
        wait_until(lambda: os.path.exists(tmp_path / "control.sock"))
        assert get(port)[0] == 502
        process.signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.close()
