"""Rate limits over real sockets: who passes, what the others are told, and exactly how many of 20,000."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.config import config_from_tree
from tests.support.backends import RESET, Backend, Request
from tests.support.balancing import Running, balancing, tree, until
from tests.support.figures import note
from tests.support.wire import request, response

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.wire import Message

GET = request()
LOCAL = {"trusted_proxies": ["127.0.0.1/32"]}


def window_around(seconds: int, room: float) -> str:
    """A window of about so many seconds that does not end within `room` of now, so that a count is exact."""
    found = next(each for each in range(seconds, 2 * seconds) if each - time.time() % each > room)
    return f"{found}s"


def of(client: str) -> bytes:
    """A request of a client behind a trusted proxy."""
    return request("/", b"", f"X-Forwarded-For: {client}")


async def statuses(balancer: Running, *requests: bytes) -> list[int]:
    async with await balancer.client() as client:
        return [(await client.ask(each)).status for each in requests]


async def passing(balancer: Running, count: int, data: bytes = GET) -> int:
    found = Counter(await statuses(balancer, *[data] * count))
    assert set(found) <= {200, 429}, found
    return found[200]


# the exact count


END = (b"backend", b" s\n")
"""How the bodies of the backend and of a refusal end."""


async def answers_of(port: int, address: str, count: int) -> Counter[int]:
    """Send so many requests on one connection from an address of this machine, and count the answers by status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    writer.write(GET * count)
    data = b""
    while data.count(b"HTTP/1.1 ") < count or not data.endswith(END):
        data += await reader.read(1 << 20)
    found = Counter(map(int, re.findall(rb"HTTP/1\.1 (\d{3})", data)))
    writer.transport.abort()
    return found


@pytest.mark.parametrize(("key", "requests"), [("route", 1000), ("client_ip", 10)])
async def test_a_thousand_a_minute_of_20_000_requests_from_100_addresses(key: str, requests: int) -> None:
    limit = {"requests": requests, "window": window_around(60, 20), "key": key}
    async with balancing(Backend(), rate_limit=limit) as balancer:
        began = time.monotonic()
        each = await asyncio.gather(*(answers_of(balancer.port, f"127.0.1.{number}", 200) for number in range(1, 101)))
        seconds = time.monotonic() - began
        assert {exchange.client for exchange in balancer.completed} == {f"127.0.1.{number}" for number in range(1, 101)}
        balancer.observer.completed.clear()
        assert balancer.events.count("rate_limited") <= 1
    total = sum(each, Counter())
    assert total.total() == 20_000
    assert abs(total[200] - 1000) <= 10, "within 1 % of the exact count"
    if key == "client_ip":
        assert {found[200] for found in each} == {10}
    note("rate limit", f"by {key}: {total[200]} of 20,000 passed, in {seconds:.1f} s")


# what the others are told


async def test_429_as_text_or_json_with_its_fields() -> None:
    window = window_around(60, 5)
    limit = {"requests": 2, "window": window, "algorithm": "fixed_window"}
    async with balancing(Backend(), rate_limit=limit) as balancer, await balancer.client() as client:
        for _ in range(2):
            answer = await client.ask(GET)
            assert answer.status == 200
            assert not [name for name, _ in answer.fields if b"ratelimit" in name]
        text = await client.ask(request("/", b"", "Accept: text/html"))
        assert (text.status, text["content-type"]) == (429, b"text/plain; charset=utf-8")
        wait = int(text["retry-after"])
        assert text.body == f"too many requests: try again in {wait} s\n".encode()
        assert 0 < wait <= 120
        assert text["ratelimit-policy"] == f'"default";q=2;w={window[:-1]}'.encode()
        assert text["ratelimit"] == f'"default";r=0;t={wait}'.encode()
        assert balancer.last.flags == ("rate_limited",)
        assert balancer.last.attempts == 0
        body = await client.ask(request("/", b"a body", "Accept: application/json"))
        assert (body.status, body["content-type"]) == (429, b"application/json")
        assert json.loads(body.body)["error"] == "rate_limited"
        head = await client.ask(request(method="HEAD"))
        assert (head.status, head.body) == (429, b"")
        assert (await client.ask(request())).status == 429, "the connection goes on"


async def test_the_flag_is_in_the_access_log(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    top = {"access_log": {"format": "json", "file": str(log)}}
    async with balancing(Backend(), top=top, rate_limit="1/h") as balancer:
        assert await passing(balancer, 2) == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["status"], line["flags"]) for line in lines] == [(200, ""), (429, "rate_limited")]


@pytest.mark.parametrize("form", ["draft", "legacy"])
async def test_fields_on_every_answer(form: str) -> None:
    limit = {"requests": 3, "window": window_around(60, 5), "headers": form}
    backend = Backend(response(b"hello", "X-Own: yes", "Set-Cookie: a=1", "Set-Cookie: b=2"))
    async with balancing(backend, rate_limit=limit) as balancer, await balancer.client() as client:
        answers = [await client.ask(GET) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        name = "ratelimit" if form == "draft" else "x-ratelimit-remaining"
        left = [answer[name].split(b";t=")[0] for answer in answers]
        said = [b'"default";r=%d', b"%d"][form == "legacy"]
        assert left == [said % number for number in (2, 1, 0, 0)]
        assert answers[0].body == b"hello"
        assert answers[0]["x-own"] == b"yes"
        assert answers[0].all("set-cookie") == [b"a=1", b"b=2"]


async def test_the_tightest_of_several_policies_is_told() -> None:
    limits = [
        {"requests": 50, "window": "1h", "headers": "draft", "name": "hourly"},
        {"requests": 3, "window": window_around(60, 5), "headers": "draft", "key": "path", "name": "path"},
    ]
    async with balancing(Backend(), rate_limit=limits) as balancer, await balancer.client() as client:
        answer = await client.ask(GET)
        assert answer["ratelimit-policy"].startswith(b'"hourly";q=50;w=3600, "path";q=3;w=6')
        assert answer["ratelimit"].startswith(b'"path";r=2;t=')


# algorithms


async def test_a_sliding_window_lets_pass_again_after_retry_after() -> None:
    async with balancing(Backend(), rate_limit="4/700ms") as balancer:
        assert await passing(balancer, 10) in (4, 5)
        async with await balancer.client() as client:
            wait = int((await client.ask(GET))["retry-after"])
            assert wait in (1, 2)
            await asyncio.sleep(wait)
            assert (await client.ask(GET)).status == 200


async def test_a_token_bucket_refills() -> None:
    limit = {"requests": 20, "window": "1s", "algorithm": "token_bucket", "burst": 3}
    async with balancing(Backend(), rate_limit=limit) as balancer:
        began = time.monotonic()
        found = await passing(balancer, 8)
        assert 3 <= found <= 3 + 20 * (time.monotonic() - began) + 0.1
        await asyncio.sleep(0.12)
        found += await passing(balancer, 8)
        assert 5 <= found <= 3 + 20 * (time.monotonic() - began) + 0.1


# keys


async def test_the_short_form_limits_each_client() -> None:
    async with balancing(Backend(), top=LOCAL, rate_limit="2/1h") as balancer:
        assert await passing(balancer, 4, of("198.51.100.1")) == 2
        assert await passing(balancer, 4, of("198.51.100.2")) == 2
        assert await passing(balancer, 4, of("::ffff:198.51.100.2")) == 0, "the same address"


async def test_v6_clients_count_by_their_64() -> None:
    async with balancing(Backend(), top=LOCAL, rate_limit="3/1h") as balancer:
        of_one = [of(f"2001:db8:1:2::{number:x}") for number in range(6)]
        assert await statuses(balancer, *of_one) == [200] * 3 + [429] * 3
        assert await passing(balancer, 4, of("2001:db8:1:3::1")) == 3


async def test_a_client_without_trust_is_counted_by_its_own_address() -> None:
    async with balancing(Backend(), rate_limit="3/1h") as balancer:
        assert await statuses(balancer, *[of(f"198.51.100.{number}") for number in range(5)]) == [200] * 3 + [429] * 2


@pytest.mark.parametrize(
    ("key", "form"), [("header:X-Api-Key", "X-Api-Key: {}"), ("cookie:sid", "Cookie: a=1; sid={}")]
)
async def test_by_header_or_cookie_and_without_it_by_address(key: str, form: str) -> None:
    limit = {"requests": 2, "window": "1h", "key": key}
    async with balancing(Backend(), top=LOCAL, rate_limit=limit) as balancer:
        assert await passing(balancer, 4, request("/", b"", form.format("one"))) == 2
        assert await passing(balancer, 4, request("/", b"", form.format("two" * 500))) == 2
        assert await passing(balancer, 4, of("198.51.100.1")) == 2
        assert await passing(balancer, 4, request("/", b"", form.format("198.51.100.2"))) == 2
        assert await passing(balancer, 4, of("198.51.100.2")) == 2, "nobody uses up the count of an address"


async def test_by_path_and_by_route() -> None:
    limits = [{"requests": 2, "window": "1h", "key": "path"}, {"requests": 5, "window": "1h", "key": "route"}]
    async with balancing(Backend(), rate_limit=limits) as balancer:
        assert await passing(balancer, 3, request("/a?x=1")) == 2
        assert await passing(balancer, 1, request("/a?x=2")) == 0
        assert await passing(balancer, 3, request("/b")) == 2
        assert await passing(balancer, 3, request("/c")) == 1, "the route has used up its five"


async def test_by_a_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lb_keys_live.py").write_text(
        "def tenant(exchange):\n"
        "    if exchange.path == '/broken':\n"
        "        raise LookupError('no tenant')\n"
        "    return exchange.headers.get('x-tenant')\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    limit = {"requests": 2, "window": "1h", "key": "lb_keys_live:tenant"}
    async with balancing(Backend(), rate_limit=limit) as balancer:
        assert await passing(balancer, 4, request("/", b"", "X-Tenant: blue")) == 2
        assert await passing(balancer, 4) == 4, "None is not limited"
        assert (await balancer.ask(request("/broken"))).status == 500, "never let through"


# exempt, dry run, several


async def test_exempt_clients() -> None:
    limit = {"requests": 1, "window": "1h", "key": "route", "exempt": ["198.51.100.0/24", "2001:db8::/32"]}
    async with balancing(Backend(), top=LOCAL, rate_limit=limit) as balancer:
        assert await passing(balancer, 5, of("198.51.100.77")) == 5
        assert await passing(balancer, 5, of("2001:db8::77")) == 5
        assert await passing(balancer, 5, of("203.0.113.1")) == 1


async def test_a_dry_run_flags_and_refuses_nobody() -> None:
    limit = {"requests": 2, "window": "1h", "dry_run": True, "headers": "draft"}
    async with balancing(Backend(), rate_limit=limit) as balancer, await balancer.client() as client:
        answers = [await client.ask(GET) for _ in range(4)]
        assert [answer.status for answer in answers] == [200] * 4
        assert not any("ratelimit" in answer for answer in answers)
        assert [exchange.flags for exchange in balancer.completed] == [(), (), ("rate_limited",), ("rate_limited",)]


async def test_a_request_that_one_limit_refuses_counts_in_no_other() -> None:
    limits = [{"requests": 6, "window": "1h", "key": "route"}, "2/1h"]
    async with balancing(Backend(), top=LOCAL, rate_limit=limits) as balancer:
        assert await passing(balancer, 10, of("198.51.100.1")) == 2
        assert await passing(balancer, 10, of("198.51.100.2")) == 2
        assert await passing(balancer, 10, of("198.51.100.3")) == 2
        assert await passing(balancer, 10, of("198.51.100.4")) == 0


async def test_a_flood_is_one_event() -> None:
    async with balancing(Backend(), rate_limit="1/1h") as balancer:
        assert await passing(balancer, 100) == 1
        (event,) = [each for each in balancer.observer.events if each.kind == "rate_limited"]
        assert event.route == "*"
        assert event.details["client"] == "127.0.0.1"


# requests under way


def under_way(balancer: Running) -> int:
    (feature,) = [built for name, built in balancer.balancer.routes["*"].parts if name == "rate_limit"]
    return len(feature.limits[0].algorithm.counters)


def waiting(gate: asyncio.Event) -> Backend:
    async def wait(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"done"))

    return Backend(wait)


CONCURRENCY: dict[str, Any] = {"requests": 2, "algorithm": "concurrency"}


async def test_concurrency_counts_what_is_under_way() -> None:
    gate = asyncio.Event()
    backend = waiting(gate)
    async with balancing(backend, rate_limit=CONCURRENCY | {"headers": "draft"}) as balancer:
        asking = [asyncio.create_task(balancer.ask(GET)) for _ in range(2)]
        await until(lambda: len(backend.requests) == 2)
        refused = await balancer.ask(GET)
        assert (refused.status, refused["retry-after"]) == (429, b"1")
        assert refused["ratelimit-policy"] == b'"default";q=2;qu="concurrent-requests"'
        assert refused["ratelimit"] == b'"default";r=0'
        gate.set()
        answers: list[Message] = [await each for each in asking]
        assert [answer.status for answer in answers] == [200, 200]
        assert under_way(balancer) == 0
        assert await passing(balancer, 5) == 5


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_client_that_leaves_is_no_longer_under_way(how: str) -> None:
    backend = waiting(asyncio.Event())
    async with balancing(backend, rate_limit=CONCURRENCY) as balancer:
        for number in (1, 2, 3):
            clients = [await balancer.client() for _ in range(2)]
            for client in clients:
                await client.send(GET)
            await until(lambda number=number: len(backend.requests) == 2 * number)
            assert (await balancer.ask(GET)).status == 429
            for client in clients:
                client.reset() if how == "reset" else client.writer.close()
            await until(lambda: under_way(balancer) == 0)


async def test_a_request_that_fails_is_no_longer_under_way() -> None:
    bad = Backend((RESET,))
    async with balancing(bad, ejection=False, rate_limit=CONCURRENCY) as balancer:
        assert await statuses(balancer, *[GET] * 6) == [502] * 6
        assert under_way(balancer) == 0


# reloads


def reload(balancer: Running, backend: Backend, **route: Any) -> None:
    balancer.balancer.apply(config_from_tree(tree([backend], **route), balancer.balancer.plugins))


async def test_counts_survive_a_reload_and_a_changed_limit_applies_at_once() -> None:
    async with balancing(backend := Backend(), rate_limit="5/1h") as balancer:
        assert await passing(balancer, 3) == 3
        reload(balancer, backend, rate_limit="5/1h", timeouts={"idle": "7s"})
        assert await passing(balancer, 5) == 2
        reload(balancer, backend, rate_limit="8/1h")
        assert await passing(balancer, 5) == 3
        reload(balancer, backend, rate_limit="1/1h")
        assert await passing(balancer, 5) == 0
        reload(balancer, backend, rate_limit={"requests": 2, "window": "1h", "key": "route"})
        assert await passing(balancer, 5) == 2, "another key begins anew"


async def test_a_request_under_way_over_a_reload_is_counted_once() -> None:
    gate = asyncio.Event()
    async with balancing(backend := waiting(gate), rate_limit=CONCURRENCY) as balancer:
        asking = asyncio.create_task(balancer.ask(GET))
        await until(lambda: backend.requests)
        reload(balancer, backend, rate_limit=CONCURRENCY | {"requests": 1})
        assert (await balancer.ask(GET)).status == 429
        gate.set()
        assert (await asking).status == 200
        assert under_way(balancer) == 0
        assert await passing(balancer, 3) == 3


async def test_explaining_a_request_does_not_count_it() -> None:
    async with balancing(Backend(), rate_limit="1/1h") as balancer:
        for _ in range(3):
            assert balancer.balancer.explain("GET", "http://example.com/").outcome.startswith("sent to")
        assert await passing(balancer, 2) == 1
