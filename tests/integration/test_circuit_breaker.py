"""The circuit breaker over real sockets: who is left alone, who is tried, and what clients see meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.config import config_from_tree
from tests.support.backends import RESET, Backend, Request, Steps, refusing
from tests.support.balancing import Address, Running, balancing, tree, until
from tests.support.load import Load
from tests.support.wire import request, response

if TYPE_CHECKING:
    from lb_core import Event
    from tests.support.figures import Measured

GET = request()
BAD = response(b"", status=503)
QUICK = {"threshold": 3, "timeout": "200ms"}
ROUTE = {**QUICK, "scope": "route"}


def breaker(balancer: Running, route: str = "*") -> Any:
    return dict(balancer.balancer.routes[route].parts)["circuit_breaker"]


def state(balancer: Running, name: str) -> str:
    return balancer.balancer.routes["*"].pool.find(name).state


def told(balancer: Running) -> list[Event]:
    return [event for event in balancer.observer.events if event.kind.startswith("breaker_")]


def kinds(balancer: Running) -> list[str]:
    return [event.kind.removeprefix("breaker_") for event in told(balancer)]


async def ask(balancer: Running, count: int) -> Counter[int]:
    return Counter([(await balancer.ask(GET)).status for _ in range(count)])


# scope backend


@pytest.mark.parametrize("failure", [(RESET,), (BAD,), (b"nonsense\r\n\r\n",)], ids=["reset", "503", "no HTTP"])
async def test_failures_in_a_row_open_it_and_the_next_candidate_serves(failure: Steps) -> None:
    bad, good = Backend(failure, name="bad"), Backend(name="good")
    async with balancing(bad, good, circuit_breaker={"threshold": 5, "timeout": "1h"}) as balancer:
        await ask(balancer, 20)
        assert len(bad.requests) == 5
        assert state(balancer, "bad") == "ejected"
        assert breaker(balancer).states() == {"bad": 2, "good": 0}
        assert "ejection" not in balancer.balancer.routes["*"].plugins, "the breaker takes its place"
        assert await ask(balancer, 10) == {200: 10}


async def test_successes_between_failures_keep_it_closed() -> None:
    count = 0

    def every_third_works(_: Request) -> Steps:
        nonlocal count
        count += 1
        return (response(b"ok"),) if count % 3 == 0 else (BAD,)

    async with balancing(Backend(every_third_works), circuit_breaker=QUICK) as balancer:
        assert await ask(balancer, 15) == {200: 5, 503: 10}
        assert told(balancer) == []


async def test_a_500_counts_only_where_it_is_asked_for() -> None:
    broken = response(b"", status=500)
    async with balancing(Backend(broken), circuit_breaker=QUICK) as balancer:
        await ask(balancer, 6)
        assert told(balancer) == []
    async with balancing(Backend(broken), circuit_breaker={**QUICK, "statuses": [500]}) as balancer:
        assert await ask(balancer, 6) == {500: 3, 503: 3}


async def test_kept_connections_closed_while_idle_are_no_failures() -> None:
    backend = Backend(response(b"ok"))
    async with balancing(backend, circuit_breaker={"threshold": 1}) as balancer:
        for _ in range(4):
            assert (await balancer.ask(GET)).status == 200
            backend.close_connections()
        assert told(balancer) == []


async def test_open_with_nobody_left_answers_503_with_the_seconds_until_it_is_tried_again() -> None:
    with refusing() as nobody:
        async with balancing(nobody, circuit_breaker={"threshold": 3, "timeout": "40s"}) as balancer:
            await ask(balancer, 3)
            answer = await balancer.ask(request("/", b"", "Accept: application/json"))
            assert answer.status == 503
            assert 38 <= int(answer["retry-after"]) <= 40
            assert b'"breaker_open"' in answer.body
            assert balancer.last.flags == ("breaker_open",)


async def test_retried_is_said_of_a_second_attempt_only() -> None:
    with refusing() as nobody:
        async with balancing(nobody, circuit_breaker={"threshold": 1, "timeout": "40s"}) as balancer:
            assert (await balancer.ask(GET)).status == 503
            assert (balancer.last.attempts, balancer.last.flags) == (1, ("breaker_open",))


async def test_half_open_lets_one_probe_through_under_fifty_clients_and_two_passes_close_it() -> None:
    passes = [asyncio.Event(), asyncio.Event()]
    probes = 0

    async def probed(seen: Request) -> None:
        nonlocal probes
        probes += 1
        if probes <= 2:
            await passes[probes - 1].wait()
        seen.write(response(b"ok"))

    backend = Backend((BAD,))
    async with balancing(backend, circuit_breaker=QUICK) as balancer:
        await ask(balancer, 3)
        assert kinds(balancer) == ["opened"]
        backend.script = probed
        await until(lambda: "breaker_half_open" in balancer.events)
        asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(50)]
        await until(lambda: balancer.balancer.routes["*"].queued == 49)
        assert (probes, balancer.in_flight()["*/backend0"]) == (1, 1)
        passes[0].set()
        await until(lambda: probes == 2)
        await asyncio.sleep(0.02)
        assert (probes, balancer.in_flight()["*/backend0"]) == (2, 1), "one pass is not enough"
        passes[1].set()
        answers = [await each for each in asking]
        assert [answer.status for answer in answers] == [200] * 50, "who waits is served once it is closed"
        assert kinds(balancer) == ["opened", "half_open", "closed"]
        assert breaker(balancer).states() == {"backend0": 0}
        pool = balancer.balancer.routes["*"].pool
        assert pool.backends[0].limit == pool.backends[0].max_connections


async def test_a_probe_that_fails_opens_it_again() -> None:
    bad, good = Backend((BAD,), name="bad"), Backend(name="good")
    async with balancing(bad, good, circuit_breaker=QUICK) as balancer:
        await ask(balancer, 8)
        assert len(bad.requests) == 3
        await until(lambda: "breaker_half_open" in balancer.events)
        assert breaker(balancer).states()["bad"] == 1
        await ask(balancer, 8)
        assert len(bad.requests) == 4
        assert kinds(balancer) == ["opened", "half_open", "opened"]
        assert breaker(balancer).opened == 2
        bad.script = response(b"well again")
        await until(lambda: kinds(balancer).count("half_open") == 2)
        await ask(balancer, 8)
        assert kinds(balancer)[-1] == "closed"


async def test_a_hanging_probe_keeps_nobody_from_the_others() -> None:
    gate = asyncio.Event()

    async def hang(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"late"))

    bad, good = Backend((BAD,), name="bad"), Backend(name="good")
    async with balancing(bad, good, circuit_breaker=QUICK) as balancer:
        await ask(balancer, 8)
        bad.script = hang
        await until(lambda: "breaker_half_open" in balancer.events)
        asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(40)]
        await until(lambda: sum(each.done() for each in asking) == 39)
        assert balancer.in_flight()["*/bad"] == 1
        gate.set()
        assert {(await each).status for each in asking} == {200}


async def test_backup_backends_serve_beside_a_half_open_primary() -> None:
    gate = asyncio.Event()

    async def hang(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"late"))

    async with Backend((BAD,), name="main") as main, Backend(name="spare") as spare:
        backends: dict[str, Address] = {"main": main, "spare": {"url": spare.address, "backup": True}}
        async with balancing(config=tree(backends, circuit_breaker=QUICK)) as balancer:
            await ask(balancer, 3)
            assert (await balancer.ask(GET)).body == b"spare"
            main.script = hang
            await until(lambda: "breaker_half_open" in balancer.events)
            asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(20)]
            await until(lambda: sum(each.done() for each in asking) == 19)
            gate.set()
            assert Counter([(await each).body for each in asking]) == {b"spare": 19, b"late": 1}


async def test_a_ratio_of_errors_opens_it_once_there_are_enough_requests() -> None:
    count = 0

    def every_other_works(_: Request) -> Steps:
        nonlocal count
        count += 1
        return (response(b"ok"),) if count % 2 else (BAD,)

    ratio = {"error_ratio": 0.5, "min_requests": 20, "timeout": "1h"}
    async with balancing(Backend(every_other_works), circuit_breaker=ratio) as balancer:
        assert await ask(balancer, 30) == {200: 10, 503: 20}
        assert count == 20
        assert told(balancer)[0].details["reason"] == "10 of 20 requests failed within 10s, the last: status 503"


async def test_slow_calls_open_it() -> None:
    slow = {"slow_call": "50ms", "slow_ratio": "60%", "min_requests": 10, "timeout": "200ms"}
    backend = Backend((0.08, response(b"slow")))
    async with balancing(backend, circuit_breaker=slow) as balancer:
        answers = await asyncio.gather(*[balancer.ask(GET) for _ in range(10)])
        assert {answer.status for answer in answers} == {200}
        assert told(balancer)[0].details["reason"] == "10 of 10 requests took longer than 0.05s within 10s"
        assert (await balancer.ask(GET)).status == 503
        await until(lambda: "breaker_half_open" in balancer.events)
        await balancer.ask(GET)
        assert kinds(balancer) == ["opened", "half_open", "opened"], "a slow probe is no pass"
        backend.script = response(b"fast")
        await until(lambda: kinds(balancer).count("half_open") == 2)
        await ask(balancer, 2)
        assert kinds(balancer)[-1] == "closed"


async def test_a_slow_upload_and_a_queue_are_not_the_backend_s_slowness() -> None:
    slow = {"slow_call": "50ms", "slow_ratio": "10%", "min_requests": 1, "timeout": "1h"}
    async with Backend(response(b"ok")) as backend:
        only = {"url": backend.address, "max_connections": 1}
        async with balancing(only, circuit_breaker=slow) as balancer:
            async with await balancer.client() as client:
                head = b"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\n\r\n"
                await client.send(head, b"ab", 0.15, b"cd")
                assert (await client.answer(b"POST")).status == 200
            assert told(balancer) == []
            backend.script = (0.03, response(b"ok"))
            answers = await asyncio.gather(*[balancer.ask(GET) for _ in range(5)])
            assert {answer.status for answer in answers} == {200}
            assert max(exchange.duration for exchange in balancer.completed[1:]) > 0.1, "the last waited for four"
            assert told(balancer) == []


async def test_a_backend_that_fails_in_a_millisecond_takes_under_one_percent(measured: Measured) -> None:
    async def steadily(seen: Request) -> None:
        await asyncio.sleep(0.01)
        seen.write(response(b"ok", "X-Backend: good"))

    backends = [Backend(response(b"", "X-Backend: bad", status=503), name="bad")]
    backends += [Backend(steadily, name=f"good{n}") for n in range(3)]
    async with balancing(*backends, circuit_breaker={"threshold": 5, "timeout": "300ms"}) as balancer:
        load = Load(balancer.port, connections=24, count=1800)
        await load.run()
        assert load.lost == []
        share = load.answers[503] / load.total
        measured("a backend that fails at once, behind a breaker of 5/300ms", f"{share:.2%} of {load.total} requests")
        assert share < 0.01
        assert load.answers[503] == len(backends[0].requests)


async def test_a_flapping_backend_costs_a_few_requests_each_time() -> None:
    flapping, steady = Backend(name="flapping"), Backend((0.002, response(b"", "X-Backend: steady")), name="steady")
    async with balancing(flapping, steady, circuit_breaker={"threshold": 3, "timeout": "60ms"}) as balancer:
        load = Load(balancer.port, connections=8)
        loading = asyncio.create_task(load.run())
        for _ in range(4):
            flapping.script = BAD
            await asyncio.sleep(0.1)
            flapping.script = response(b"", "X-Backend: flapping")
            await asyncio.sleep(0.1)
        load.stop()
        await loading
        assert load.lost == []
        assert load.answers.keys() == {200, 503}
        opened = kinds(balancer).count("opened")
        assert load.answers[503] <= 4 * (3 + 8) + opened
        assert load.by[b"flapping"] > 50, "it serves in between"


# events, explain, reloads


async def test_events_name_the_backend_and_the_reason_and_describe_says_the_same() -> None:
    bad, good = Backend((BAD,), name="bad"), Backend(name="good")
    async with balancing(bad, good, circuit_breaker={"threshold": 3, "timeout": "200ms"}) as balancer:
        assert breaker(balancer).describe() == ["every circuit is closed"]
        await ask(balancer, 2)
        assert breaker(balancer).describe() == ["bad: closed, 1 of 3 failures"]
        await ask(balancer, 8)
        (event,) = told(balancer)
        assert (event.route, event.backend) == ("*", "bad")
        assert event.message == "3 failures in a row, the last: status 503; tried again in 0.2s"
        assert event.details == {"scope": "backend", "reason": "3 failures in a row, the last: status 503"}
        (line,) = breaker(balancer).describe()
        assert line.startswith("bad: open for 0s: 3 failures in a row, the last: status 503; tried again in")
        explained = balancer.balancer.explain("GET", "http://example.com/")
        assert dict(explained.states)["circuit_breaker"][0].startswith("bad: open for 0s: 3 failures in a row")
        found = {each.name: each for each in explained.backends}
        assert (found["bad"].state, found["bad"].candidate) == ("ejected", False)
        assert found["bad"].reason == "breaker open: 3 failures in a row, the last: status 503"
        await until(lambda: "breaker_half_open" in balancer.events)
        (line,) = breaker(balancer).describe()
        assert line.startswith("bad: half open: 0 of 2 probes passed")


@asynccontextmanager
async def opened(**section: Any) -> AsyncIterator[tuple[Running, dict[str, Any], Backend]]:
    """A balancer whose one backend's circuit is open, and its configuration."""
    async with Backend((BAD,), name="bad") as bad, Backend(name="good") as good:
        config = tree([bad, good], circuit_breaker={"threshold": 3, "timeout": "300ms", **section})
        async with balancing(config=config) as balancer:
            await ask(balancer, 8)
            assert kinds(balancer) == ["opened"]
            yield balancer, config, bad


def reload(balancer: Running, config: dict[str, Any]) -> None:
    balancer.balancer.apply(config_from_tree(config, balancer.balancer.plugins))


@pytest.mark.parametrize("scope", ["backend", "route"])
async def test_a_reload_keeps_the_state(scope: str) -> None:
    threshold = {"threshold": 1} if scope == "route" else {}
    async with opened(scope=scope, **threshold) as (balancer, config, _):
        before = breaker(balancer)
        config["routes"]["*"]["timeouts"] = {"connect": "1s"}
        reload(balancer, config)
        assert breaker(balancer) is not before
        assert 2 in breaker(balancer).states().values()
        assert kinds(balancer) == ["opened"]
        await until(lambda: "breaker_half_open" in balancer.events, within=1)


@pytest.mark.parametrize("scope", ["backend", "route"])
async def test_a_removed_section_gives_everything_back(scope: str) -> None:
    threshold = {"threshold": 1} if scope == "route" else {}
    async with opened(scope=scope, **threshold) as (balancer, config, bad):
        del config["routes"]["*"]["circuit_breaker"]
        reload(balancer, config)
        assert state(balancer, "bad") == "up"
        route = balancer.balancer.routes["*"]
        assert (route.gate, route.serving) == (None, route.pool)
        seen = len(bad.requests)
        await ask(balancer, 4)
        assert len(bad.requests) == seen + 2
        await asyncio.sleep(0.35)
        assert kinds(balancer) == ["opened"], "its timer is gone"


async def test_routes_that_share_a_pool_share_its_circuits() -> None:
    bad, good = Backend((BAD,), name="bad"), Backend(name="good")
    match = [{"path_prefix": "/a"}, {"path_prefix": "/b", "timeouts": {"connect": "1s"}}]
    async with balancing(bad, good, match=match, circuit_breaker={"threshold": 6, "timeout": "200ms"}) as balancer:
        for _ in range(6):
            for path in ("/a", "/b", "/"):
                await balancer.ask(request(path))
        assert len(bad.requests) == 6, "counted together"
        bad.script = response(b"ok")
        await until(lambda: "breaker_half_open" in balancer.events)
        for path in ("/a", "/b") * 3:
            await balancer.ask(request(path))
        assert kinds(balancer) == ["opened", "half_open", "closed"]


# scope route


async def test_scope_route_closes_the_whole_route_and_leaves_the_pool_to_others() -> None:
    backend = Backend((BAD,))
    async with balancing(
        backend,
        circuit_breaker={**ROUTE, "timeout": "30s"},
        match=[{"path_prefix": "/other", "circuit_breaker": False}],
    ) as balancer:
        assert await ask(balancer, 3) == {503: 3}
        seen = len(backend.requests)
        answer = await balancer.ask(GET)
        assert answer.status == 503
        assert 28 <= int(answer["retry-after"]) <= 30
        assert balancer.last.flags == ("breaker_open",)
        assert len(backend.requests) == seen
        backend.script = response(b"ok")
        assert (await balancer.ask(request("/other"))).body == b"ok"
        assert "ejection" in balancer.balancer.routes["*"].plugins
        assert breaker(balancer).states() == {"": 2}
        assert breaker(balancer).describe().startswith("open for 0s: 3 failures in a row")
        assert balancer.balancer.explain("GET", "http://x/").outcome == "answered with 503 (breaker_open)"


async def test_scope_route_lets_one_probe_through_at_a_time() -> None:
    gate = asyncio.Event()

    async def hold(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"ok"))

    backend = Backend((BAD,))
    async with balancing(backend, circuit_breaker=ROUTE) as balancer:
        await ask(balancer, 3)
        backend.script = hold
        await until(lambda: "breaker_half_open" in balancer.events)
        asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(50)]
        await until(lambda: sum(each.done() for each in asking) == 49)
        assert len(backend.requests) == 4
        gate.set()
        answers = [await each for each in asking]
        assert Counter(answer.status for answer in answers) == {200: 1, 503: 49}
        assert {answer["retry-after"] for answer in answers if answer.status == 503} == {b"1"}
        assert (await balancer.ask(GET)).status == 200
        assert kinds(balancer) == ["opened", "half_open", "closed"]
        assert await ask(balancer, 4) == {200: 4}


async def test_requests_that_wait_for_room_are_let_go_when_the_route_s_breaker_opens() -> None:
    gate = asyncio.Event()

    async def fail(seen: Request) -> None:
        await gate.wait()
        seen.write(BAD)

    async with Backend(fail) as backend:
        only = {"url": backend.address, "max_connections": 1}
        section = {"scope": "route", "threshold": 1, "timeout": "30s"}
        async with balancing(only, circuit_breaker=section) as balancer:
            asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(4)]
            await until(lambda: balancer.balancer.routes["*"].queued == 3)
            gate.set()
            answers = [await each for each in asking]
            assert [answer.status for answer in answers] == [503] * 4
            assert len(backend.requests) == 1
            assert sorted(answer.all("retry-after") for answer in answers) == [[], [b"30"], [b"30"], [b"30"]]
            assert balancer.balancer.routes["*"].queued == 0


async def test_scope_route_counts_a_probe_that_fails() -> None:
    backend = Backend((BAD,))
    async with balancing(backend, circuit_breaker=ROUTE) as balancer:
        await ask(balancer, 3)
        await until(lambda: "breaker_half_open" in balancer.events)
        await ask(balancer, 3)
        assert len(backend.requests) == 4
        assert kinds(balancer) == ["opened", "half_open", "opened"]
        assert breaker(balancer).opened == 2


# with a failover


def with_failover(main: Backend, backup: Backend, **section: Any) -> dict[str, Any]:
    config = tree(
        [main], circuit_breaker=section, failover={"backup_domain": "backup.example", "return_after": "100ms"}
    )
    config["routes"]["backup.example"] = {"backends": [backup.address]}
    return config


@pytest.mark.parametrize("scope", ["backend", "route"])
async def test_open_means_failover_and_closed_means_the_way_back(scope: str) -> None:
    async with Backend((BAD,)) as main, Backend(name="backup") as backup:
        config = with_failover(main, backup, **QUICK, scope=scope)
        async with balancing(config=config) as balancer:
            assert await ask(balancer, 3) == {503: 3}
            answer = await balancer.ask(GET)
            assert (answer.status, answer.body) == (200, b"backup")
            assert balancer.last.flags == ("failover",)
            await until(lambda: kinds(balancer)[-1] == "half_open")
            assert await ask(balancer, 4) == {503: 1, 200: 3}, "one probe, and the backup for the rest"
            main.script = response(b"main")
            await until(lambda: kinds(balancer).count("half_open") == 2)
            assert [(await balancer.ask(GET)).body for _ in range(3)] == [b"main", b"main", b"backup"]
            assert kinds(balancer)[-1] == "closed"
            await until(lambda: "failover_ended" in balancer.events, within=1)
            assert (await balancer.ask(GET)).body == b"main"
            assert balancer.events.count("failover_started") == 1


@pytest.mark.parametrize("scope", ["backend", "route"])
async def test_a_hanging_probe_keeps_nobody_from_the_backup(scope: str) -> None:
    gate = asyncio.Event()

    async def hang(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"late"))

    async with (
        Backend((BAD,)) as main,
        Backend(name="backup") as backup,
        balancing(config=with_failover(main, backup, **QUICK, scope=scope)) as balancer,
    ):
        await ask(balancer, 3)
        main.script = hang
        await until(lambda: kinds(balancer)[-1] == "half_open")
        asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(30)]
        await until(lambda: sum(each.done() for each in asking) == 29)
        gate.set()
        assert Counter([(await each).body for each in asking]) == {b"backup": 29, b"late": 1}


@pytest.mark.parametrize("scope", ["backend", "route"])
async def test_the_request_that_opens_it_goes_on_to_the_backup(scope: str) -> None:
    async with Backend((RESET,)) as main, Backend(name="backup") as backup:
        config = with_failover(main, backup, threshold=1, timeout="1h", scope=scope)
        async with balancing(config=config) as balancer:
            answer = await balancer.ask(GET)
            assert (answer.status, answer.body) == (200, b"backup")
            assert balancer.last.flags == ("failover", "retried")


async def test_failures_of_the_backup_are_not_the_route_s() -> None:
    async with Backend(response(b"main")) as main, Backend((BAD,)) as backup:
        config = with_failover(main, backup, **ROUTE)
        async with balancing(config=config) as balancer:
            pool = balancer.balancer.routes["*"].pool
            pool.set_mode(pool.backends[0], "maintenance")
            assert await ask(balancer, 6) == {503: 6}
            assert told(balancer) == []


async def test_open_with_nobody_behind_it_says_when_to_come_back() -> None:
    async with Backend((BAD,)) as main, Backend((BAD,)) as backup:
        config = with_failover(main, backup, threshold=2, timeout="20s")
        config["routes"]["backup.example"]["circuit_breaker"] = {"threshold": 2, "timeout": "50s"}
        async with balancing(config=config) as balancer:
            await ask(balancer, 2)
            for _ in range(2):
                await balancer.ask(request(host="backup.example"))
            answer = await balancer.ask(GET)
            assert answer.status == 503
            assert 18 <= int(answer["retry-after"]) <= 20
            assert balancer.last.flags == ("breaker_open",)
