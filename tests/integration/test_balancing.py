"""Who serves: everybody evenly, nobody beyond its limit, never one that is known to be down."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import Backend as Served
from lb_core import hookimpl
from tests.integration.lb_process import BackendProcess, free_port
from tests.support.backends import RESET, Backend, Request, Steps, refusing
from tests.support.balancing import Running, balancing, until
from tests.support.load import Load
from tests.support.wire import request, response

if TYPE_CHECKING:
    from lb_core.health import HealthResult

GET = request()
CHECK: dict[str, Any] = {
    "path": "/health",
    "interval": "100ms",
    "interval_down": "100ms",
    "timeout": "500ms",
    "unhealthy_after": 2,
    "healthy_after": 2,
}


def served(balancer: Running, name: str) -> Served:
    return balancer.balancer.routes["*"].pool.find(name)


async def shares(balancer: Running, count: int) -> Counter[bytes]:
    return Counter([(await balancer.ask(GET)).body for _ in range(count)])


async def test_backends_take_turns_when_nobody_is_busy() -> None:
    async with balancing(*[Backend(name=name) for name in "abc"]) as balancer:
        assert await shares(balancer, 30) == {b"a": 10, b"b": 10, b"c": 10}


async def test_the_busy_one_takes_less() -> None:
    slow, fast = Backend((0.1, response(b"slow")), name="slow"), Backend((0.01, response(b"fast")), name="fast")
    async with balancing(slow, fast) as balancer:
        load = Load(balancer.port, connections=4, count=60)
        await load.run()
        assert len(fast.requests) > 2 * len(slow.requests) > 0


async def test_weights_and_backups() -> None:
    one, three, none, spare = (Backend(name=name) for name in ("one", "three", "none", "spare"))
    async with one, three, none, spare:
        config: dict[str, Any] = {
            "listeners": {"web": "127.0.0.1:0"},
            "access_log": False,
            "routes": {
                "*": {
                    "strategy": "weighted_round_robin",
                    "backends": {
                        "one": one.address,
                        "three": {"url": three.address, "weight": 3},
                        "none": {"url": none.address, "weight": 0},
                        "spare": {"url": spare.address, "backup": True},
                    },
                }
            },
        }
        async with balancing(config=config) as balancer:
            assert await shares(balancer, 40) == {b"one": 10, b"three": 30}
            pool = balancer.balancer.routes["*"].pool
            for name in ("one", "three"):
                pool.set_mode(pool.find(name), "maintenance")
            assert await shares(balancer, 4) == {b"spare": 4}


async def test_max_connections_spills_to_others_and_then_queues() -> None:
    gate = asyncio.Event()

    async def wait(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"done"))

    one, two = Backend(wait), Backend(wait)
    async with one, two:
        backends = {
            "one": {"url": one.address, "max_connections": 2},
            "two": {"url": two.address, "max_connections": 3},
        }
        async with balancing(config=config_of(backends)) as balancer:
            waiting = [asyncio.create_task(balancer.ask(GET)) for _ in range(5)]
            await until(lambda: len(one.requests) + len(two.requests) == 5)
            assert (len(one.requests), len(two.requests)) == (2, 3)
            answer = await balancer.ask(GET)
            assert (answer.status, answer["retry-after"]) == (503, b"5"), "nobody had room within timeouts.queue"
            assert balancer.last.flags == ("queue_full",)
            waiting.append(asyncio.create_task(balancer.ask(GET)))
            await until(lambda: balancer.balancer.routes["*"].queued == 1)
            gate.set()
            assert [(await each).body for each in waiting] == [b"done"] * 6
            assert (await balancer.ask(GET)).status == 200


def config_of(backends: dict[str, Any], **route: Any) -> dict[str, Any]:
    web = {"web": "127.0.0.1:0"}
    route = {"timeouts": {"queue": "300ms"}, **route, "backends": backends}
    return {"listeners": web, "access_log": False, "routes": {"*": route}}


async def test_draining_takes_no_new_requests_and_lets_the_old_ones_end() -> None:
    gate = asyncio.Event()

    async def wait(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"old"))

    leaving, staying = Backend(wait, name="leaving"), Backend(name="staying")
    async with balancing(leaving, staying) as balancer:
        asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(2)]
        await until(lambda: leaving.requests)
        balancer.balancer.routes["*"].pool.set_mode(served(balancer, "leaving"), "draining")
        assert await shares(balancer, 6) == {b"staying": 6}
        assert served(balancer, "leaving").in_flight == 1
        gate.set()
        assert {(await each).body for each in asking} == {b"old", b"staying"}
        assert balancer.events.count("backend_draining") == 1


# passive ejection


@pytest.mark.parametrize(
    "failure", [(RESET,), (response(b"", status=503),), (b"nonsense\r\n\r\n",)], ids=["reset", "503", "no HTTP"]
)
async def test_five_failures_in_a_row_eject_for_a_while(failure: Steps) -> None:
    bad, good = Backend(failure, name="bad"), Backend(name="good")
    async with balancing(bad, good, ejection={"duration": "600ms"}) as balancer:
        for _ in range(12):
            await balancer.ask(GET)
        assert len(bad.requests) == 5
        assert balancer.events.count("backend_ejected") == 1
        assert served(balancer, "bad").state == "ejected"
        assert await shares(balancer, 6) == {b"good": 6}
        bad.script = response(b"bad no more")
        await until(lambda: "backend_restored" in balancer.events, within=1.5)
        assert await shares(balancer, 4) == {b"good": 2, b"bad no more": 2}


async def test_successes_between_failures_do_not_eject() -> None:
    count = 0

    def every_fourth_works(_: Request) -> Steps:
        nonlocal count
        count += 1
        return (response(b"ok"),) if count % 4 == 0 else (response(b"", status=502),)

    async with balancing(Backend(every_fourth_works), Backend(name="good")) as balancer:
        for _ in range(40):
            await balancer.ask(GET)
        assert "backend_ejected" not in balancer.events


async def test_the_last_backend_is_never_ejected() -> None:
    with refusing() as one, refusing() as two:
        async with balancing(one, two) as balancer:
            for _ in range(30):
                assert (await balancer.ask(GET)).status == 502
            assert balancer.events.count("backend_ejected") == 1


async def test_a_status_500_is_the_applications_affair() -> None:
    async with balancing(Backend(response(b"", status=500)), Backend(name="good")) as balancer:
        for _ in range(20):
            await balancer.ask(GET)
        assert "backend_ejected" not in balancer.events


# active checks


def health(status: int, target: bytes = b"/health") -> Any:
    """A backend whose check answers this, and everything else its name."""

    def script(seen: Request) -> bytes:
        return response(b"", status=status) if seen.message.target == target else response(b"served")

    return script


async def test_requests_wait_for_the_first_check_and_not_longer() -> None:
    backend = Backend()

    async def starting(seen: Request) -> None:
        if seen.message.target == b"/health":
            await asyncio.sleep(0.3)
        seen.write(response(b"ready"))

    backend.script = starting
    async with balancing(backend, health_check=CHECK) as balancer:
        answers = await asyncio.gather(*[balancer.ask(request("/", body)) for body in (b"", b"a body", b"x" * 200_000)])
        assert [answer.body for answer in answers] == [b"ready"] * 3
        assert backend.messages[0].target == b"/health"
        assert all(exchange.duration > 0.25 for exchange in balancer.completed)
        assert backend.messages[-1].body in (b"", b"a body", b"x" * 200_000)
        assert "backend_up" in balancer.events


async def test_checks_take_a_backend_out_and_bring_it_back() -> None:
    class Watcher:
        def __init__(self) -> None:
            self.results: list[bool] = []

        @hookimpl
        def on_health_result(self, backend: Served, result: HealthResult) -> None:
            self.results.append(result.ok)

    one, two, watcher = Backend(health(200), name="one"), Backend(health(200), name="two"), Watcher()
    async with balancing(one, two, plugins=[watcher], health_check=CHECK) as balancer:
        await until(lambda: balancer.events.count("backend_up") == 2)
        one.script = health(500)
        await until(lambda: served(balancer, "one").state == "down")
        before = len([each for each in one.messages if each.target == b"/"])
        for _ in range(6):
            assert (await balancer.ask(GET)).status == 200
        assert len([each for each in one.messages if each.target == b"/"]) == before
        two.script = health(503)
        await until(lambda: served(balancer, "two").state == "down")
        answer = await balancer.ask(GET)
        assert (answer.status, answer["retry-after"]) == (503, b"5")
        assert balancer.last.flags == ("no_backend",)
        one.script = health(204)
        await until(lambda: served(balancer, "one").state == "up")
        assert (await balancer.ask(GET)).body == b"served"
        assert {True, False} == set(watcher.results)
        assert [kind for kind in balancer.events if kind.startswith("backend_")] == [
            "backend_up",
            "backend_up",
            "backend_down",
            "backend_down",
            "backend_up",
        ]


async def test_a_backend_that_goes_away_is_found_down_by_tcp_too() -> None:
    one, two = Backend(name="one"), Backend(name="two")
    async with balancing(one, two, health_check={**CHECK, "type": "tcp"}) as balancer:
        await until(lambda: balancer.events.count("backend_up") == 2)
        await one.stop()
        await until(lambda: served(balancer, "one").state == "down")
        assert await shares(balancer, 4) == {b"two": 4}
        await one.start()
        await until(lambda: served(balancer, "one").state == "up")
        assert await shares(balancer, 4) == {b"one": 2, b"two": 2}


# killed under load


async def test_a_backend_killed_under_load_loses_no_get_and_serves_again_once_restarted() -> None:
    ports = {name: free_port() for name in ("one", "two")}
    running = {name: BackendProcess(name, port=port) for name, port in ports.items()}
    backends = {name: backend.address for name, backend in running.items()}
    try:
        async with balancing(config=config_of(backends, ejection={"duration": "500ms"})) as balancer:
            load = Load(balancer.port, connections=32, count=6000)

            async def kill() -> None:
                running["one"].process.kill()
                running["one"].process.wait()

            await load.run(at_half=kill)
            assert load.lost == []
            assert load.answers == {200: 6000}
            assert load.by[b"one"] > 500
            running["one"].close()
            running["one"] = BackendProcess("one", port=ports["one"])
            await until(lambda: served(balancer, "one").available, within=2)
            again = Load(balancer.port, connections=8, count=400)
            await again.run()
            assert again.answers == {200: 400}
            assert again.by[b"one"] > 100
    finally:
        for backend in running.values():
            backend.close()


@pytest.mark.timed  # many requests at once in a process that starves are more than the budget of retries
async def test_a_backend_that_comes_and_goes_loses_no_get() -> None:
    steady, flapping = Backend(name="steady"), Backend(name="flapping")
    async with balancing(steady, flapping, ejection={"duration": "200ms"}) as balancer:
        load = Load(balancer.port, connections=16)
        loading = asyncio.create_task(load.run())
        for _ in range(10):
            await asyncio.sleep(0.1)
            await flapping.stop()
            await asyncio.sleep(0.05)
            await flapping.start()
        load.stop()
        await loading
        assert load.lost == []
        assert load.answers.keys() == {200}
        assert load.by[b"flapping"] > 50


async def test_posts_are_never_doubled_whatever_dies() -> None:
    """Each POST carries a number of its own, and no number may reach the backends twice."""
    rng = random.Random(7)

    def dies_now_and_then(seen: Request) -> Steps:
        return rng.choice([(response(b"ok"), 0.0, RESET), (response(b"ok"),), (response(b"ok"),), (RESET,)])

    one, two = Backend(dies_now_and_then, name="one"), Backend(dies_now_and_then, name="two")
    statuses: Counter[int] = Counter()

    async def post(balancer: Running, start: int) -> None:
        async with await balancer.client() as client:
            for number in range(start, start + 50):
                statuses[(await client.ask(request("/", b"number-%06d" % number))).status] += 1

    async with balancing(one, two, ejection=False) as balancer:
        await asyncio.gather(*[post(balancer, start) for start in range(0, 400, 50)])
        assert statuses.keys() == {200, 502}
        assert statuses[200] > 200
        received = one.received + two.received
        numbers = Counter(received[at : at + 13] for at in range(len(received)) if received.startswith(b"number-", at))
        assert set(numbers.values()) == {1}
