"""Features of a route where two workers serve it: what one finds out, all know; what is limited, is in their sum."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest

from tests.integration.worker_process import Crew, workers
from tests.support.backends import RESET, Backend, Request
from tests.support.balancing import until
from tests.support.client import Client
from tests.support.wire import response

if TYPE_CHECKING:
    from tests.support.figures import Measured


FINE = response(b"fine")
BAD = response(b"bad", status=503)
MOST_CONNECTIONS = 200


def served_by(client: Client, pids: list[int]) -> int:
    """Which of these processes has accepted a connection: the one whose descriptors have its socket."""
    port = client.writer.get_extra_info("sockname")[1]
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if int(row[2].rpartition(":")[2], 16) == port and row[9] != "0"}
    for pid in pids:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}") in inodes:
                    return pid
    return 0


@contextlib.asynccontextmanager
async def one_each(crew: Crew) -> AsyncIterator[dict[int, Client]]:
    """A connection to each worker, by its pid."""
    pids = crew.pids
    found: dict[int, Client] = {}
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            client = await stack.enter_async_context(await Client.connect(crew.port))
            assert (await client.ask(head("/", "nobody.test"))).status in (200, 401, 404, 503)
            found.setdefault(served_by(client, pids), client)
            if found.keys() >= set(pids):
                break
        assert found.keys() == set(pids), f"connections went to {[*found]} of {pids}"
        yield found


def routes(*backends: Backend, **route: Any) -> dict[str, Any]:
    """One route for a host; others are answered with 404."""
    return {"shop.test": {"backends": {each.name: each.address for each in backends}, **route}}


def head(path: str, host: str, *fields: str) -> bytes:
    """A GET."""
    return "\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "", "")).encode()


def ask(path: str = "/", *fields: str) -> bytes:
    return head(path, "shop.test", *fields)


def told(crew: Crew, kind: str) -> list[str]:
    """The lines that tell an event of a backend (`a of shop.test: breaker opened (why)`) or a route (`…: …: why`)."""
    return [line for line in crew.process.errors.splitlines() if f": {kind} (" in line or f": {kind}: " in line]


async def replaced(crew: Crew, pid: int) -> None:
    """Kill a worker, and wait for the one that takes its place."""
    started = len(crew.events("worker started"))
    crew.kill(pid)
    await crew.until(lambda: len(crew.events("worker started")) > started)


# the breaker


@pytest.mark.timed
@pytest.mark.parametrize("scope", ["backend", "route"])
async def test_what_opens_in_one_worker_is_left_alone_by_the_other(
    tmp_path: Path, scope: str, measured: Measured
) -> None:
    breaker = {"threshold": 3, "timeout": "1h", "scope": scope}
    async with Backend(BAD, name="a") as backend:
        options = {"routes": routes(backend, circuit_breaker=breaker)}
        async with workers(tmp_path, backend, **options) as crew, one_each(crew) as clients:
            one, other = clients.values()
            assert [(await one.ask(ask())).status for _ in range(3)] == [503] * 3
            begin = time.monotonic()
            answer = await other.ask(ask())
            while b"bad" in answer.body:
                await asyncio.sleep(0.002)
                answer = await other.ask(ask())
            seconds = time.monotonic() - begin
            assert b"breaker_open" in answer.body or "retry-after" in answer
            assert seconds < 0.1
            measured(f"a breaker of scope {scope} opens in one worker and the other stops", f"{seconds * 1000:.1f} ms")
            said = await crew.command("explain", "GET", "http://shop.test/", "--live")
            assert "open for" in said, "the control process knows it"
            await replaced(crew, next(iter(clients)))
            async with one_each(crew) as again:
                before = len(backend.requests)
                for client in again.values():
                    assert b"bad" not in (await client.ask(ask())).body
                assert len(backend.requests) == before, "a new worker was told"
            assert len(told(crew, "breaker opened")) == 1


class Probed:
    """A backend's script that fails at first, and later answers when it is told to; `most` were under way at once."""

    def __init__(self) -> None:
        self.well = False
        self.under_way = self.most = self.probes = 0
        self.go = asyncio.Event()

    async def __call__(self, seen: Request) -> None:
        if not self.well:
            seen.write(BAD)
            return
        self.under_way += 1
        self.probes += 1
        self.most = max(self.most, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        seen.write(FINE)


@pytest.mark.parametrize("scope", ["backend", "route"])
async def test_half_open_lets_one_probe_through_in_the_sum_of_the_workers(tmp_path: Path, scope: str) -> None:
    breaker = {"threshold": 3, "timeout": "300ms", "scope": scope, "passes": 3}
    script = Probed()
    async with Backend(script, name="a") as backend:
        options = {"routes": routes(backend, circuit_breaker=breaker)}
        async with workers(tmp_path, backend, **options) as crew, contextlib.AsyncExitStack() as stack:
            sets = [await stack.enter_async_context(one_each(crew)) for _ in range(3)]
            clients = [client for each in sets for client in each.values()]
            for _ in range(3):
                await clients[0].ask(ask())
            script.well = True
            await crew.until(lambda: told(crew, "breaker half open"))
            asking = [asyncio.create_task(client.ask(ask(), within=10)) for client in clients]
            await until(lambda: script.probes, within=5)
            await asyncio.sleep(0.1)
            assert (script.probes, script.under_way) == (1, 1)
            script.go.set()
            await asyncio.gather(*asking)
            for _ in range(3):  # of a route those that are no probes are refused, and come again
                for client in clients:
                    await client.ask(ask())
            await crew.until(lambda: told(crew, "breaker closed"))
            assert script.most == 1 or scope == "backend", "nobody else until it was closed"
            assert {(await client.ask(ask())).status for client in clients} == {200}
            for kind in ("breaker opened", "breaker half open", "breaker closed"):
                assert len(told(crew, kind)) == 1, kind


async def test_a_probe_that_fails_in_one_worker_opens_for_the_other(tmp_path: Path) -> None:
    breaker = {"threshold": 3, "timeout": "300ms"}
    async with Backend(BAD, name="a") as backend:
        options = {"routes": routes(backend, circuit_breaker=breaker)}
        async with workers(tmp_path, backend, **options) as crew, one_each(crew) as clients:
            one, other = clients.values()
            for _ in range(3):
                await one.ask(ask())
            await crew.until(lambda: told(crew, "breaker half open"))
            assert (await other.ask(ask())).body == b"bad"
            await asyncio.sleep(0.05)
            assert b"bad" not in (await one.ask(ask())).body
            assert len(backend.requests) == 4


async def test_failures_in_a_row_are_counted_over_both_workers(tmp_path: Path) -> None:
    async with Backend(BAD, name="a") as backend:
        options = {"routes": routes(backend, circuit_breaker={"threshold": 6, "timeout": "1h"})}
        async with workers(tmp_path, backend, **options) as crew, one_each(crew) as clients:
            for _ in range(6):
                for client in clients.values():
                    await client.ask(ask())
                    await asyncio.sleep(0.06)
            assert len(backend.requests) == 6
            assert len(told(crew, "breaker opened")) == 1


# the split


def split(**rollback: Any) -> dict[str, Any]:
    pools = [{"use": "self", "weight": 50}, {"use": "canary", "weight": 50}]
    return {"pools": pools, "rollback": rollback or "off"}


async def test_a_shift_reaches_every_worker_and_those_that_come_later(tmp_path: Path) -> None:
    async with Backend(name="a") as stable, Backend(name="b") as canary:
        options = {"routes": routes(stable, split=split()), "pools": {"canary": {"backends": [canary.address]}}}
        async with workers(tmp_path, stable, **options) as crew:
            async with one_each(crew) as clients:
                for client in clients.values():
                    found = Counter([(await client.ask(ask())).body for _ in range(10)])
                    assert found == {b"a": 5, b"b": 5}
                said = await crew.command("shift", "shop.test", "canary=100")
                assert said.splitlines()[1].startswith("canary 100 %: 10 requests, 0 failed"), "of both workers"
                for client in clients.values():
                    assert {(await client.ask(ask())).body for _ in range(10)} == {b"b"}
                await replaced(crew, next(iter(clients)))
            async with one_each(crew) as clients:
                for client in clients.values():
                    assert {(await client.ask(ask())).body for _ in range(4)} == {b"b"}
            said = await crew.command("shift", "shop.test")
            assert said.splitlines()[0].startswith("self 0 %: 10 requests"), "those of the killed one are kept"
            assert len(told(crew, "split shifted")) == 1


async def test_a_canary_is_rolled_back_on_what_all_workers_have_met(tmp_path: Path) -> None:
    async with Backend(name="a") as stable, Backend(response(b"bad", status=500), name="b") as canary:
        options = {
            "routes": routes(stable, split=split(min_requests=20)),
            "pools": {"canary": {"backends": [canary.address]}},
        }
        async with workers(tmp_path, stable, **options) as crew, one_each(crew) as clients:
            one, other = clients.values()
            for client in (one, other):
                assert not told(crew, "canary rolled back")
                for _ in range(22):
                    await client.ask(ask())
            await crew.until(lambda: told(crew, "canary rolled back"))
            before = len(canary.requests)
            assert before in (20, 21)
            for client in (one, other):
                assert {(await client.ask(ask())).body for _ in range(6)} == {b"a"}
            assert len(canary.requests) == before
            (line,) = told(crew, "canary rolled back")
            assert "failed 20 of 20 requests" in line
            said = await crew.command("shift", "shop.test")
            assert "rolled back" in said


# sessions


async def test_clients_keep_their_backend_in_every_worker_and_in_the_next(tmp_path: Path) -> None:
    async with Backend(name="a") as a, Backend(name="b") as b:
        sticky = {"secret_file": str(tmp_path / "data" / "sticky.key")}
        options = {"routes": routes(a, b, sticky_sessions=sticky)}
        async with workers(tmp_path, a, b, **options) as crew:
            owners: dict[str, bytes] = {}
            async with one_each(crew) as clients:
                for client in clients.values():
                    for _ in range(2):
                        answer = await client.ask(ask())
                        owners[answer["set-cookie"].decode().partition(";")[0]] = answer.body
                assert sorted(owners.values()) == [b"a", b"b"]
                for client in clients.values():
                    await keeps(client, owners)
                await replaced(crew, next(iter(clients)))
            async with one_each(crew) as clients:
                for client in clients.values():
                    await keeps(client, owners)
            assert os.listdir(tmp_path / "data") == ["sticky.key"]
            said = await crew.command("explain", "GET", "http://shop.test/", "--live")
            assert "4 clients given a backend" in said


async def keeps(client: Client, owners: dict[str, bytes]) -> None:
    for cookie, owner in owners.items():
        for _ in range(3):
            answer = await client.ask(ask("/", f"Cookie: {cookie}"))
            assert (answer.body, "set-cookie" in answer) == (owner, False)


# request ids


async def test_no_two_workers_give_the_same_request_id(tmp_path: Path) -> None:
    """Forked processes have the same random numbers ahead of them, unless somebody sees to it."""
    async with Backend(name="a") as backend:
        async with workers(tmp_path, backend, routes=routes(backend)) as crew:
            for _ in range(2):
                async with one_each(crew) as clients:
                    for client in clients.values():
                        for _ in range(20):
                            await client.ask(ask())
                await replaced(crew, crew.pids[0])
        ids = [message["x-request-id"] for message in backend.messages]
        assert len(ids) == len(set(ids)) == 80
        assert len({each[:28] for each in ids}) == 3, "each process that served has its own"


# filters


def users(password: str) -> str:
    return f"alice:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


async def test_a_password_that_was_changed_holds_in_every_worker(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(users("old"))
    old, new = "Authorization: Basic YWxpY2U6b2xk", "Authorization: Basic YWxpY2U6bmV3"
    async with Backend(name="a") as backend:
        options = {"routes": routes(backend, basic_auth={"file": str(file)})}
        async with workers(tmp_path, backend, **options) as crew, one_each(crew) as clients:
            for client in clients.values():
                assert [(await client.ask(ask("/", each))).status for each in (old, new)] == [200, 401]
            file.write_text(users("new"))
            for client in clients.values():
                await comes(client, ask("/", new), 200)
                assert (await client.ask(ask("/", old))).status == 401


async def comes(client: Client, data: bytes, status: int, *, within: float = 5.0) -> None:
    """Ask until the answer has this status."""
    end = time.monotonic() + within
    while (answer := await client.ask(data)).status != status:
        assert time.monotonic() < end, answer.start
        await asyncio.sleep(0.02)


# failover


async def test_all_workers_fail_over_and_return_and_it_is_told_once(tmp_path: Path) -> None:
    check = {"path": "/health", "interval": "50ms", "unhealthy_after": 1, "healthy_after": 1}
    failover = {"backup_domain": "spare.test", "return_after": "300ms"}
    async with Backend(name="a") as main, Backend(name="b") as spare:
        both = routes(main, health_check=check, failover=failover)
        both["spare.test"] = {"backends": [spare.address]}
        async with workers(tmp_path, main, routes=both) as crew, one_each(crew) as clients:
            for client in clients.values():
                assert (await client.ask(ask())).body == b"a"
            main.script = (RESET,)
            await crew.until(lambda: told(crew, "failover started"))
            for client in clients.values():
                assert (await client.ask(ask())).body == b"b"
            await replaced(crew, next(iter(clients)))
            async with one_each(crew) as again:
                for client in again.values():
                    assert (await client.ask(ask())).body == b"b"
                main.script = response(b"a")
                await crew.until(lambda: told(crew, "failover ended"))
                for client in again.values():
                    await serves(client, b"a", within=0.2)
            assert len(told(crew, "failover started")) == len(told(crew, "failover ended")) == 1


async def serves(client: Client, body: bytes, *, within: float) -> None:
    """Ask until this backend answers."""
    end = time.monotonic() + within
    while (await client.ask(ask())).body != body:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


# strategies


async def test_hashes_send_a_key_to_the_same_backend_from_every_worker(tmp_path: Path) -> None:
    async with Backend(name="a") as a, Backend(name="b") as b, Backend(name="c") as c:
        strategy = {"name": "consistent_hash", "on": "path", "bounded": False}
        options = {"routes": routes(a, b, c, strategy=strategy)}
        async with workers(tmp_path, a, b, c, **options) as crew, one_each(crew) as clients:
            for number in range(20):
                assert len({(await client.ask(ask(f"/{number}"))).body for client in clients.values()}) == 1


async def test_turns_of_two_workers_differ_by_one_for_each_of_them(tmp_path: Path) -> None:
    async with Backend(name="a") as a, Backend(name="b") as b, Backend(name="c") as c:
        options = {"routes": routes(a, b, c, strategy="round_robin")}
        async with workers(tmp_path, a, b, c, **options) as crew, one_each(crew) as clients:
            for client in clients.values():
                for _ in range(31):
                    await client.ask(ask())
            counts = [len(each.requests) for each in (a, b, c)]
            assert sum(counts) == 62
            assert max(counts) - min(counts) <= 2


async def test_a_new_worker_goes_on_with_the_slow_start_of_the_others(tmp_path: Path) -> None:
    """Of a backend that has just joined it makes neither a warm one nor one that begins anew."""
    async with Backend(name="a") as a, Backend(name="b") as b:
        route = {"strategy": "round_robin", "slow_start": {"duration": "1500ms", "from": "1%"}}
        async with workers(tmp_path, b, routes=routes(b, **route)) as crew:
            await asyncio.sleep(1.6)
            await crew.reload(routes=routes(a, b, **route))
            begin = time.monotonic()
            await asyncio.sleep(0.5)
            await replaced(crew, crew.pids[0])
            async with one_each(crew) as clients:
                for client in clients.values():
                    found = Counter([(await client.ask(ask())).body for _ in range(20)])
                    passed = time.monotonic() - begin
                    share = min(passed / 1.5, 1.0)
                    assert 20 * 0.3 / 1.3 - 2 <= found[b"a"] <= 20 * share / (1 + share) + 2
