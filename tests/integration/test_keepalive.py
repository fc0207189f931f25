"""Connections are kept on both sides as long as both mean to, and never longer than that is safe."""

from __future__ import annotations

import asyncio

import pytest

from lb_core.config import config_from_tree
from lb_core.engine import connections
from tests.support.backends import CLOSE, Backend, Request
from tests.support.balancing import balancing, tree, until
from tests.support.wire import chunked, request, response

KNOWN = {
    "listeners": {"web": "127.0.0.1:0"},
    "access_log": False,
    "routes": {"known.example": {"backends": ["127.0.0.1:9"]}},
}


@pytest.mark.parametrize("body", [b"", b"a body"], ids=["GET", "POST"])
async def test_one_connection_on_either_side_serves_many_requests(body: bytes) -> None:
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(50):
            answer = await client.ask(request("/", body))
            assert "connection" not in answer
        assert len(backend.connections) == 1
        assert await client.silent(0.05)


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "close, x-gone"])
async def test_a_client_that_wants_to_close_is_told_so_and_closed(value: str) -> None:
    backend = Backend()
    async with balancing(backend) as balancer:
        for _ in range(3):
            async with await balancer.client() as client:
                answer = await client.ask(request("/", b"", f"Connection: {value}"))
                assert answer["connection"] == b"close"
                assert await client.end() == b""
        assert len(backend.connections) == 1, "the backend's connection is not the client's"
        assert all("connection" not in message for message in backend.messages)


async def test_requests_behind_the_last_one_are_not_served() -> None:
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        answer = await client.ask(request("/last", b"", "Connection: close") + request("/more"))
        assert answer.status == 200
        assert await client.end() == b""
        assert [message.target for message in backend.messages] == [b"/last"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_backend_that_closes_costs_the_client_nothing(framing: str) -> None:
    raw = response(b"bye", "Connection: close")
    if framing == "chunked":
        raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"bye")
    backend = Backend((raw, CLOSE))
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(3):
            answer = await client.ask(request())
            assert answer.body == b"bye"
            assert "connection" not in answer
        assert len(backend.connections) == 3


async def test_a_backend_that_announces_its_close_is_not_asked_again_there() -> None:
    backend = Backend(response(b"bye", "Connection: close"))  # and does not close
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(3):
            assert (await client.ask(request())).body == b"bye"
        assert len(backend.connections) == 3
        await until(lambda: all(connection.ended.is_set() for connection in backend.connections))


async def test_answers_of_our_own_keep_the_connection() -> None:
    async with balancing(config={**KNOWN, "no_route_status": 421}) as balancer:
        assert (await balancer.ask(request(host="unknown.example"))).status == 421
    async with balancing(config=KNOWN) as balancer, await balancer.client() as client:
        for _ in range(3):
            answer = await client.ask(request(host="unknown.example"))
            assert (answer.status, answer.body) == (404, b"no route\n")
            assert "connection" not in answer
            answer = await client.ask(request("/", b"", "Accept: application/json", host="unknown.example"))
            assert answer.body == b'{"error": "no_route", "detail": "no route"}'
            assert (await client.ask(request(host="unknown.example", method="HEAD"))).body == b""


async def test_an_answer_of_our_own_to_a_body_that_has_not_come_closes() -> None:
    async with balancing(config=KNOWN) as balancer, await balancer.client() as client:
        await client.send(request("/", b"", "Content-Length: 100", method="POST", host="unknown.example"))
        answer = await client.answer()
        assert (answer.status, answer["connection"]) == (404, b"close")
        await client.send(b"GET /smuggled HTTP/1.1\r\nHost: known.example\r\n\r\n")
        assert await client.end() == b""
        assert len(balancer.completed) == 1


async def test_the_freshest_idle_connection_is_taken() -> None:
    async def slow(seen: Request) -> None:
        await asyncio.sleep(0.03 if seen.message.target == b"/first" else 0.08)
        seen.write(response(b"ok"))

    backend = Backend(slow)
    async with balancing(backend) as balancer, await balancer.client() as one, await balancer.client() as two:
        await asyncio.gather(one.ask(request("/first")), two.ask(request("/last")))
        assert len(backend.connections) == 2
        backend.script = response(b"ok")
        for index in range(4):
            await one.ask(request(f"/again/{index}"))
        last = next(seen.connection for seen in backend.requests if seen.message.target == b"/last")
        assert all(seen.connection is last for seen in backend.requests[2:])


async def test_idle_connections_to_a_backend_are_closed_before_it_would_close_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "IDLE_LIMIT", 0.3)
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.ask(request())
        await asyncio.wait_for(backend.connections[0].ended.wait(), 1.5)
        await client.ask(request())
        assert len(backend.connections) == 2


async def test_a_backend_that_speaks_unasked_is_not_listened_to() -> None:
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.ask(request())
        backend.connections[0].writer.write(response(b"poison"))
        await asyncio.wait_for(backend.connections[0].ended.wait(), 1.0)
        assert (await client.ask(request())).body == b"backend"
        assert len(backend.connections) == 2


async def test_idle_connections_end_with_the_backend_and_with_the_balancer() -> None:
    backend, other = Backend(name="one"), Backend(name="two")
    async with other, balancing(backend) as balancer:
        await balancer.ask(request())
        balancer.balancer.apply(config_from_tree(tree([other]), balancer.balancer.plugins))
        await asyncio.wait_for(backend.connections[0].ended.wait(), 1.0)
        assert (await balancer.ask(request())).body == b"two"
    await asyncio.wait_for(other.connections[0].ended.wait(), 1.0)
