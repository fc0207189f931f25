"""Reload after reload: of routes and backends that were replaced nothing stays."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path
from typing import Any

from lb_core.backend import Backend as Served
from lb_core.config import config_from_tree
from lb_core.defaults import access_log
from lb_core.pool import Pool
from lb_core.route import Route
from lb_core.table import Table
from tests.support.backends import Backend
from tests.support.balancing import balancing, tree, until
from tests.support.wire import request

KINDS = (Served, Route, Pool, Table)
RELOADS = 10


def alive() -> Counter[str]:
    """How many of what a reload replaces there are."""
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    return Counter(kind.__name__ for kind in kinds if kind in KINDS)


def changing(index: int, backend: Backend, log: Path) -> dict[str, Any]:
    """A configuration that differs from the one before in a route's settings, a backend's name and a pool's."""
    made = tree(
        {"stays": backend, f"comes-{index}": backend},
        health_check={"path": "/health", "interval": "200ms"},
        timeouts={"connect": f"{index + 1}s"},
        top={"access_log": {"file": str(log)}},
    )
    made["routes"][f"only-{index}.example"] = {"backends": [backend.address], "health_check": "/health"}
    return made


async def test_what_a_reload_has_replaced_is_gone(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(access_log, "FLUSH_EVERY", 0.05)
    backend = Backend()
    async with backend, balancing(backend, config=changing(0, backend, tmp_path / "log")) as balancer:
        lb = balancer.balancer

        async def one_more(index: int) -> None:
            lb.apply(config_from_tree(changing(index, backend, tmp_path / "log"), lb.plugins))
            assert (await balancer.ask(request())).status == 200
            assert (await balancer.ask(request(host=f"only-{index}.example"))).status == 200
            await until(lambda: lb.pools["*"].backends[1].health == "up")

        for index in range(1, 4):
            await one_more(index)
        balancer.observer.completed.clear()
        await asyncio.sleep(0.2)
        before = alive()
        for index in range(4, 4 + RELOADS):
            await one_more(index)
        balancer.observer.completed.clear()
        await asyncio.sleep(0.2)
        after = alive()
        assert after == before
