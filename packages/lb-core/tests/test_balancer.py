"""What a change of configuration keeps and what it replaces; what runs beside the requests."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from lb_core import Backend, ConfigError, Event, Feature, LbError, LoadBalancer, PluginError, Strategy, hookimpl
from lb_core.backend import NO_LIMIT
from lb_core.config import Config, config_from_tree
from lb_core.engine.upstream import Upstream
from lb_core.errors import StartError
from lb_core.plugins import Plugins

WEB = {"web1": "127.0.0.1:9001", "web2": "127.0.0.1:9002"}


class Hearing:
    """A plugin that remembers every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class Choosy(BaseModel):
    """Settings of the feature below."""

    fail: bool = False


class Featured:
    """A plugin with a feature and a strategy that fail to build when they are told to."""

    def __init__(self) -> None:
        self.broken_strategy = False

    @hookimpl
    def register_features(self) -> list[Feature]:
        return [Feature("choosy", self._feature, Choosy), Feature("absent", lambda route, settings: None, Choosy)]

    @hookimpl
    def register_strategies(self) -> list[Strategy]:
        return [Strategy("last", self._strategy)]

    def _feature(self, route: object, settings: Choosy) -> object:
        if settings.fail:
            raise RuntimeError("the settings were not liked")
        return object()

    def _strategy(self) -> object:
        if self.broken_strategy:
            raise PluginError("the strategy has had enough")
        return Last()


class Last:
    """A strategy."""

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        return candidates[-1]


HEARING, FEATURED = Hearing(), Featured()
PLUGINS = Plugins.discover(extra=[HEARING, FEATURED])


@pytest.fixture(autouse=True)
def _fresh() -> None:
    HEARING.events.clear()
    FEATURED.broken_strategy = False


def configured(backends: Any = None, *, plugins: Plugins = PLUGINS, **more: Any) -> Config:
    """A configuration of one route; `more` are keys of that route, or of the file."""
    tree: dict[str, Any] = {"access_log": False}
    tree |= {key: more.pop(key) for key in ("access_log", "trusted_proxies", "no_route_status", "pools") if key in more}
    tree["routes"] = {"shop.example": {"backends": WEB if backends is None else backends, **more}}
    return config_from_tree(tree, plugins)


def balanced(backends: Any = None, **more: Any) -> LoadBalancer:
    return LoadBalancer(configured(backends, **more), plugins=PLUGINS)


def only(balancer: LoadBalancer) -> tuple[Backend, ...]:
    (pool,) = balancer.pools.values()
    return pool.backends


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


# What a change keeps


def test_the_same_configuration_again_keeps_every_object() -> None:
    balancer = balanced(access_log="json")
    routes, pools, backends = dict(balancer.routes), dict(balancer.pools), only(balancer)
    candidates, table = backends and balancer.pools["shop.example"].candidates, balancer.table
    balancer.routes["shop.example"].requests = 7
    balancer.apply(configured(access_log="json"))
    assert all(balancer.routes[name] is route for name, route in routes.items())
    assert all(balancer.pools[name] is pool for name, pool in pools.items())
    assert all(now is before for now, before in zip(only(balancer), backends, strict=True))
    assert balancer.pools["shop.example"].candidates is candidates
    assert balancer.routes["shop.example"].requests == 7
    assert balancer.table is not table


def test_a_changed_weight_keeps_the_backend_and_renews_the_candidates() -> None:
    balancer = balanced()
    first, second = only(balancer)
    first.requests, candidates = 5, balancer.pools["shop.example"].candidates
    route = balancer.routes["shop.example"]
    changed = {"url": "http://127.0.0.1:9001", "weight": 3, "max_connections": 9, "zone": "b", "labels": {"cost": 1}}
    balancer.apply(configured({**WEB, "web1": changed}))
    assert only(balancer) == (first, second)
    assert (first.weight, first.max_connections, first.zone, first.labels) == (3, 9, "b", {"cost": 1})
    assert first.requests == 5
    assert balancer.routes["shop.example"] is route
    assert balancer.pools["shop.example"].candidates == candidates
    assert balancer.pools["shop.example"].candidates is not candidates
    balancer.apply(configured())
    assert (first.weight, first.max_connections, first.zone, first.labels) == (1, NO_LIMIT, "", {})


def test_a_changed_section_makes_a_new_route_that_goes_on_counting() -> None:
    balancer = balanced()
    route, pool = balancer.routes["shop.example"], balancer.pools["shop.example"]
    route.requests = 7
    balancer.apply(configured(max_body="1KiB"))
    changed = balancer.routes["shop.example"]
    assert changed is not route
    assert (changed.max_body, changed.requests) == (1024, 7)
    assert changed.pool is pool
    assert balancer.table.find(b"shop.example", b"GET", b"/") is changed


def test_a_route_that_is_gone_is_gone() -> None:
    balancer = balanced()
    balancer.apply(config_from_tree({"access_log": False, "routes": {"other.example": {"backends": ["a:1"]}}}, PLUGINS))
    assert list(balancer.routes) == list(balancer.pools) == ["other.example"]
    assert balancer.table.find(b"shop.example", b"GET", b"/") is None
    assert [backend.address for backend in balancer.engine.backends] == ["a:1"]


async def test_a_changed_address_makes_a_new_backend_and_closes_the_old_ones_connections() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    balancer = balanced({"web1": f"127.0.0.1:{port}", "web2": WEB["web2"]})
    old, kept = only(balancer)
    upstream = Upstream(old)
    await asyncio.get_running_loop().create_connection(lambda: upstream, old.host, old.port)
    old.idle[upstream] = None
    balancer.apply(configured())
    new, still = only(balancer)
    assert new is not old
    assert still is kept
    assert new.address == WEB["web1"]
    async with asyncio.timeout(5):
        await closed.wait()
    assert not old.idle
    server.close()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"choosy": {"fail": True}}, "the settings were not liked"),
        ({"strategy": "last"}, "has had enough"),
    ],
)
def test_a_plugin_that_fails_leaves_the_old_configuration(
    more: dict[str, Any], message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "access.log"
    balancer = balanced()
    before = balancer.config, balancer.table, balancer.routes, balancer.pools, only(balancer)
    FEATURED.broken_strategy = True
    with pytest.raises(PluginError, match=message):
        balancer.apply(configured({"web9": "127.0.0.1:9"}, access_log={"file": str(log)}, **more))
    assert (balancer.config, balancer.table, balancer.routes, balancer.pools, only(balancer)) == before
    assert not log.exists()
    assert str(log) not in [str(path.resolve()) for path in Path("/proc/self/fd").iterdir() if path.exists()]


def test_a_plugin_that_fails_without_a_log_leaves_the_old_configuration() -> None:
    balancer = balanced()
    table = balancer.table
    with pytest.raises(PluginError):
        balancer.apply(configured(choosy={"fail": True}))
    assert balancer.table is table


def test_a_feature_may_switch_itself_off() -> None:
    balancer = balanced(absent={}, choosy={})
    assert "choosy" in balancer.routes["shop.example"].plugins
    assert "absent" not in balancer.routes["shop.example"].plugins


def test_requests_that_match_nothing_are_counted_across_changes() -> None:
    balancer = balanced()
    balancer.engine.unmatched.requests = 3
    balancer.apply(configured(max_body="1KiB"))
    assert balancer.engine.unmatched.requests == 3


def test_trusted_proxies_are_swapped() -> None:
    balancer = balanced()
    assert balancer.engine.trusted_proxies == ()
    balancer.apply(configured(trusted_proxies=["10.0.0.0/8"]))
    assert [str(network) for network in balancer.engine.trusted_proxies] == ["10.0.0.0/8"]


# Reading again


def test_a_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "lb.yaml"
    file.write_text("access_log: off\nroutes: {shop.example: {backends: [127.0.0.1:9001]}}\n")
    balancer = LoadBalancer.from_file(file, plugins=PLUGINS)
    route = balancer.routes["shop.example"]
    assert balancer.reload()
    assert balancer.routes["shop.example"] is route
    assert HEARING.kinds == ["config_loaded"]
    assert HEARING.events[0].message == "1 route, 1 backend"

    file.write_text("routes: {shop.example: {backends: [127.0.0.1:9001], strategie: first}}\nother: 1\n")
    assert not balancer.reload()
    assert balancer.routes["shop.example"] is route
    refused = HEARING.events[1]
    assert refused.kind == "config_refused"
    assert "strategie" in refused.message
    assert "the previous configuration goes on" in refused.message
    problems = refused.details["problems"]
    assert isinstance(problems, list)
    assert len(problems) == 2

    file.unlink()
    assert not balancer.reload()
    assert HEARING.kinds[2:] == ["config_refused"]


def test_a_file_may_name_its_plugins(tmp_path: Path) -> None:
    file = tmp_path / "lb.yaml"
    file.write_text("plugins: {require: [lb-missing]}\nroutes: {}\n")
    with pytest.raises(PluginError, match="lb-missing"):
        LoadBalancer.from_file(file)


def test_a_log_that_cannot_be_opened_refuses_the_new_configuration(tmp_path: Path) -> None:
    file = tmp_path / "lb.yaml"
    file.write_text("access_log: off\nroutes: {shop.example: {backends: [127.0.0.1:9001]}}\n")
    balancer = LoadBalancer.from_file(file, plugins=PLUGINS)
    file.write_text(f"access_log: {{file: {tmp_path}/no/such/place}}\n{file.read_text().partition(chr(10))[2]}")
    assert not balancer.reload()
    assert "cannot open" in HEARING.events[-1].message
    assert list(balancer.routes) == ["shop.example"]


def test_without_a_file_there_is_nothing_to_read() -> None:
    assert not balanced().reload()
    assert HEARING.kinds == ["config_refused"]
    assert "not made from a file" in HEARING.events[0].message


# In Python


def test_what_is_described_in_python_is_taken_when_it_is_needed() -> None:
    balancer = LoadBalancer(plugins=PLUGINS)
    with balancer.route_domain("shop.example") as route:
        route.container("web1", "127.0.0.1:9001")
        route.container("web2", "127.0.0.1:9002", weight=3)
        route.strategy("last")
    balancer.defaults(max_body="1KiB")
    balancer.listener("web", "127.0.0.1:8080")
    balancer.set("trusted_proxies", ["10.0.0.0/8"])
    with balancer.pool("spare") as pool:
        pool.container("spare1", "127.0.0.1:9003")
    found = balancer.explain("GET", "http://shop.example/")
    assert (found.route, found.strategy, found.choice) == ("shop.example", "last", "web2")
    assert balancer.routes["shop.example"].max_body == 1024
    assert [listener.address for listener in balancer.config.listeners] == ["127.0.0.1:8080"]
    assert balancer.engine.trusted_proxies
    assert set(balancer.pools) == {"shop.example", "spare"}


def test_what_is_added_later_is_taken_too() -> None:
    balancer = LoadBalancer(plugins=PLUGINS)
    with balancer.route_domain("a.example") as route:
        route.container("a1", "127.0.0.1:9001")
    assert balancer.explain("GET", "a.example").route == "a.example"
    first = balancer.routes["a.example"]
    with balancer.route_domain("b.example") as route:
        route.container("b1", "127.0.0.1:9002")
    assert balancer.explain("GET", "b.example").route == "b.example"
    assert balancer.routes["a.example"] is first


def test_problems_of_a_description_come_together_and_name_their_lines() -> None:
    balancer = LoadBalancer(plugins=PLUGINS)
    with balancer.route_domain("shop.example") as route:
        route.container("web1", "127.0.0.1")
        route.strategy("frist")
    with pytest.raises(ConfigError) as caught:
        balancer.explain("GET", "shop.example")
    assert len(caught.value.problems) == 2
    assert all(problem.file == __file__ and problem.line for problem in caught.value.problems)


# Health checks


class Answering:
    """A backend that answers probes with a status that can be changed."""

    def __init__(self) -> None:
        self.status = 200
        self.probes = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.probes += 1
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def answering() -> AsyncIterator[Answering]:
    made = Answering()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


async def test_a_health_check_comes_and_goes_at_run_time() -> None:
    async with answering() as to:
        address = {"web1": f"127.0.0.1:{to.port}"}
        check = {"path": "/health", "interval": "20ms", "interval_down": "20ms", "unhealthy_after": 1}
        balancer = balanced(address)
        async with balancer.lifespan():
            (backend,) = only(balancer)
            await asyncio.sleep(0.05)
            assert to.probes == 0

            to.status = 500
            balancer.apply(configured(address, health_check=check))
            assert only(balancer) == (backend,)
            assert backend.health == "up"  # it served before, and serves until it is found down
            await until(lambda: backend.health == "down")
            assert "backend_down" in HEARING.kinds
            assert not balancer.pools["shop.example"].candidates

            balancer.apply(configured(address))
            assert backend.health == "up"
            assert balancer.pools["shop.example"].candidates == (backend,)
            await asyncio.sleep(0.05)
            probes = to.probes
            await asyncio.sleep(0.1)
            assert to.probes == probes


async def test_a_new_backend_waits_for_its_first_check() -> None:
    async with answering() as to:
        balancer = balanced({"web1": f"127.0.0.1:{to.port}"}, health_check={"path": "/health", "interval": "20ms"})
        assert only(balancer)[0].health == "starting"
        assert balancer.pools["shop.example"].candidates == ()
        async with balancer.lifespan():
            await until(lambda: balancer.pools["shop.example"].candidates)
        probes = to.probes
        await asyncio.sleep(0.1)
        assert to.probes == probes


async def test_a_changed_check_is_started_again_and_a_kept_one_goes_on() -> None:
    async with answering() as to:
        address = {"web1": f"127.0.0.1:{to.port}"}
        balancer = balanced(address, health_check={"path": "/a", "interval": "20ms"})
        async with balancer.lifespan():
            first = balancer._checks["shop.example"]
            balancer.apply(configured(address, health_check={"path": "/a", "interval": "20ms"}, max_body="1KiB"))
            assert balancer._checks["shop.example"] is first
            balancer.apply(configured(address, health_check={"path": "/b", "interval": "20ms"}))
            assert balancer._checks["shop.example"] is not first
            await until(first.cancelled)


class Watching:
    """A plugin that sees the results of probes."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    @hookimpl
    def on_health_result(self, backend: Backend, result: Any) -> None:
        self.seen.append((backend.name, result.ok))


async def test_results_are_told_to_the_plugins_of_the_pools_routes() -> None:
    watching = Watching()
    plugins = Plugins.discover(extra=[watching])
    async with answering() as to:
        tree = {
            "access_log": False,
            "routes": {
                "a.example": {"backends": {"a1": f"127.0.0.1:{to.port}"}, "health_check": "/"},
                "b.example": {"backends": {"b1": f"127.0.0.1:{to.port}"}},
            },
        }
        balancer = LoadBalancer(config_from_tree(tree, plugins), plugins=plugins)
        async with balancer.lifespan():
            await until(lambda: watching.seen)
        assert set(watching.seen) == {("a1", True)}


# The access log


async def get(balancer: LoadBalancer, path: str) -> int:
    """Ask the balancer through ASGI; the status of the answer."""
    statuses: list[int] = []
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"shop.example")], "scheme": "http"}
    async with asyncio.timeout(5):
        await balancer(scope, receive, send)
    return statuses[0]


def logged(file: Path) -> list[str]:
    return [json.loads(line)["target"] for line in file.read_text().splitlines()]


async def test_the_access_log_is_switched_at_run_time(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    async with answering() as to:
        address = {"web1": f"127.0.0.1:{to.port}"}
        balancer = balanced(address)
        async with balancer.lifespan():
            assert await get(balancer, "/unlogged") == 200
            balancer.apply(configured(address, access_log={"file": str(one)}))
            assert await get(balancer, "/one") == 200
            balancer.apply(configured(address, access_log={"file": str(two)}))
            assert await get(balancer, "/two") == 200
            await until(lambda: one.read_text())
            balancer.apply(configured(address))
            assert await get(balancer, "/unlogged") == 200
            await until(lambda: two.read_text())
            balancer.apply(configured(address, access_log={"file": str(two)}))
            assert await get(balancer, "/again") == 200
        assert logged(one) == ["/one"]
        assert logged(two) == ["/two", "/again"]


async def test_a_log_that_was_moved_is_opened_again(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with answering() as to:
        balancer = balanced({"web1": f"127.0.0.1:{to.port}"}, access_log={"file": str(log)})
        async with balancer.lifespan():
            assert await get(balancer, "/first") == 200
            log.rename(tmp_path / "moved.log")
            balancer.notify(Event("reopen_logs", "rotated"))
            assert await get(balancer, "/second") == 200
        assert logged(log) == ["/second"]
        assert logged(tmp_path / "moved.log") == ["/first"]
    assert HEARING.kinds == ["reopen_logs"]
    balanced().notify(Event("reopen_logs", "there is none"))


def test_a_log_that_is_replaced_before_the_start_is_closed(tmp_path: Path) -> None:
    balancer = balanced(access_log={"file": str(tmp_path / "one.log")})
    balancer.apply(configured())
    opened = [str(path.resolve()) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert str(tmp_path / "one.log") not in opened


def test_a_log_that_cannot_be_opened_names_the_file() -> None:
    with pytest.raises(StartError, match="/no/such/place"):
        balanced(access_log={"file": "/no/such/place"})


async def test_no_route_is_answered_with_the_configured_status() -> None:
    tree = {"access_log": False, "no_route_status": 421, "routes": {"other.example": {"backends": ["a:1"]}}}
    balancer = LoadBalancer(config_from_tree(tree, PLUGINS), plugins=PLUGINS)
    async with balancer.lifespan():
        assert await get(balancer, "/") == 421
    assert "421" in balancer.explain("GET", "http://nowhere.example/").outcome


# Serving by itself

PROGRAM = """
from lb_core import LoadBalancer
balancer = LoadBalancer()
balancer.set("access_log", False)
balancer.listener("unused", "127.0.0.1:1")
with balancer.route_domain("other.example") as route:
    route.container("web1", "127.0.0.1:1")
raise SystemExit(balancer.run(host="127.0.0.1", port={port}))
"""


async def test_it_serves_on_a_port_of_the_callers() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port = found.getsockname()[1]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM.format(port=port))
    async with asyncio.timeout(20):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
        writer.write(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 404 Not Found\r\n"
        writer.close()
        process.terminate()
        assert await process.wait() == 0


def test_run_keeps_configured_listeners_without_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[LoadBalancer] = []
    monkeypatch.setattr("lb_core.server.run", lambda balancer: served.append(balancer) or 0)
    balancer = LoadBalancer(plugins=PLUGINS)
    balancer.listener("web", "127.0.0.1:8080")
    with balancer.route_domain("shop.example") as route:
        route.container("web1", "127.0.0.1:9001")
    assert balancer.run() == 0
    assert served == [balancer]
    assert [listener.port for listener in balancer.config.listeners] == [8080]
    assert balancer.run(host="::1", port=9090) == 0
    assert [listener.address for listener in balancer.config.listeners] == ["[::1]:9090"]


# The lifespan


class Living:
    """A plugin with a lifespan, which may fail at either end."""

    def __init__(self, name: str, journal: list[str], fails: str = "") -> None:
        self.__name__ = name
        self._journal = journal
        self._fails = fails

    @hookimpl
    def lifespan(self, balancer: LoadBalancer) -> Any:
        return self._live(balancer)

    @asynccontextmanager
    async def _live(self, balancer: LoadBalancer) -> AsyncIterator[None]:
        assert not balancer.running
        if self._fails == "enter":
            raise RuntimeError("no database")
        self._journal.append(f"enter {self.__name__}")
        try:
            yield
        finally:
            self._journal.append(f"leave {self.__name__}")
            if self._fails == "leave":
                raise RuntimeError("cannot let go")


def living(*fails: str) -> tuple[LoadBalancer, list[str]]:
    journal: list[str] = []
    plugins = Plugins.discover(extra=[Living("abc"[number], journal, each) for number, each in enumerate(fails)])
    return LoadBalancer(plugins=plugins), journal


async def test_lifespans_are_entered_in_order_and_left_in_reverse() -> None:
    balancer, journal = living("", "", "")
    async with balancer.lifespan():
        assert journal == ["enter a", "enter b", "enter c"]
        assert balancer.running
    assert journal[3:] == ["leave c", "leave b", "leave a"]
    assert not balancer.running


async def test_a_plugin_that_fails_to_start_lets_the_others_go() -> None:
    balancer, journal = living("", "enter", "")
    with pytest.raises(PluginError, match="'b' failed to start: no database") as caught:
        async with balancer.lifespan():
            pytest.fail("it must not start")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert journal == ["enter a", "leave a"]
    assert not balancer.running
    assert balancer.engine.deadlines._handle is None


async def test_a_plugin_that_fails_to_end_does_not_keep_the_others() -> None:
    balancer, journal = living("", "leave", "")
    with pytest.raises(RuntimeError, match="cannot let go"):
        async with balancer.lifespan():
            pass
    assert journal[3:] == ["leave c", "leave b", "leave a"]
    assert not balancer.running


async def test_what_goes_wrong_inside_leaves_everything_in_order() -> None:
    balancer, journal = living("", "")
    with pytest.raises(ZeroDivisionError):
        async with balancer.lifespan():
            raise ZeroDivisionError
    assert journal[2:] == ["leave b", "leave a"]


async def test_one_lifespan_at_a_time() -> None:
    balancer = balanced()
    async with balancer.lifespan():
        with pytest.raises(LbError, match="running already"):
            async with balancer.lifespan():
                pytest.fail("it must not start twice")
        assert balancer.running
    async with balancer.lifespan(object()):
        assert balancer.running


@pytest.mark.parametrize(("workers", "warns"), [(3, True), (1, False), ("auto", False)])
async def test_workers_are_not_for_a_balancer_inside_another_program(
    workers: object, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    balancer = LoadBalancer(config_from_tree({"workers": workers, "routes": {"*": {"backends": WEB}}}))
    async with balancer.lifespan():
        assert ("workers: 3 is for `lb run`" in caplog.text) == warns


async def test_a_description_that_cannot_be_used_stops_the_start() -> None:
    balancer = LoadBalancer(plugins=PLUGINS)
    with balancer.route_domain("shop.example") as route:
        route.strategy("nothing_like_it")
    with pytest.raises(ConfigError):
        async with balancer.lifespan():
            pytest.fail("it must not start")
    assert not balancer.running


def test_every_plugin_hears_events_and_one_that_fails_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf:
        @hookimpl
        def on_event(self, event: Event) -> None:
            raise RuntimeError("I cannot hear")

    hearing = Hearing()
    balancer = LoadBalancer(plugins=Plugins.discover(extra=[hearing, Deaf()]))
    with caplog.at_level(logging.ERROR):
        balancer.notify(Event("scaled", "two more"))
    assert hearing.kinds == ["scaled"]
    assert "I cannot hear" in caplog.text
