"""A route's requests divided among pools: shares, who stays where, rules, rollback, and changes at run time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from lb_core.config import config_from_tree
from lb_core.errors import LbError
from lb_split import Split
from tests.integration.lb_process import backend, free_port, get, lb
from tests.support.backends import RESET, Backend, Script, refusing
from tests.support.balancing import Running, balancing, until
from tests.support.wire import Message, request, response

GET = request()
EVEN = ({"use": "self", "weight": 95}, {"use": "canary", "weight": 5})
STABLE, CANARY = b"stable", b"canary"


def config(stable: Backend | str, canary: Backend | str, split: Any, **route: Any) -> dict[str, Any]:
    addresses = [each if isinstance(each, str) else each.address for each in (stable, canary)]
    return {
        "listeners": {"web": "127.0.0.1:0"},
        "access_log": False,
        "routes": {"*": {"backends": [addresses[0]], "split": split, **route}},
        "pools": {"canary": {"backends": [addresses[1]]}},
    }


@asynccontextmanager
async def splitting(stable: Backend, canary: Backend, split: Any) -> AsyncIterator[Running]:
    """A balancer before both, which are started."""
    async with stable, canary, balancing(config=config(stable, canary, split)) as balancer:
        yield balancer


def split_of(balancer: Running) -> Split:
    return dict(balancer.balancer.routes["*"].parts)["split"]


async def bodies(balancer: Running, count: int, data: bytes = GET) -> Counter[bytes]:
    """Who answers so many requests over one connection."""
    async with await balancer.client() as client:
        return Counter([(await client.ask(data)).body for _ in range(count)])


def cookie_of(answer: Message) -> str:
    """The cookie as a browser sends it back."""
    return answer["set-cookie"].partition(b";")[0].decode()


async def test_shares_are_exact() -> None:
    stable, canary = Backend(name="stable"), Backend(name="canary")
    async with splitting(stable, canary, EVEN) as balancer:
        assert await bodies(balancer, 1000) == {STABLE: 950, CANARY: 50}
        assert await bodies(balancer, 10) in ({STABLE: 10}, {STABLE: 9, CANARY: 1})


async def test_three_pools_and_a_weight_of_nothing() -> None:
    async with Backend(name="one") as one, Backend(name="two") as two, Backend(name="three") as three:
        split = [
            {"use": "self", "weight": 3},
            {"use": "two", "weight": 1},
            {"use": "three", "weight": 0, "header": {"X-Three": "1"}},
        ]
        tree = config(one, two, split)
        tree["pools"] = {"two": [two.address], "three": [three.address]}
        tree["pools"] = {name: {"backends": found} for name, found in tree["pools"].items()}
        async with balancing(config=tree) as balancer:
            assert await bodies(balancer, 40) == {b"one": 30, b"two": 10}


async def test_blue_green() -> None:
    async with Backend(name="stable") as blue, Backend(name="canary") as green:
        split = [{"use": "self", "weight": 100}, {"use": "canary", "weight": 0}]
        async with balancing(config=config(blue, green, split)) as balancer:
            assert await bodies(balancer, 20) == {STABLE: 20}
            split_of(balancer).shift({"canary": 100})
            assert await bodies(balancer, 20) == {CANARY: 20}
            split_of(balancer).shift({"self": 100})
            assert await bodies(balancer, 20) == {STABLE: 20}


# rules


async def test_a_header_sends_a_request_to_its_pool_whatever_the_weights() -> None:
    split = [
        {"use": "self", "weight": 100},
        {"use": "canary", "weight": 0, "header": {"X-Beta": "1", "X-Team": "~^(a|b)$"}},
    ]
    stable, canary = Backend(name="stable"), Backend(name="canary")
    async with splitting(stable, canary, split) as balancer:
        for fields, body in (
            (("x-beta: 1", "X-Team: b"), CANARY),
            (("X-Beta: 1", "X-Team: ab"), STABLE),
            (("X-Beta: 1",), STABLE),
            (("X-Beta: 11", "X-Team: a"), STABLE),
        ):
            assert await bodies(balancer, 3, request("/", b"", *fields)) == {body: 3}
        canary.script = response(b"", status=500)
        for _ in range(30):
            await balancer.ask(request("/", b"", "X-Beta: 1", "X-Team: a"))
        assert "canary_rolled_back" not in balancer.events  # it has no weight that it could lose


async def test_a_range_of_clients_goes_to_its_pool_whatever_the_weights() -> None:
    split = [{"use": "self", "weight": 100}, {"use": "canary", "clients": ["10.0.0.0/8", "2001:db8::/32"]}]
    async with Backend(name="stable") as stable, Backend(name="canary") as canary:
        tree = config(stable, canary, split) | {"trusted_proxies": ["127.0.0.1"]}
        async with balancing(config=tree) as balancer:
            for client, body in (("10.1.2.3", CANARY), ("11.1.2.3", STABLE), ("2001:db8::5", CANARY)):
                assert await bodies(balancer, 3, request("/", b"", f"X-Forwarded-For: {client}")) == {body: 3}
            assert await bodies(balancer, 3) == {STABLE: 3}


# who stays where


async def test_a_client_with_the_cookie_keeps_its_pool_and_the_shares_hold_for_new_clients() -> None:
    split = [{"use": "self", "weight": 80}, {"use": "canary", "weight": 20, "sticky": True}]
    stable, canary = Backend(name="stable"), Backend(name="canary")
    async with splitting(stable, canary, split) as balancer:
        async with await balancer.client() as client:
            first = [await client.ask(GET) for _ in range(200)]
            assert abs(sum(answer.body == CANARY for answer in first) - 40) <= 3
            for answer in first[:40]:
                again = await client.ask(request("/", b"", f"Cookie: a=b; {cookie_of(answer)}; c=d"))
                assert again.body == answer.body
                assert "set-cookie" not in again
        attributes = first[0]["set-cookie"].decode().split("; ")
        assert attributes[1:] == ["Path=/", "HttpOnly", "SameSite=Lax"]
        assert not [each for each in first if b"canary" in each["set-cookie"] or b"self" in each["set-cookie"]]
        odd = await balancer.ask(request("/", b"", "Cookie: lb_split=canary"))
        assert odd["set-cookie"].startswith(b"lb_split=")


async def test_the_cookie_lasts_as_long_as_ttl_says_and_has_the_name_that_cookie_says() -> None:
    split = {"pools": EVEN, "by": "cookie", "cookie": "version", "ttl": "24h"}
    stable, canary = Backend(name="stable"), Backend(name="canary")
    async with splitting(stable, canary, split) as balancer:
        cookie = (await balancer.ask(GET))["set-cookie"]
        assert cookie.startswith(b"version=")
        assert b"; Max-Age=86400;" in cookie


async def test_a_client_that_has_a_cookie_moves_when_its_pool_has_no_weight_or_no_candidates() -> None:
    split = [{"use": "self", "weight": 50}, {"use": "canary", "weight": 50, "sticky": True}]
    stable, canary = Backend(name="stable"), Backend(name="canary")
    async with splitting(stable, canary, split) as balancer:
        answers = [await balancer.ask(GET) for _ in range(4)]
        cookie = cookie_of(next(answer for answer in answers if answer.body == CANARY))
        mine = request("/", b"", f"Cookie: {cookie}")
        pool = balancer.balancer.pools["canary"]
        pool.set_mode(pool.backends[0], "maintenance")
        assert (await balancer.ask(mine)).body == STABLE
        pool.set_mode(pool.backends[0], "active")
        assert (await balancer.ask(mine)).body == CANARY
        split_of(balancer).shift({"canary": 0})
        assert (await balancer.ask(mine)).body == STABLE


async def test_by_client_the_address_decides_and_no_cookie_is_set() -> None:
    split = {"pools": [{"use": "self", "weight": 70}, {"use": "canary", "weight": 30}], "by": "client"}
    async with Backend(name="stable") as stable, Backend(name="canary") as canary:
        tree = config(stable, canary, split) | {"trusted_proxies": ["127.0.0.1"]}
        async with balancing(config=tree) as balancer, await balancer.client() as client:
            seen: Counter[bytes] = Counter()
            for number in range(200):
                asked = request("/", b"", f"X-Forwarded-For: 10.0.{number}.9")
                answers = [await client.ask(asked) for _ in range(2)]
                assert answers[0].body == answers[1].body
                assert "set-cookie" not in answers[0]
                seen[answers[0].body] += 1
            assert 35 <= seen[CANARY] <= 85


# pools without candidates


async def test_the_share_of_a_pool_without_candidates_goes_to_the_others() -> None:
    async with Backend(name="stable") as stable, Backend(name="canary") as canary:
        split = [{"use": "self", "weight": 50}, {"use": "canary", "weight": 50, "header": {"X-Beta": "1"}}]
        async with balancing(config=config(stable, canary, split)) as balancer:
            pools = balancer.balancer.pools
            pools["canary"].set_health(pools["canary"].backends[0], "down")
            assert await bodies(balancer, 10) == {STABLE: 10}
            assert await bodies(balancer, 2, request("/", b"", "X-Beta: 1")) == {STABLE: 2}
            pools["canary"].set_health(pools["canary"].backends[0], "up")
            pools["*"].set_health(pools["*"].backends[0], "down")
            assert await bodies(balancer, 10) == {CANARY: 10}
            pools["canary"].set_health(pools["canary"].backends[0], "down")
            assert (await balancer.ask(GET)).status == 503
            for name in ("*", "canary"):
                pools[name].set_health(pools[name].backends[0], "up")
            assert await bodies(balancer, 10) == {STABLE: 5, CANARY: 5}


async def test_a_weight_is_no_last_resort_but_the_routes_own_pool_is() -> None:
    async with Backend(name="stable") as stable, Backend(name="canary") as canary:
        split = [{"use": "self", "weight": 0}, {"use": "canary", "weight": 100}]
        async with balancing(config=config(stable, canary, split)) as balancer:
            pool = balancer.balancer.pools["canary"]
            pool.set_health(pool.backends[0], "down")
            assert await bodies(balancer, 3) == {STABLE: 3}


async def test_the_own_share_goes_to_the_backup_domain_while_the_own_pool_has_nobody() -> None:
    stable, canary, backup = Backend(name="stable"), Backend(name="canary"), Backend(name="backup")
    async with stable, canary, backup:
        half = [{"use": "self", "weight": 50}, {"use": "canary", "weight": 50}]
        whole = config(stable, canary, half, failover={"backup_domain": "backup.example.com", "return_after": "50ms"})
        whole["routes"]["backup.example.com"] = [backup.address]
        async with balancing(config=whole) as balancer:
            assert await bodies(balancer, 20) == {STABLE: 10, CANARY: 10}
            pool = balancer.balancer.routes["*"].pool
            pool.set_health(pool.backends[0], "down", "off")
            assert await bodies(balancer, 20) == {b"backup": 10, CANARY: 10}
            pool.set_health(pool.backends[0], "up")
            await until(lambda: "failover_ended" in balancer.events)
            assert await bodies(balancer, 20) == {STABLE: 10, CANARY: 10}


async def test_a_retry_stays_within_the_pool() -> None:
    with refusing() as dead:
        async with Backend(name="stable") as stable, Backend(name="canary") as canary:
            tree = config(stable, canary, [{"use": "self", "weight": 1}, {"use": "canary", "weight": 99}])
            tree["pools"]["canary"]["backends"] = [dead, canary.address]
            async with balancing(config=tree) as balancer:
                assert await bodies(balancer, 10) in ({CANARY: 10}, {CANARY: 9, STABLE: 1})


# rollback

QUICK = {"window": "3s", "min_requests": 10}


def quick(*weights: int, **rollback: Any) -> dict[str, Any]:
    pools = [{"use": "self", "weight": weights[0]}, {"use": "canary", "weight": weights[1]}]
    return {"pools": pools, "rollback": QUICK | rollback}


@pytest.mark.parametrize(
    "failure", [response(b"", status=500), (RESET,), (b"nonsense\r\n\r\n",)], ids=["500", "reset", "no HTTP"]
)
async def test_a_canary_that_fails_is_rolled_back(failure: Script) -> None:
    async with Backend(name="stable") as stable, Backend(failure, name="canary") as canary:
        tree = config(stable, canary, quick(80, 20), ejection=False, retry={"attempts": 0})
        async with balancing(config=tree) as balancer:
            for _ in range(50):
                await balancer.ask(GET)
            assert len(canary.requests) == 10
            (event,) = [each for each in balancer.observer.events if each.kind == "canary_rolled_back"]
            assert event.route == "*"
            figures = {key: event.details[key] for key in ("pool", "weight", "requests", "failed", "error_ratio")}
            assert figures == {"pool": "canary", "weight": 20.0, "requests": 10, "failed": 10, "error_ratio": 1.0}
            assert event.details["stable_error_ratio"] == 0.0
            assert "canary failed 10 of 10 requests in 3s (100.0%), self 0 of" in event.message
            canary.script = response(CANARY)
            assert await bodies(balancer, 50) == {STABLE: 50}  # it stays away until somebody changes it
            assert any("rolled back" in line for line in split_of(balancer).describe())
            split_of(balancer).shift({"canary": 20})
            assert (await bodies(balancer, 50))[CANARY] == 10


async def test_a_failed_attempt_counts_although_another_backend_served_the_request() -> None:
    async with Backend(name="stable") as stable, Backend((RESET,)) as bad, Backend(name="canary") as canary:
        tree = config(stable, canary, quick(50, 50), ejection=False, strategy="round_robin")
        tree["pools"]["canary"]["backends"] = [bad.address, canary.address]
        async with balancing(config=tree) as balancer:
            assert STABLE in await bodies(balancer, 60)
            assert balancer.events.count("canary_rolled_back") == 1


async def test_no_rollback_where_both_fail_alike() -> None:
    count = 0

    def every_third_fails(_: object) -> bytes:
        nonlocal count
        count += 1
        return response(b"", status=500 if count % 3 == 0 else 200)

    stable, canary = Backend(every_third_fails), Backend(every_third_fails)
    async with splitting(stable, canary, quick(50, 50)) as balancer:
        await bodies(balancer, 150)
        assert "canary_rolled_back" not in balancer.events


@pytest.mark.parametrize(
    ("failing", "rollback"), [(2, {}), (20, {"min_requests": 90}), (20, {"margin": "60%"}), (20, False)]
)
async def test_no_rollback_below_a_limit_or_where_it_is_off(failing: int, rollback: Any) -> None:
    """2 of 50 are less than five points over the stable one's none; 20 of 50 are enough, but for the other settings."""
    answered = 0

    def fails_at_last(_: object) -> bytes:
        nonlocal answered
        answered += 1
        return response(b"", status=500 if answered > 50 - failing else 200)

    settings = quick(50, 50, **(rollback or {}))
    if rollback is False:
        settings["rollback"] = False
    stable, canary = Backend(name="stable"), Backend(fails_at_last)
    async with splitting(stable, canary, settings) as balancer:
        await bodies(balancer, 100)
        assert answered == 50
        assert "canary_rolled_back" not in balancer.events


async def test_what_happened_before_the_window_is_forgotten() -> None:
    stable, canary = Backend(name="stable"), Backend(name="canary")
    async with splitting(stable, canary, quick(50, 50, window="300ms", min_requests=6)) as balancer:
        canary.script = response(b"", status=500)
        await bodies(balancer, 10)
        await asyncio.sleep(0.35)
        canary.script = response(CANARY)
        await bodies(balancer, 20)
        assert "canary_rolled_back" not in balancer.events


async def test_green_that_fails_gives_everything_back_to_blue() -> None:
    blue, green = Backend(name="stable"), Backend(response(b"", status=500))
    async with splitting(blue, green, quick(0, 100)) as balancer:
        assert (await bodies(balancer, 30))[STABLE] == 20
        assert split_of(balancer).weights == {"self": 100.0, "canary": 0.0}


async def test_no_rollback_while_nobody_could_take_over() -> None:
    blue, green = Backend(name="stable"), Backend(response(b"", status=500))
    async with splitting(blue, green, quick(50, 50)) as balancer:
        pool = balancer.balancer.pools["*"]
        pool.set_health(pool.backends[0], "down")
        await bodies(balancer, 30)
        assert "canary_rolled_back" not in balancer.events
        pool.set_health(pool.backends[0], "up")
        await bodies(balancer, 4)
        assert "canary_rolled_back" in balancer.events


# at run time


async def test_a_shift_holds_at_once_also_over_open_connections() -> None:
    stable, canary = Backend(name="stable"), Backend(name="canary")
    async with splitting(stable, canary, EVEN) as balancer, await balancer.client() as client:
        assert (await client.ask(GET)).status == 200
        split_of(balancer).shift({"canary": 20})
        answers = Counter([(await client.ask(GET)).body for _ in range(100)])
        assert answers == {STABLE: 80, CANARY: 20}
        (event,) = [each for each in balancer.observer.events if each.kind == "split_shifted"]
        assert (event.route, event.message) == ("*", "self 80 %, canary 20 %")
        before = {"self": 95.0, "canary": 5.0}
        assert event.details == {"before": before, "after": {"self": 80.0, "canary": 20.0}}
        with pytest.raises(LbError, match=r'no pool "canry" in this split \(did you mean canary\?\)'):
            split_of(balancer).shift({"canry": 10})


@pytest.mark.parametrize("by", ["request", "cookie", "client"])
async def test_a_shift_survives_a_reload_that_does_not_change_the_split(by: str) -> None:
    async with Backend(name="stable") as stable, Backend(name="canary") as canary:
        tree = config(stable, canary, {"pools": EVEN, "by": by})
        async with balancing(config=tree) as balancer:
            lb = balancer.balancer
            before = lb.routes["*"]
            split_of(balancer).shift({"canary": 100})
            assert await bodies(balancer, 5) == {CANARY: 5}
            tree["routes"]["*"]["max_body"] = "1MiB"
            lb.apply(config_from_tree(tree, lb.plugins, source="test"))
            assert lb.routes["*"] is not before
            assert await bodies(balancer, 5) == {CANARY: 5}
            assert "10 requests" in split_of(balancer).describe()[1]
            tree["routes"]["*"]["split"] = {"pools": [{"use": "self", "weight": 100}, EVEN[1] | {"weight": 0}]}
            lb.apply(config_from_tree(tree, lb.plugins, source="test"))
            assert await bodies(balancer, 5) == {STABLE: 5}
            heard_by = [getattr(hear, "__self__", None) for pool in lb.pools.values() for hear in pool.on_change]
            assert [each for each in heard_by if isinstance(each, Split)] == [split_of(balancer)] * 2


async def test_a_rollback_survives_a_reload_that_does_not_change_the_split() -> None:
    async with Backend(name="stable") as stable, Backend(response(b"", status=500)) as canary:
        tree = config(stable, canary, quick(50, 50))
        async with balancing(config=tree) as balancer:
            await bodies(balancer, 30)
            assert "canary_rolled_back" in balancer.events
            tree["routes"]["*"]["max_body"] = "1MiB"
            balancer.balancer.apply(config_from_tree(tree, balancer.balancer.plugins, source="test"))
            assert await bodies(balancer, 10) == {STABLE: 10}


async def test_what_is_answered_before_a_backend_is_asked_counts_for_no_pool() -> None:
    stable, canary = Backend(name="stable"), Backend(name="canary")
    async with splitting(stable, canary, EVEN) as balancer:
        pools = balancer.balancer.pools
        for name in ("*", "canary"):
            pools[name].set_health(pools[name].backends[0], "down")
        await balancer.ask(GET)
        await until(lambda: balancer.completed)
        assert [(part.requests, part.failed) for part in split_of(balancer).parts] == [(0, 0), (0, 0)]


# from the command line


def lb_shift(*arguments: str) -> tuple[int, str]:
    """The status and everything printed."""
    command = [sys.executable, "-m", "lb_core.cli", "shift", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def test_lb_shift_changes_the_shares_of_a_running_balancer(tmp_path: Path) -> None:
    port, control = free_port(), str(tmp_path / "control.sock")
    with backend("stable") as stable, backend("canary") as canary:
        tree = config(stable.address, canary.address, EVEN) | {"listeners": {"web": f"127.0.0.1:{port}"}}
        tree["control"] = control
        file = tmp_path / "lb.yaml"
        file.write_text(yaml.safe_dump(tree))
        with lb("run", "-c", str(file)) as running:
            running.wait_for("twice quits")
            assert lb_shift("--control", control, "*", "canary=100")[0] == 0
            assert {get(port)[1] for _ in range(10)} == {"canary"}
            status, said = lb_shift("--control", control, "*")
            assert status == 0
            assert "self 0 %: 0 requests" in said
            assert "canary 100 %: 10 requests, 0 failed" in said
            status, said = lb_shift("--control", control, "*", "canry=5")
            assert (status, 'no pool "canry" in this split (did you mean canary?)' in said) == (1, True)
            assert running.process.poll() is None
