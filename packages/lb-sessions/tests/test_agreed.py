"""One secret for the processes and nodes that serve a route, where the configuration gives none."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import Backend, Exchange, Pool, Route
from lb_core.config import RouteConfig
from lb_core.testing.together import Together, joined
from lb_sessions import build
from lb_sessions import secret as module
from lb_sessions.by_cookie import CookieSessions
from lb_sessions.secret import SIZE
from lb_sessions.settings import StickySettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lb_core.sharing import Sharing


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test is a process of its own."""
    for cached in (module._warn, module._of_this_process):
        cached.cache_clear()
    yield
    for cached in (module._warn, module._of_this_process):
        cached.cache_clear()


class Process:
    """One process with the route `shop`."""

    def __init__(self, sharing: Sharing, path: Path, **settings: Any) -> None:
        self.sharing = sharing
        self.pool = Pool("shop", [Backend("a", "127.0.0.1", 1, id="shop/a"), Backend("b", "127.0.0.1", 2, id="shop/b")])
        self.route = Route(RouteConfig(name="shop", host="shop", pool="shop"), self.pool, sharing)
        made = build(self.route, StickySettings(secret_file=str(path), **settings))
        assert isinstance(made, CookieSessions)
        self.sessions = made

    def start(self) -> Process:
        self.sessions.start()
        self.sessions.ready()
        return self

    def exchange(self, head: str = "") -> Exchange:
        where: Any = SimpleNamespace(peer="192.0.2.1", scheme="http", port=80)
        return Exchange(self.route, where, "192.0.2.1", b"GET", b"/", b"shop", f"GET / HTTP/1.1\r\n{head}\r\n".encode())

    def cookie(self, backend: Backend) -> str:
        """What a new client of a backend gets."""
        exchange = self.exchange()
        assert self.sessions.select_backend(exchange, self.pool.candidates) is None
        exchange.backend = backend
        self.sessions.on_response(exchange)
        return exchange.response_headers["Set-Cookie"].partition(";")[0]

    def owner(self, cookie: str) -> str:
        """Whose client has that cookie."""
        found = self.sessions.select_backend(self.exchange(f"Cookie: {cookie}\r\n"), self.pool.candidates)
        return found.name if found is not None else ""

    def understands(self, other: Process) -> bool:
        return all(self.owner(other.cookie(each)) == each.name for each in other.pool.backends)


async def start(together: Together, path: Path, **settings: Any) -> list[Process]:
    """The control process first, as it is when a balancer starts."""
    processes = [Process(each, path, **settings).start() for each in (together.control, *together.workers)]
    await asyncio.sleep(0)
    return processes


def agree(processes: list[Process]) -> bool:
    return all(one.understands(other) for one in processes for other in processes)


async def test_workers_read_the_file_that_the_control_process_has_made(tmp_path: Path) -> None:
    processes = await start(Together(2), tmp_path / "data" / "key")
    assert agree(processes)
    assert os.listdir(tmp_path / "data") == ["key"]


async def test_workers_agree_where_no_file_can_be_had(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    together = Together(2)
    with caplog.at_level(logging.WARNING, logger="lb.sessions"):
        control = Process(together.control, tmp_path).start()
        workers = []
        for sharing in together.workers:
            module._of_this_process.cache_clear()  # what a process draws for itself is another's not
            workers.append(Process(sharing, tmp_path).start())
        await asyncio.sleep(0)
    assert agree([control, *workers])
    assert len(caplog.records) == 1, "said once"
    module._of_this_process.cache_clear()
    late = Process(together.add(), tmp_path)
    late.sessions.start()
    together.welcome(late.sharing)
    late.sessions.ready()
    await asyncio.sleep(0)
    assert agree([control, *workers, late])


async def test_nodes_take_the_older_secret_and_keep_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, other = Together(2), Together(2)
    paths = tmp_path / "one", tmp_path / "other"
    for path, since in zip(paths, (2000.0, 1000.0), strict=True):
        path.write_bytes(path.name.encode() * SIZE)
        os.utime(path, (since, since))
    first, second = await start(one, paths[0]), await start(other, paths[1])
    cookie = second[0].cookie(second[0].pool.backends[1])
    assert first[0].owner(cookie) == ""
    with caplog.at_level(logging.WARNING, logger="lb.sessions"):
        joined(one, other)
        await asyncio.sleep(0)
    assert agree([*first, *second])
    assert first[1].owner(cookie) == "b", "the older node's clients stay where they are"
    assert paths[0].read_bytes() == b"other" * SIZE
    assert (paths[0].stat().st_mtime, paths[0].stat().st_mode & 0o777) == (1000.0, 0o600)
    (record,) = caplog.records
    assert "another node's secret for sticky cookies is older" in record.getMessage()
    assert sorted(os.listdir(tmp_path)) == ["one", "other"]


async def test_a_newcomer_with_a_younger_secret_is_told(tmp_path: Path) -> None:
    """Though only its own message is heard, as after a cut."""
    one, other = Together(1), Together(1)
    for name, since in (("one", 1000.0), ("other", 2000.0)):
        (tmp_path / name).write_bytes(name.encode() * SIZE)
        os.utime(tmp_path / name, (since, since))
    first, second = await start(one, tmp_path / "one"), await start(other, tmp_path / "other")
    joined(one, other)
    await asyncio.sleep(0)
    for topic, message in other.control.snapshots():
        one.control.deliver(topic, message)
    await asyncio.sleep(0)
    assert agree([*first, *second])


async def test_of_the_same_age_one_is_the_same_for_both(tmp_path: Path) -> None:
    nodes = [Together(1), Together(1)]
    processes = []
    for number, together in enumerate(nodes):
        path = tmp_path / str(number)
        path.write_bytes(str(number).encode() * SIZE)
        os.utime(path, (5.0, 5.0))
        processes += await start(together, path)
    joined(*nodes)
    await asyncio.sleep(0)
    assert agree(processes)


async def test_a_secret_of_the_configuration_is_sent_to_nobody(tmp_path: Path) -> None:
    together = Together(1)
    processes = await start(together, tmp_path / "key", secret="sixteen characters, or more")
    assert agree(processes)
    assert not together.control.snapshots()
    assert not together.sent
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("message", [{"secret": "00", "since": 0.0}, {"secret": "00" * 5000, "since": 0.0}])
async def test_what_is_no_secret_is_not_taken(tmp_path: Path, message: dict[str, Any]) -> None:
    together = Together(1)
    control, worker = await start(together, tmp_path / "key")
    before = control.sessions.secret.made()
    together.control.deliver("sticky_sessions/shop", message)
    assert control.sessions.secret.made() == worker.sessions.secret.made() == before


def test_who_only_checks_a_configuration_makes_no_file_and_asks_nobody(tmp_path: Path) -> None:
    together = Together(1)
    for sharing in (together.control, *together.workers):
        made = Process(sharing, tmp_path / "key")
        made.sessions.start()
        made.sessions.close()
    assert not os.listdir(tmp_path)


async def test_clients_are_counted_in_the_sum_of_the_workers(tmp_path: Path) -> None:
    control, first, second = await start(Together(2), tmp_path / "key")
    first.cookie(first.pool.backends[0])
    second.cookie(second.pool.backends[0])
    moved = second.cookie(second.pool.backends[1])
    second.pool.set_health(second.pool.backends[1], "down")
    exchange = second.exchange(f"Cookie: {moved}\r\n")
    second.sessions.select_backend(exchange, second.pool.candidates)
    exchange.backend = second.pool.backends[0]
    second.sessions.on_response(exchange)
    assert control.sessions.describe() == "cookie lb_sticky: 3 clients given a backend, 1 moved to another"
    for each in (control, first, second):
        old = each.sessions
        new = build(each.route, old.settings)
        assert isinstance(new, CookieSessions)
        new.inherit(old)
        old.close()
        new.start()
        each.sessions = new
    assert control.sessions.describe() == "cookie lb_sticky: 3 clients given a backend, 1 moved to another"
    assert agree([control, first])
