"""The strategies of lb-strategies and the slow start, over real sockets."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any

import pytest

from lb_core.config import config_from_tree, load_config
from lb_core.plugins import Plugins
from lb_strategies import ConsistentHashSettings, EwmaSettings, P2cSettings, SlowStartSettings
from tests.support.backends import Backend, Request
from tests.support.balancing import Running, balancing, tree, until
from tests.support.load import Load
from tests.support.repository import ROOT
from tests.support.wire import request, response

GET = request()
EXAMPLES = ROOT / "examples/config"


def five() -> list[Backend]:
    return [Backend(name=name) for name in "abcde"]


def after(seconds: float, name: str) -> Backend:
    """A backend that answers at once or after some seconds, however many ask."""
    return Backend((seconds, response(name.encode(), f"X-Backend: {name}")), name=name)


def one_at_a_time(seconds: float, name: str) -> Backend:
    """A backend that serves one request after the other."""
    slot = asyncio.Lock()

    async def serve(seen: Request) -> None:
        async with slot:
            await asyncio.sleep(seconds)
        seen.write(response(name.encode()))

    return Backend(serve, name=name)


async def asked(balancer: Running, count: int) -> Counter[bytes]:
    """Who answered so many requests, one after the other."""
    async with await balancer.client() as client:
        return Counter([(await client.ask(GET)).body for _ in range(count)])


def reload(balancer: Running, *backends: Backend, **route: Any) -> None:
    found = balancer.balancer
    found.apply(config_from_tree(tree(backends, **route), found.plugins, source=""))


# latency under load


async def percentile_99(strategy: str, arrivals: list[float]) -> float:
    """Seconds of all but the slowest 1 % of an open load: four backends that serve one at a time, one 3x slower."""
    backends = [one_at_a_time(0.09 if name == "slow" else 0.03, name) for name in ("slow", "a", "b", "c")]
    async with balancing(*backends, strategy=strategy) as balancer:

        async def visit(moment: float) -> float:
            await asyncio.sleep(moment)
            begin = asyncio.get_running_loop().time()
            assert (await balancer.ask(GET, within=10)).status == 200
            return asyncio.get_running_loop().time() - begin

        seconds = sorted(await asyncio.gather(*map(visit, arrivals)))
        return seconds[int(len(seconds) * 0.99)]


async def test_with_one_slow_backend_the_99th_percentile_is_at_most_a_third_of_round_robins() -> None:
    """At 70 % of what the four can do round robin sends the slow one more than it can serve, and its queue grows."""
    rate, moment, chance, arrivals = 0.7 * (3 / 0.03 + 1 / 0.09), 0.0, random.Random(4), []
    while moment < 2.5:
        moment += chance.expovariate(rate)
        arrivals.append(moment)
    names = ("round_robin", "least_connections", "p2c", "ewma")
    found = dict(zip(names, await asyncio.gather(*(percentile_99(name, arrivals) for name in names)), strict=True))
    for name in names[1:]:
        assert found[name] <= found["round_robin"] / 3, found


@pytest.mark.parametrize("strategy", ["least_connections", {"name": "ewma", "explore": "100ms"}], ids=str)
async def test_a_backend_that_fails_at_once_takes_under_one_percent_after_its_ejection(strategy: object) -> None:
    bad = Backend(response(b"", status=503), name="bad")
    good = [after(0.003, name) for name in "abc"]
    async with balancing(bad, *good, strategy=strategy) as balancer:
        load = Load(balancer.port, connections=8, pause=0.001)
        loading = asyncio.create_task(load.run())
        await until(lambda: "backend_ejected" in balancer.events)
        failed, total = len(bad.requests), load.total
        await until(lambda: load.total >= total + 600, within=10)
        load.stop()
        await loading
        assert (len(bad.requests) - failed) / (load.total - total) < 0.01


async def test_a_backend_that_fails_at_once_is_not_fast_for_ewma() -> None:
    bad = Backend(response(b"", status=503), name="bad")
    async with balancing(bad, *[after(0.005, name) for name in "abc"], strategy="ewma", ejection=False) as balancer:
        load = Load(balancer.port, connections=8, count=1000)
        await load.run()
        assert len(bad.requests) < 10


# ewma


@pytest.mark.parametrize("name", [{"name": "ewma"}, {"name": "p2c", "metric": "ewma", "decay": "10s"}], ids=str)
async def test_the_faster_backend_is_preferred_also_after_a_reload(name: dict[str, str]) -> None:
    fast, slow = after(0.002, "fast"), after(0.15, "slow")
    strategy = {**name, "explore": "1m"}
    async with balancing(fast, slow, strategy=strategy) as balancer:
        await asked(balancer, 20)
        assert len(slow.requests) <= 2
        reload(balancer, fast, slow, strategy=strategy, timeouts={"queue": "1s"})
        known = len(slow.requests)
        await asked(balancer, 20)
        assert len(slow.requests) <= known + 1


async def test_every_backend_is_tried_once_in_explore_and_one_that_recovers_serves_again() -> None:
    fast, other = after(0.002, "fast"), after(0.1, "other")
    strategy = {"name": "ewma", "explore": "200ms", "decay": "100ms"}
    async with balancing(fast, other, strategy=strategy) as balancer:
        load = Load(balancer.port, connections=2, pause=0.001)
        loading = asyncio.create_task(load.run())
        await asyncio.sleep(1.1)
        assert 3 <= len(other.requests) <= 9
        other.script = response(b"other")
        before = len(other.requests)
        await until(lambda: len(other.requests) > before + 100)
        load.stop()
        await loading


# consistent hash


async def visits(balancer: Running, heads: dict[str, bytes]) -> dict[str, bytes]:
    """Who answers the request of each key, over a few connections at once."""
    found: dict[str, bytes] = {}
    left = iter(heads.items())

    async def ask() -> None:
        async with await balancer.client() as client:
            for key, head in left:
                found[key] = (await client.ask(head)).body

    await asyncio.gather(*(ask() for _ in range(8)))
    return found


async def test_removing_one_of_ten_backends_moves_its_own_keys_and_at_most_eleven_percent_of_all() -> None:
    backends = [Backend(name=f"web{number}") for number in range(10)]
    strategy = {"name": "consistent_hash", "on": "header:X-User", "bounded": False}
    keys = {f"user-{number}": request("/", b"", f"X-User: user-{number}") for number in range(1000)}
    async with balancing(*backends, strategy=strategy) as balancer:
        before = await visits(balancer, keys)
        assert set(Counter(before.values())) == {backend.name.encode() for backend in backends}
        reload(balancer, *backends[:4], *backends[5:], strategy=strategy)
        after_it = await visits(balancer, keys)
        moved = {key for key in keys if before[key] != after_it[key]}
        assert moved == {key for key in keys if before[key] == b"web4"}
        assert len(moved) / len(keys) <= 0.11


@pytest.mark.parametrize(
    ("on", "heads"),
    [
        ("path", [f"/page/{number}?x={{}}" for number in range(12)]),
        ("query:id", [f"/?x={{}}&id={number}" for number in range(12)]),
        ("cookie:id", [f"/{{}} id={number}" for number in range(12)]),
    ],
)
async def test_requests_with_the_same_key_go_to_the_same_backend(on: str, heads: list[str]) -> None:
    async with balancing(*five(), strategy={"name": "consistent_hash", "on": on}) as balancer:
        for head in heads:
            target, _, cookie = head.partition(" ")
            fields = [f"Cookie: a=b; {cookie}"] if cookie else []
            asks = [request(target.format(number), b"", *fields) for number in range(4)]
            assert len({(await balancer.ask(each)).body for each in asks}) == 1
        served = {exchange.backend.name for exchange in balancer.completed if exchange.backend}
        assert len(served) >= 3


async def test_a_request_without_the_key_goes_by_its_client() -> None:
    async with balancing(*five(), strategy={"name": "consistent_hash", "on": "header:X-User"}) as balancer:
        assert len(await asked(balancer, 8)) == 1


async def test_a_hot_key_is_shared_when_its_backend_has_more_than_its_part() -> None:
    gate = asyncio.Event()
    backends = [Backend(waiting(gate), name=name) for name in "abcd"]
    async with balancing(*backends, strategy={"name": "consistent_hash", "on": "path"}) as balancer:
        asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(24)]
        await until(lambda: sum(len(backend.requests) for backend in backends) == 24)
        busy = [len(backend.requests) for backend in backends]
        assert max(busy) <= ceil(1.25 * 24 / 4) + 1
        assert max(busy) > min(busy)
        gate.set()
        await asyncio.gather(*asking)
        assert len({(await balancer.ask(GET)).body for _ in range(5)}) == 1


def waiting(gate: asyncio.Event) -> Callable[[Request], Awaitable[None]]:
    async def wait(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"%d" % seen.connection.writer.get_extra_info("sockname")[1]))

    return wait


# first


async def test_first_fills_one_backend_up_to_its_limit_then_the_next() -> None:
    gate = asyncio.Event()
    backends = [Backend(waiting(gate), name=name) for name in "abc"]
    for backend in backends:
        await backend.start()
    limited = {each.name: {"url": each.address, "max_connections": 2} for each in backends}
    async with balancing(config=tree(limited, strategy="first")) as balancer:
        asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(5)]
        await until(lambda: sum(len(backend.requests) for backend in backends) == 5)
        assert [len(backend.requests) for backend in backends] == [2, 2, 1]
        gate.set()
        await asyncio.gather(*asking)
        await asked(balancer, 10)
        assert [len(backend.requests) for backend in backends] == [12, 2, 1]
    for backend in backends:
        await backend.stop()


# slow start


@pytest.mark.parametrize("strategy", ["least_connections", "round_robin", "weighted_round_robin", "random", "p2c"])
async def test_a_backend_that_recovers_takes_a_tenth_of_its_share_at_first_and_then_all(strategy: str) -> None:
    backends = [Backend(name=name) for name in "abc"]
    async with balancing(*backends, strategy=strategy, slow_start={"duration": "250ms"}) as balancer:
        pool = balancer.balancer.routes["*"].pool
        back = pool.find("a")
        await asyncio.sleep(0.25)
        pool.set_mode(back, "maintenance")
        pool.set_mode(back, "active")
        assert back.warmth == 0.1
        first = await asked(balancer, 40)
        if back.warmth < 0.3:  # the machine has not been asleep
            assert first[b"a"] <= 8
        await until(lambda: back.warmth == 1.0)
        assert (await asked(balancer, 90))[b"a"] > 15


async def test_a_backend_that_joins_warms_up_and_one_of_a_hash_does_not() -> None:
    backends = [Backend(name=name) for name in "abc"]
    async with balancing(*backends, slow_start="100ms") as balancer:
        reload(balancer, *backends[:2], slow_start="100ms")
        pool = balancer.balancer.routes["*"].pool
        await asyncio.sleep(0.1)
        reload(balancer, *backends, slow_start="100ms")
        assert [backend.warmth for backend in pool.backends] == [1.0, 1.0, 0.1]
        await until(lambda: pool.backends[2].warmth == 1.0)
        reload(balancer, *backends[:2], strategy="ip_hash", slow_start="100ms")
        await asyncio.sleep(0.1)
        reload(balancer, *backends, strategy="ip_hash", slow_start="100ms")
        assert [backend.warmth for backend in pool.backends] == [1.0, 1.0, 1.0]


async def test_switched_off_everybody_has_its_whole_share_at_once() -> None:
    backends = [Backend(name=name) for name in "ab"]
    async with balancing(*backends, slow_start=False) as balancer:
        pool = balancer.balancer.routes["*"].pool
        pool.set_mode(pool.backends[0], "maintenance")
        pool.set_mode(pool.backends[0], "active")
        assert pool.on_change == []
        assert pool.backends[0].warmth == 1.0


def test_the_examples_say_what_their_comments_do() -> None:
    plugins = Plugins.discover()
    ewma, hashed, slow = (
        {route.host: route for route in load_config(EXAMPLES / f"{name}.yaml", plugins, {}).routes}
        for name in ("ewma", "consistent_hash", "slow_start")
    )
    assert ewma["example.com"].strategy.settings == EwmaSettings()
    assert ewma["large.example.com"].strategy.settings == P2cSettings(metric="ewma")
    assert [route.strategy.settings for route in hashed.values()] == [
        ConsistentHashSettings(on="path"),
        ConsistentHashSettings(on="cookie:user", bounded=0),
        ConsistentHashSettings(on="header:X-Tenant", bounded=1.5),
    ]
    slow_starts = [[each.settings for each in route.features if each.name == "slow_start"] for route in slow.values()]
    assert slow_starts == [
        [SlowStartSettings(duration=60)],
        [SlowStartSettings(duration=300, **{"from": 0.05})],
        [],
    ]
