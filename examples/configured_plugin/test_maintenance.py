"""The plugin inside a real balancer that serves a real application, and its parts by themselves."""

import asyncio
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import httpx
import pytest

import lb_maintenance
from lb_core import Backend, ConfigError, LoadBalancer
from lb_core.config import config_from_tree
from lb_core.plugins import Plugins
from lb_maintenance import Maintenance, MaintenanceSettings, ZoneFirst, ZoneFirstSettings

SIX = datetime(2030, 1, 31, 6, tzinfo=UTC)


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that says hello."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def answer_to(client: str, **route: Any) -> httpx.Response:
    """What a client gets through a balancer that has the plugin."""
    async with await asyncio.start_server(page, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        plugins = installed(lb_maintenance)
        tree = {"routes": {"example.com": {"backends": {"web": f"127.0.0.1:{port}"}, **route}}}
        balancer = LoadBalancer(config_from_tree(tree, plugins, source="test"), plugins=plugins)
        transport = httpx.ASGITransport(app=balancer, client=(client, 50000))
        async with balancer.lifespan(), httpx.AsyncClient(transport=transport) as browser:
            return await browser.get("http://example.com/")


def installed(module: ModuleType) -> Plugins:
    return Plugins.discover(disable=["lb-maintenance"], extra=[module])


async def test_a_visitor_is_told_when_to_come_back() -> None:
    answer = await answer_to("192.0.2.7", maintenance={"message": "back at six", "retry_after": "30m"})
    assert (answer.status_code, answer.text) == (503, "back at six\n")
    assert answer.headers["retry-after"] == "1800"


async def test_the_short_form_is_the_message() -> None:
    assert (await answer_to("192.0.2.7", maintenance="back soon")).text == "back soon\n"


async def test_those_excepted_get_through_and_are_told_so() -> None:
    answer = await answer_to("10.1.2.3", maintenance={"except": ["10.0.0.0/8"]})
    assert (answer.status_code, answer.text) == (200, "hello")
    assert answer.headers["x-maintenance"] == "on"


async def test_it_ends_by_itself() -> None:
    answer = await answer_to("192.0.2.7", maintenance={"until": "2020-01-01T00:00:00Z"})
    assert answer.status_code == 200
    assert "x-maintenance" not in answer.headers


def test_the_clock_decides() -> None:
    now = [SIX.timestamp() - 1]
    feature = Maintenance(MaintenanceSettings(until=SIX), clock=lambda: now[0])
    assert not feature.over
    now[0] += 1
    assert feature.over


def test_mistakes_in_the_settings_are_named_with_their_place() -> None:
    tree = {"routes": {"example.com": {"backends": ["127.0.0.1:1"], "maintenance": {"retry_after": 30}}}}
    with pytest.raises(ConfigError, match=r"routes\.example\.com\.maintenance\.retry_after"):
        config_from_tree(tree, installed(lb_maintenance), source="test")


def test_the_zone_is_left_only_when_it_is_busy() -> None:
    near = Backend("near", "127.0.0.1", 1, zone="a")
    far = Backend("far", "127.0.0.1", 2, zone="b")
    strategy = ZoneFirst(ZoneFirstSettings(zone="a", spill=2))
    chosen = []
    for _ in range(4):
        chosen.append(strategy.select_backend((near, far)).name)
        (near if chosen[-1] == "near" else far).in_flight += 1
    assert chosen == ["near", "near", "far", "far"]


async def test_the_strategy_takes_its_settings_from_the_long_form() -> None:
    answer = await answer_to("192.0.2.7", strategy={"name": "zone_first", "zone": "a"})
    assert answer.text == "hello"
