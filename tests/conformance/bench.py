"""What every case runs on: one recording backend, balancers of several kinds before it, and a client that looks on.

The onlooker asks the same pool for something of its own before, during and after every case, and what it is answered
must be its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import uvloop

from lb_core import Exchange, hookimpl
from lb_core.engine.asgi import EmbeddedSettings, ServerState
from lb_core.engine.downstream import Downstream
from tests.conformance.clients import Connected, Fed
from tests.conformance.recorder import Recorder
from tests.support.balancing import balancing

if TYPE_CHECKING:
    from tests.conformance.case import Seen
    from tests.support.balancing import Running
    from tests.support.wire import Message

LIMITS = {"limits": {"target": "1KiB", "head": "4KiB", "fields": 20}}
WITHIN = 5.0


class Touching:
    """A plugin that changes a field of every request and of every response."""

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        exchange.headers["X-Touched"] = "request"

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        exchange.response_headers["X-Touched"] = "response"


class Onlooker:
    """Good requests on the same pool, one after the other; `wrong` are the answers that were not its own."""

    def __init__(self, make: Callable[[], Any], recorder: Recorder) -> None:
        self._make = make
        self._recorder = recorder
        self.asked = 0
        self.wrong: list[str] = []

    async def ask(self) -> None:
        """One request over a connection of its own."""
        self.asked += 1
        client = Fed(self._make)
        target = b"/onlooker/%d" % self.asked
        await client.send(b"GET %b HTTP/1.1\r\nHost: example.com\r\n\r\n" % target)
        answer = await client.answer(within=WITHIN)
        if answer.body != b"%b GET %b" % (client.address.encode(), target):
            self.wrong.append(f"asked for {target!r} as {client.address}, was answered {bytes(answer.raw)!r}")
        client.leave()
        del self._recorder.seen[client.address.encode()]

    async def keep_asking(self, until: asyncio.Event) -> None:
        """Until told to stop."""
        while not until.is_set():
            await self.ask()
            await asyncio.sleep(0.001)


class Bench:
    """The backend and the lanes before it."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._stack = AsyncExitStack()
        self.recorder = Recorder()
        self.lanes: dict[str, Running] = {}
        self.onlooker: Onlooker

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something in the loop of the bench."""
        return self._runner.run(work)

    async def open(self) -> None:
        """Start everything."""
        await self.recorder.start()
        self._stack.push_async_callback(self.recorder.stop)
        options: dict[str, Any] = {"listener": LIMITS, "ejection": False}
        for name, plugins, more in (
            ("plain", [], {}),
            ("touched", [Touching()], {}),
            ("trusting", [], {"top": {"trusted_proxies": ["10.0.0.0/8", "127.0.0.0/8"]}}),
            ("limited", [], {"max_body": "8B"}),
        ):
            opening = balancing(self.recorder.address, plugins=plugins, **options, **more)
            self.lanes[name] = await self._stack.enter_async_context(opening)
        self.onlooker = Onlooker(self.maker("plain"), self.recorder)

    async def close(self) -> None:
        """Stop everything; fails where something is still under way."""
        await self._stack.aclose()

    def maker(self, lane: str) -> Callable[[], Downstream]:
        """What makes the balancer's side of a connection in a lane."""
        running = self.lanes[lane]
        settings = EmbeddedSettings(running.balancer, running.balancer.config.listeners[0])
        state = ServerState()
        return lambda: Downstream(settings, state)

    async def connect(self, lane: str) -> Connected:
        """A client over a real socket."""
        return await Connected.open(self.lanes[lane].port)

    async def watched(self, work: list[Coroutine[Any, Any, None]], *, together: int = 48) -> None:
        """Run these side by side, so many at a time, with the onlooker before, during and after."""
        await self.onlooker.ask()
        done = asyncio.Event()
        looking = asyncio.create_task(self.onlooker.keep_asking(done))
        waiting = iter(work)
        try:

            async def next_ones() -> None:
                for each in waiting:
                    await each

            runners = [asyncio.create_task(next_ones()) for _ in range(min(together, len(work)))]
            try:
                await asyncio.gather(*runners)
            finally:
                for runner in runners:
                    runner.cancel()
                await asyncio.gather(*runners, return_exceptions=True)
        finally:
            for left in waiting:
                left.close()
            done.set()
            await looking
        await self.onlooker.ask()
        wrong, self.onlooker.wrong = self.onlooker.wrong, []
        violations, self.recorder.violations = self.recorder.violations, []
        assert not wrong, wrong[:3]
        assert not violations, violations[:3]


@contextmanager
def opened() -> Iterator[Bench]:
    """A bench in a loop of its own, uvloop's as in production."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        bench = Bench(runner)
        runner.run(bench.open())
        try:
            yield bench
        finally:
            runner.run(bench.close())


def check_seen(message: Message, expected: Seen, lane: str, what: str) -> None:
    """Fail unless the backend saw this request."""
    assert (message.method, message.target, message.body) == (expected.method, expected.target, expected.body), what
    for name, values in expected.fields.items():
        assert message.all(name) == list(values), f"{what}: {name} is {message.all(name)}"
    present = [name for name in expected.absent if name in message]
    assert not present, f"{what}: the backend saw {present}"
    assert message.all("x-touched") == ([b"request"] if lane == "touched" else []), what
