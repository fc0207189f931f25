"""Copies of requests for another pool: how many, what they hold, and that nobody waits for them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import Response, hookimpl
from lb_core.config import config_from_tree
from lb_core.errors import ConfigError
from lb_core.plugins import Plugins
from tests.support.backends import CLOSE, EARLY, RESET, Backend, Request, refusing, unresponsive
from tests.support.balancing import Running, balancing, until
from tests.support.wire import chunked, request, response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lb_core import Exchange
    from lb_split import Mirror

GET = request()


@asynccontextmanager
async def mirroring(
    original: Backend, shadow: Backend | str, *, plugins: tuple[object, ...] = (), **settings: Any
) -> AsyncIterator[Running]:
    """A balancer before `original` that sends `shadow` a copy of everything, or of what the settings say."""
    route = {
        key: settings.pop(key) for key in ("host_header", "strip_prefix", "timeouts", "ejection") if key in settings
    }
    async with AsyncExitStack() as stack:
        for each in (original, shadow):
            if isinstance(each, Backend):
                await stack.enter_async_context(each)
        tree = {
            "listeners": {"web": "127.0.0.1:0"},
            "access_log": False,
            "routes": {
                "*": {"backends": [original.address], "mirror": {"use": "shadow", "percent": 100, **settings}, **route}
            },
            "pools": {"shadow": {"backends": [shadow if isinstance(shadow, str) else shadow.address]}},
        }
        async with balancing(config=tree, plugins=plugins) as balancer:
            yield balancer
            await until(lambda: not mirror_of(balancer).in_flight, within=4)


def mirror_of(balancer: Running) -> Mirror:
    return dict(balancer.balancer.routes["*"].parts)["mirror"]


async def copied(balancer: Running, shadow: Backend, count: int) -> None:
    """Wait until so many copies have arrived and are answered, and see that no more do."""
    await until(lambda: len(shadow.requests) >= count and not mirror_of(balancer).in_flight)
    await asyncio.sleep(0.02)
    assert len(shadow.requests) == count


@pytest.mark.parametrize(("percent", "expected"), [(10, 20), ("12.5%", 25), (100, 200), (0.5, 1)])
async def test_exactly_so_many_percent_are_copied(percent: Any, expected: int) -> None:
    original, shadow = Backend(), Backend()
    async with mirroring(original, shadow, percent=percent) as balancer:
        async with await balancer.client() as client:
            for _ in range(200):
                assert (await client.ask(GET)).body == b"backend"
        await copied(balancer, shadow, expected)
        assert len(original.requests) == 200
        assert sum("mirrored" in exchange.flags for exchange in balancer.completed) == expected


async def test_percent_must_be_given() -> None:
    tree = {
        "routes": {"*": {"backends": ["127.0.0.1:1"], "mirror": "shadow"}},
        "pools": {"shadow": {"backends": ["127.0.0.1:2"]}},
    }
    with pytest.raises(ConfigError, match=r'mirror.percent: the key "percent" is missing'):
        config_from_tree(tree, Plugins.discover(), source="lb.yaml")


async def test_a_copy_is_the_request_as_the_backend_got_it() -> None:
    original, shadow = Backend(), Backend()
    async with mirroring(original, shadow) as balancer:
        fields = ("Cookie: a=b", "X-Forwarded-For: 6.6.6.6", "Connection: keep-alive, X-Hop", "X-Hop: 1", "X-Two: 1")
        await balancer.ask(request("/a%20b?c=d", b"", *fields, "X-Two: 2", method="DELETE"))
        await copied(balancer, shadow, 1)
        (first,), (second,) = original.messages, shadow.messages
        assert second.start == first.start == b"DELETE /a%20b?c=d HTTP/1.1"
        assert "x-hop" not in second
        assert second["x-lb-mirror"] == b"1"
        assert [each for each in second.fields if each[0] != b"x-lb-mirror"] == [
            each for each in first.fields if each[0] != b"connection"
        ]
        assert second["x-forwarded-for"] == b"127.0.0.1"


async def test_what_a_plugin_rewrote_is_copied_too() -> None:
    class Rewriting:
        @hookimpl
        def before_request(self, exchange: Exchange) -> None:
            exchange.rewrite("/new?x=1")
            exchange.headers["X-Added"] = "yes"

    original, shadow = Backend(), Backend()
    async with mirroring(original, shadow, plugins=(Rewriting(),), host_header="backend") as balancer:
        await balancer.ask(request("/old"))
        await copied(balancer, shadow, 1)
        (message,) = shadow.messages
        assert (message.target, message["x-added"]) == (b"/new?x=1", b"yes")
        assert message["host"] == shadow.address.encode()


BODY = bytes(range(256)) * 100


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("pieces", [1, 7], ids=["whole", "in pieces"])
async def test_the_body_of_a_post_is_the_same(framing: str, pieces: int) -> None:
    original, shadow = Backend(), Backend()
    async with mirroring(original, shadow) as balancer:
        if framing == "length":
            data = request("/", BODY)
        else:
            data = request("/", b"", "Transfer-Encoding: chunked", method="POST") + chunked(BODY[:5000], BODY[5000:])
        size = len(data) // pieces + 1
        async with await balancer.client() as client:
            parts: list[bytes | float] = []
            for at in range(0, len(data), size):
                parts += [data[at : at + size], 0.01]
            await client.send(*parts)
            assert (await client.answer(b"POST")).status == 200
        await copied(balancer, shadow, 1)
        assert original.messages[0].body == shadow.messages[0].body == BODY
        assert shadow.messages[0]["content-length"] == b"%d" % len(BODY)


async def test_a_post_without_a_body_is_copied() -> None:
    original, shadow = Backend(), Backend()
    async with mirroring(original, shadow) as balancer:
        await balancer.ask(request("/", b"", "Content-Length: 0", method="POST"))
        await copied(balancer, shadow, 1)
        assert shadow.messages[0]["content-length"] == b"0"


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_longer_body_is_not_copied_and_counted(framing: str) -> None:
    original, shadow = Backend(), Backend()
    async with mirroring(original, shadow, max_body="1KiB") as balancer:
        for size, copies in ((1024, 1), (1025, 1), (300_000, 1)):
            body = b"x" * size
            if framing == "length":
                data = request("/", body)
            else:
                data = request("/", b"", "Transfer-Encoding: chunked", method="POST") + chunked(body)
            assert (await balancer.ask(data)).status == 200
            await copied(balancer, shadow, copies)
        assert mirror_of(balancer).skipped == {"body": 2, "in flight": 0}
        assert [len(message.body) for message in original.messages] == [1024, 1025, 300_000]
        assert "2 for their body" in mirror_of(balancer).describe()


async def test_a_backend_that_answers_before_the_body_has_ended() -> None:
    original, shadow = Backend((EARLY, response(b"early"), 0.1)), Backend()
    async with mirroring(original, shadow) as balancer, await balancer.client() as client:
        await client.send(request("/", BODY)[:300])
        assert (await client.answer(b"POST")).body == b"early"
        await until(lambda: mirror_of(balancer).skipped["body"] == 1)
        assert not shadow.requests


# nobody waits


async def test_a_slow_shadow_delays_nobody_and_its_copies_end_after_the_timeout() -> None:
    original, shadow = Backend(), Backend((5.0, response(b"late")))
    async with mirroring(original, shadow, timeout="300ms") as balancer:
        async with await balancer.client() as client:
            for _ in range(20):
                answer = await client.ask(GET, within=0.25)
                assert answer.body == b"backend"
        assert max(exchange.duration for exchange in balancer.completed) < 0.2
        await until(lambda: not mirror_of(balancer).in_flight, within=1.5)
        assert mirror_of(balancer).failed == 20
        assert balancer.balancer.pools["shadow"].backends[0].in_flight == 0


@pytest.mark.parametrize("how", ["refused", "unresponsive", "reset", "no HTTP", "endless"])
async def test_a_shadow_that_is_dead_fails_no_request(how: str) -> None:
    async def endless(seen: Request) -> None:
        seen.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            seen.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            await seen.connection.writer.drain()

    with refusing() as refused, unresponsive() as silent:
        shadows: dict[str, Backend | str] = {
            "refused": refused,
            "unresponsive": silent,
            "reset": Backend((RESET,)),
            "no HTTP": Backend(b"SSH-2.0\r\n\r\n"),
            "endless": Backend(endless),
        }
        async with mirroring(Backend(), shadows[how], timeout="300ms") as balancer:
            async with await balancer.client() as client:
                for _ in range(5):
                    assert (await client.ask(request("/", b"body"), within=0.25)).status == 200
            await until(lambda: not mirror_of(balancer).in_flight, within=1.5)
            assert mirror_of(balancer).failed == (0 if how == "endless" else 5)
            assert not balancer.errors


async def test_copies_beyond_the_cap_are_left_out_and_counted() -> None:
    gate = asyncio.Event()

    async def wait(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"at last"))

    original, shadow = Backend(), Backend(wait)
    async with mirroring(original, shadow, max_in_flight=3) as balancer:
        for _ in range(8):
            assert (await balancer.ask(GET)).status == 200
        await until(lambda: len(shadow.requests) == 3)
        assert mirror_of(balancer).in_flight == 3
        assert mirror_of(balancer).skipped == {"body": 0, "in flight": 5}
        assert sum("mirrored" in exchange.flags for exchange in balancer.completed) == 3
        gate.set()
        await until(lambda: not mirror_of(balancer).in_flight)
        await balancer.ask(GET)
        await copied(balancer, shadow, 4)


async def test_connections_to_the_shadow_are_kept() -> None:
    original, shadow = Backend(), Backend()
    async with mirroring(original, shadow) as balancer:
        for count in range(1, 6):
            await balancer.ask(GET)
            await copied(balancer, shadow, count)
        assert len(shadow.connections) == 1


# what is not copied


async def test_what_is_a_copy_is_not_copied_again() -> None:
    original, shadow = Backend(), Backend()
    async with mirroring(original, shadow) as balancer:
        assert (await balancer.ask(request("/", b"", "X-LB-Mirror: 1"))).status == 200
        await copied(balancer, shadow, 0)


async def test_what_never_went_out_is_not_copied() -> None:
    class Answering:
        @hookimpl
        def before_request(self, exchange: Exchange) -> Response | None:
            return Response(403) if exchange.path == "/no" else None

    original, shadow = Backend(), Backend()
    async with mirroring(original, shadow, plugins=(Answering(),), ejection=False) as balancer:
        assert (await balancer.ask(request("/no"))).status == 403
        await original.stop()
        assert (await balancer.ask(GET)).status == 502
        await copied(balancer, shadow, 0)
        assert mirror_of(balancer).skipped == {"body": 0, "in flight": 0}


async def test_what_was_taken_and_not_answered_is_copied() -> None:
    original, shadow = Backend((RESET,)), Backend()
    async with mirroring(original, shadow) as balancer:
        assert (await balancer.ask(request("/", b"body"))).status == 502
        await copied(balancer, shadow, 1)
        assert shadow.messages[0].body == b"body"


async def test_a_websocket_is_not_copied() -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    original, shadow = Backend((switched, 0.05, CLOSE)), Backend()
    async with mirroring(original, shadow) as balancer, await balancer.client() as client:
        fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
        assert (await client.ask(request("/", b"", *fields))).status == 101
        await client.end()
        await copied(balancer, shadow, 0)


# reload and end


async def test_copies_outlive_a_reload_and_end_when_the_mirror_is_switched_off() -> None:
    gate = asyncio.Event()

    async def second_waits(seen: Request) -> None:
        if len(original.requests) == 2:
            await gate.wait()
        seen.write(response(b"original"))

    original, shadow = Backend(second_waits), Backend((5.0, response(b"late")))
    async with original, shadow:
        route: dict[str, Any] = {"backends": [original.address], "mirror": {"use": "shadow", "percent": 100}}
        tree: dict[str, Any] = {
            "listeners": {"web": "127.0.0.1:0"},
            "access_log": False,
            "routes": {"*": route},
            "pools": {"shadow": {"backends": [shadow.address]}},
        }
        async with balancing(config=tree) as balancer:
            lb = balancer.balancer
            await balancer.ask(GET)
            await until(lambda: len(shadow.requests) == 1)
            first = mirror_of(balancer)
            route["max_body"] = "1MiB"
            lb.apply(config_from_tree(tree, lb.plugins, source="test"))
            second = mirror_of(balancer)
            assert second is not first
            assert (second.in_flight, second.copied) == (1, 1)
            slow = asyncio.create_task(balancer.ask(GET))
            await until(lambda: len(original.requests) == 2)
            route["mirror"] = False
            lb.apply(config_from_tree(tree, lb.plugins, source="test"))
            await until(lambda: not lb.pools["shadow"].backends[0].in_flight, within=0.5)
            assert not second.in_flight
            gate.set()
            assert (await slow).status == 200  # began before the change, and is not copied after it
            assert len(shadow.requests) == 1
