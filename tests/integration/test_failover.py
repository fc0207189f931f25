"""Failover over real sockets: the backup serves while nobody else can, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lb_core.config import config_from_tree
from tests.integration.lb_process import BackendProcess, lb
from tests.support.backends import RESET, Backend, Request, Steps
from tests.support.balancing import Address, Running, balancing, until
from tests.support.load import Load
from tests.support.repository import ROOT
from tests.support.wire import request, response

if TYPE_CHECKING:
    from lb_core import Event

GET = request()
CHECK: dict[str, Any] = {
    "path": "/health",
    "interval": "50ms",
    "interval_down": "50ms",
    "timeout": "500ms",
    "unhealthy_after": 1,
    "healthy_after": 1,
}
BACK = "150ms"


def address(backend: Address) -> Any:
    return backend.address if isinstance(backend, Backend) else backend


def configuration(main: list[Address], backup: list[Address] | None = None, **options: Any) -> dict[str, Any]:
    """`example.com` with a failover to `backup.example.com`; `options` are sections of the first."""
    failover = {"backup_domain": "backup.example.com", "return_after": BACK, **options.pop("failover", {})}
    routes = {"example.com": {"backends": [address(each) for each in main], "failover": failover, **options}}
    if backup is not None:
        routes["backup.example.com"] = {"backends": [address(each) for each in backup]}
    return {"listeners": {"web": {"address": "127.0.0.1:0"}}, "access_log": False, "routes": routes}


def feature(balancer: Running, name: str = "failover", route: str = "example.com") -> Any:
    return dict(balancer.balancer.routes[route].parts)[name]


def maintain(balancer: Running, *, off: bool = False, route: str = "example.com") -> None:
    """Take all backends of a route out of service, or back."""
    pool = balancer.balancer.routes[route].pool
    for backend in pool.backends:
        pool.set_mode(backend, "active" if off else "maintenance")


def told(balancer: Running, kind: str) -> list[Event]:
    return [event for event in balancer.observer.events if event.kind == kind]


@asynccontextmanager
async def two_routes(**options: Any) -> AsyncIterator[tuple[Running, Backend, Backend]]:
    async with (
        Backend(name="main") as main,
        Backend(name="backup") as backup,
        balancing(config=configuration([main], [backup], **options)) as balancer,
    ):
        yield balancer, main, backup


async def test_the_backup_serves_while_no_backend_is_available_and_no_longer() -> None:
    async with two_routes() as (balancer, _, _):
        assert (await balancer.ask(GET)).body == b"main"
        maintain(balancer)
        answer = await balancer.ask(GET)
        assert (answer.status, answer.body) == (200, b"backup")
        assert balancer.last.flags == ("failover",)
        assert balancer.last.backend is not None
        assert balancer.last.backend.id == "backup.example.com/" + balancer.last.backend.name
        maintain(balancer, off=True)
        assert (await balancer.ask(GET)).body == b"backup", "not before return_after"
        await until(lambda: "failover_ended" in balancer.events, within=1)
        assert (await balancer.ask(GET)).body == b"main"
        assert balancer.last.flags == ()
        assert feature(balancer).count == 1


async def test_events_say_why_and_for_how_long() -> None:
    async with two_routes() as (balancer, _, _):
        assert "ready: backup.example.com would serve" in feature(balancer).describe()
        maintain(balancer)
        (started,) = told(balancer, "failover_started")
        assert str(started) == "failover_started: example.com: no backend is available, backup.example.com serves"
        assert started.details == {"backup": "backup.example.com"}
        assert "backup.example.com has served for 0s" in feature(balancer).describe()
        maintain(balancer, off=True)
        assert "back in" in feature(balancer).describe()
        await until(lambda: told(balancer, "failover_ended"), within=1)
        assert "the route's own backends serve again" in told(balancer, "failover_ended")[0].message


async def test_explain_says_where_a_request_would_go() -> None:
    async with two_routes() as (balancer, main, backup):
        ask = balancer.balancer.explain
        assert ask("GET", "http://example.com/").outcome == f"sent to {main.address}"
        maintain(balancer)
        explained = ask("GET", "http://example.com/")
        assert dict(explained.states)["failover"] == ("backup.example.com has served for 0s",)
        assert explained.outcome == f"sent to {backup.address}, failover to backup.example.com"
        maintain(balancer, route="backup.example.com")
        assert ask("GET", "http://example.com/").outcome == "answered with 503 (no_backend)"


@pytest.mark.parametrize(("rewrite", "host"), [(False, b"example.com"), (True, b"backup.example.com")])
async def test_host_stays_as_the_client_sent_it_or_becomes_the_backup_s(rewrite: bool, host: bytes) -> None:
    async with two_routes(failover={"rewrite_host": rewrite}) as (balancer, main, backup):
        maintain(balancer)
        for data in (GET, request("/", b"a body"), request("/", b"x" * 100_000)):
            assert (await balancer.ask(data)).status == 200
        assert [message["host"] for message in backup.messages] == [host] * 3
        assert [message.body for message in backup.messages] == [b"", b"a body", b"x" * 100_000]
        assert {message["x-forwarded-host"] for message in backup.messages} == {b"example.com"}
        maintain(balancer, off=True)
        await until(lambda: "failover_ended" in balancer.events, within=1)
        await balancer.ask(GET)
        assert main.messages[-1]["host"] == b"example.com"


@pytest.mark.parametrize("header", ["preserve", "backend"])
async def test_a_client_that_names_no_host_is_served_by_the_backup_too(header: str) -> None:
    old = b"GET / HTTP/1.0\r\n\r\n"
    async with Backend(name="main") as main, Backend(name="backup") as backup:
        config = configuration(
            [main], [backup], failover={"rewrite_host": True, "return_after": "1h"}, host_header=header
        )
        config["routes"]["*"] = {**config["routes"].pop("example.com")}
        async with balancing(config=config) as balancer:
            maintain(balancer, route="*")
            assert (await balancer.ask(old)).body == b"backup"
            assert backup.messages[0].all("host") == [b"backup.example.com"]
            maintain(balancer, route="*", off=True)
            backup.script = (RESET,)
            assert (await balancer.ask(old)).status == 502
            maintain(balancer, route="backup.example.com")
            assert (await balancer.ask(old)).body == b"main"
            assert main.messages[0].all("host") == [main.address.encode()]


async def test_a_request_that_loses_the_backup_goes_back_as_it_came() -> None:
    async with Backend(name="main") as main, Backend(name="backup") as backup:
        lost = {"threshold": 1, "timeout": "1h"}
        for header, host in (("preserve", b"example.com"), ("backend", main.address.encode())):
            config = configuration(
                [main], [backup], failover={"rewrite_host": True, "return_after": "1h"}, host_header=header
            )
            config["routes"]["backup.example.com"]["circuit_breaker"] = lost
            async with balancing(config=config) as balancer:
                maintain(balancer)
                maintain(balancer, off=True)

                def lose(seen: Request, balancer: Running = balancer) -> Steps:
                    maintain(balancer, route="backup.example.com")
                    return (RESET,)

                backup.script = lose
                answer = await balancer.ask(GET)
                assert (answer.status, answer.body) == (200, b"main")
                assert backup.messages[-1]["host"] == b"backup.example.com"
                assert main.messages[-1].all("host") == [host]
                assert balancer.last.flags == ("failover", "retried")


async def test_the_way_back_waits_for_a_time_without_a_break() -> None:
    async with two_routes(failover={"return_after": "200ms"}) as (balancer, main, _):
        maintain(balancer)
        for _ in range(4):  # up for less than the time, again and again
            maintain(balancer, off=True)
            await asyncio.sleep(0.08)
            assert (await balancer.ask(GET)).body == b"backup"
            maintain(balancer)
        assert not main.requests
        assert balancer.events.count("failover_started") == 1
        maintain(balancer, off=True)
        begin = asyncio.get_running_loop().time()
        await until(lambda: "failover_ended" in balancer.events, within=1)
        assert asyncio.get_running_loop().time() - begin > 0.15


async def test_when_the_backup_has_nobody_either_the_answer_is_the_primary_s_503() -> None:
    async with two_routes() as (balancer, _, _):
        maintain(balancer)
        maintain(balancer, route="backup.example.com")
        answer = await balancer.ask(GET)
        assert (answer.status, answer["retry-after"]) == (503, b"5")
        assert balancer.last.flags == ("no_backend",)
        maintain(balancer, route="backup.example.com", off=True)
        assert (await balancer.ask(GET)).body == b"backup"


async def test_the_primary_serves_before_its_time_when_the_backup_is_lost() -> None:
    async with two_routes(failover={"return_after": "1h", "rewrite_host": True}) as (balancer, main, _):
        maintain(balancer)
        maintain(balancer, off=True)
        maintain(balancer, route="backup.example.com")
        assert (await balancer.ask(GET)).body == b"main"
        assert main.messages[-1]["host"] == b"example.com"


async def test_backup_backends_of_the_pool_come_before_the_failover() -> None:
    async with Backend(name="main") as main, Backend(name="spare") as spare, Backend(name="other") as other:
        backends: list[Any] = [main, {"name": "spare", "url": spare.address, "backup": True}]
        async with balancing(config=configuration(backends, [other])) as balancer:
            pool = balancer.balancer.routes["example.com"].pool
            assert {(await balancer.ask(GET)).body for _ in range(4)} == {b"main"}
            pool.set_mode(pool.find(main.address), "maintenance")
            assert (await balancer.ask(GET)).body == b"spare"
            assert "failover_started" not in balancer.events
            maintain(balancer)
            assert (await balancer.ask(GET)).body == b"other"


async def test_ejected_backends_serve_before_the_backup_does() -> None:
    """Only ejected: fail open."""
    async with two_routes() as (balancer, _, _):
        pool = balancer.balancer.routes["example.com"].pool
        pool.eject(pool.backends[0], "failed too often")
        assert (await balancer.ask(GET)).body == b"main"
        assert "failover_started" not in balancer.events


async def test_chains_lead_to_whoever_serves() -> None:
    async with Backend(name="a") as a, Backend(name="b") as b, Backend(name="c") as c:
        config = configuration([a], [b])
        config["routes"]["backup.example.com"]["failover"] = {"backup_domain": "last.example.com", "return_after": BACK}
        config["routes"]["last.example.com"] = {"backends": [c.address]}
        async with balancing(config=config) as balancer:
            assert (await balancer.ask(GET)).body == b"a"
            maintain(balancer)
            assert (await balancer.ask(GET)).body == b"b"
            maintain(balancer, route="backup.example.com")
            assert (await balancer.ask(GET)).body == b"c"
            assert (await balancer.ask(request(host="backup.example.com"))).body == b"c"
            maintain(balancer, route="last.example.com")
            assert (await balancer.ask(GET)).status == 503
            maintain(balancer, route="last.example.com", off=True)
            maintain(balancer, route="backup.example.com", off=True)
            await until(lambda: "failover_ended" in balancer.events, within=1)
            assert (await balancer.ask(GET)).body == b"b"


def test_loops_are_refused_with_the_loop_spelled_out(tmp_path: Path) -> None:
    path = tmp_path / "lb.yaml"
    path.write_text(
        "routes:\n"
        "  a.example.com: {backends: ['127.0.0.1:9001'], failover: b.example.com}\n"
        "  b.example.com:\n"
        "    backends: ['127.0.0.1:9002']\n"
        "    failover:\n"
        "      backup_domain: a.example.com\n"
        "  c.example.com: {backends: ['127.0.0.1:9003'], failover: a.exmple.com}\n"
        "  d.example.com: {backends: ['127.0.0.1:9003'], failover: d.example.com}\n"
    )
    with lb("check", str(path)) as check:
        assert check.wait() == 3
        said = check.errors + "".join(check.output)
    assert "lb.yaml:2" in said
    assert "a.example.com -> b.example.com -> a.example.com" in said
    assert "lb.yaml:7" in said
    assert 'there is no route "a.exmple.com"' in said
    assert "did you mean a.example.com?" in said
    assert "d.example.com -> d.example.com" in said


# health


def by_path(name: str, status: int) -> Any:
    def script(seen: Request) -> bytes:
        return response(b"", status=status) if seen.message.target == b"/health" else response(name.encode())

    return script


async def test_backends_that_are_down_by_their_checks_are_replaced_and_come_back() -> None:
    async with (
        Backend(by_path("main", 200)) as main,
        Backend(name="backup") as backup,
        balancing(config=configuration([main], [backup], health_check=CHECK)) as balancer,
    ):
        assert (await balancer.ask(GET)).body == b"main"
        main.script = by_path("main", 500)
        await until(lambda: "failover_started" in balancer.events)
        assert (await balancer.ask(GET)).body == b"backup"
        main.script = by_path("main", 200)
        await until(lambda: "failover_ended" in balancer.events)
        assert (await balancer.ask(GET)).body == b"main"


async def test_at_start_the_first_check_is_waited_for_and_not_longer() -> None:
    async def slowly(seen: Request) -> None:
        if seen.message.target == b"/health":
            await asyncio.sleep(0.2)
        seen.write(response(b"main"))

    async with Backend(slowly) as main, Backend(name="backup") as backup:
        async with balancing(config=configuration([main], [backup], health_check=CHECK)) as balancer:
            assert (await balancer.ask(GET)).body == b"main"
            assert "failover_started" not in balancer.events
        main.script = (0.2, response(b"", status=503))
        async with balancing(config=configuration([main], [backup], health_check=CHECK)) as balancer:
            answer = await balancer.ask(GET)
            assert (answer.status, answer.body) == (200, b"backup")
            assert balancer.last.duration > 0.1, "it waited for the check"


async def test_the_check_of_the_section_is_the_backup_s_where_that_has_none() -> None:
    async with Backend(name="main") as main, Backend(by_path("backup", 200)) as backup:
        config = configuration([main], [backup], failover={"health_check": "/health"})
        async with balancing(config=config) as balancer:
            await until(lambda: backup.messages)
            assert backup.messages[0].target == b"/health"
            assert not main.messages
            maintain(balancer)
            assert (await balancer.ask(GET)).body == b"backup"
        config["routes"]["backup.example.com"]["health_check"] = "/ready"
        backup.requests.clear()
        async with balancing(config=config):
            await until(lambda: backup.messages)
            assert backup.messages[0].target == b"/ready"


# under load


async def test_all_primaries_killed_under_load_lose_no_get() -> None:
    """Refused connections open the breaker at the first failure, and the request goes on to the backup."""
    primaries = [BackendProcess("one"), BackendProcess("two")]
    backup = BackendProcess("backup")
    try:
        config = configuration(
            [each.address for each in primaries],
            [backup.address],
            retry={"attempts": 3, "budget": "100%"},
            circuit_breaker={"threshold": 1, "timeout": "200ms"},
        )
        async with balancing(config=config) as balancer:
            load = Load(balancer.port, connections=16)
            loading = asyncio.create_task(load.run())
            await until(lambda: load.total > 300, within=5)
            for each in primaries:
                each.process.kill()
            await until(lambda: "failover_started" in balancer.events)
            before = load.total
            await until(lambda: load.total > before + 500, within=5)
            await asyncio.sleep(0.5)  # two rounds of probes that fail
            load.stop()
            await loading
            assert load.lost == []
            failed = [(each.flags, each.attempts, each.error) for each in balancer.completed if each.status != 200]
            assert (failed, load.answers.keys()) == ([], {200})
            assert balancer.events.count("failover_started") == 1
            assert load.by[b"backup"] > 500
    finally:
        for process in (*primaries, backup):
            process.close()


async def test_a_flapping_primary_makes_no_failover_flap() -> None:
    async with Backend(by_path("main", 200), name="main") as main, Backend(name="backup") as backup:
        config = configuration(
            [main], [backup], health_check=CHECK, retry={"attempts": 2}, failover={"return_after": "400ms"}
        )
        async with balancing(config=config) as balancer:
            await until(lambda: "backend_up" in balancer.events)
            for _ in range(5):
                main.script = by_path("main", 500)
                await until(lambda: balancer.balancer.routes["example.com"].pool.candidates == ())
                assert (await balancer.ask(GET)).body == b"backup"
                main.script = by_path("main", 200)
                await until(lambda: balancer.balancer.routes["example.com"].pool.candidates != ())
                assert (await balancer.ask(GET)).body == b"backup"
            assert balancer.events.count("failover_started") == 1
            assert "failover_ended" not in balancer.events


async def test_requests_that_wait_for_room_go_to_the_backup_when_everybody_is_gone() -> None:
    gate = asyncio.Event()

    async def hold(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"main"))

    async with Backend(hold) as main, Backend(name="backup") as backup:
        only = {"url": main.address, "max_connections": 1}
        async with balancing(config=configuration([only], [backup])) as balancer:
            first = asyncio.create_task(balancer.ask(GET))
            await until(lambda: main.requests)
            waiting = [asyncio.create_task(balancer.ask(GET)) for _ in range(3)]
            await until(lambda: balancer.balancer.routes["example.com"].queued == 3)
            maintain(balancer)
            assert [(await each).body for each in waiting] == [b"backup"] * 3
            gate.set()
            assert (await first).body == b"main"
            assert balancer.balancer.routes["example.com"].queued == 0


# reloads


async def test_a_reload_keeps_the_failover_and_the_counter() -> None:
    async with two_routes() as (balancer, main, backup):
        maintain(balancer)
        before = feature(balancer)
        changed = configuration([main], [backup], timeouts={"connect": "1s"}, failover={"return_after": "100ms"})
        balancer.balancer.apply(config_from_tree(changed, balancer.balancer.plugins))
        assert feature(balancer) is not before
        assert (await balancer.ask(GET)).body == b"backup"
        assert (feature(balancer).count, balancer.events.count("failover_started")) == (1, 1)
        maintain(balancer, off=True)
        await until(lambda: "failover_ended" in balancer.events, within=1)
        assert (await balancer.ask(GET)).body == b"main"


async def test_a_removed_section_leaves_the_route_to_itself() -> None:
    async with two_routes() as (balancer, main, backup):
        maintain(balancer)
        before = feature(balancer)
        changed = configuration([main], [backup])
        del changed["routes"]["example.com"]["failover"]
        balancer.balancer.apply(config_from_tree(changed, balancer.balancer.plugins))
        assert (await balancer.ask(GET)).status == 503
        pool = balancer.balancer.routes["example.com"].pool
        assert before.look not in pool.on_change
        maintain(balancer, off=True)
        assert (await balancer.ask(GET)).body == b"main"
        assert "failover_ended" not in balancer.events


@pytest.mark.parametrize("name", ["example.com", "api.example.com"])
async def test_the_example_fails_over_as_it_says(name: str) -> None:
    tree = yaml.safe_load((ROOT / "examples/config/failover.yaml").read_text())
    async with Backend(name="main") as main, Backend(name="backup") as backup:
        for route, section in tree["routes"].items():
            section["backends"] = [(backup if route == "backup.example.com" else main).address]
        config = {**tree, "listeners": {"web": {"address": "127.0.0.1:0"}}, "access_log": False}
        async with balancing(config=config) as balancer:
            maintain(balancer, route=name)
            assert (await balancer.ask(request(host=name))).body == b"backup"
            assert {message.target for message in backup.messages} == {b"/", b"/health"}
