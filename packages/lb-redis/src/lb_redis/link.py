"""The link to Redis: made, watched, and made again.

    connecting   tried again and again, at growing intervals, for as long as the balancer runs
    joined       commands go through; `on_joined` have been called
    lost         a command failed or was not answered in time, or `failed` was called: everything is closed,
                 `on_lost` are called, and it begins anew

Nothing here is ever waited for by a request. Whoever sends commands gets LostRedis where they fail; the link is lost
then. An answer that only comes late is the sender's to judge: `run` and `pipeline` wait for `patience`, which is far
longer than `timeout`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lb_redis.calls import Calls
from lb_redis.failures import LostRedis, reason_of
from lb_redis.figures import Figures, size
from lb_redis.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lb_redis.client import Connected, Subscription
    from lb_redis.settings import ClusterSettings

log = logging.getLogger("lb.cluster")

PATIENCE = 1.0
"""The least time after which Redis is given up, in seconds; `timeout` may be longer."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0


class Script:
    """A Lua script, known by its digest once Redis has seen it."""

    def __init__(self, text: str) -> None:
        import hashlib

        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Link:
    """The link; `boot` is 16 hexadecimal digits that tell this run of this node from every other.

    `tell(reason)` is called when Redis is lost, and again when the reason has become another; with None when it is
    there. `on_joined` and `on_lost` are called after `joined` has changed. `enter` is awaited before the link counts as
    joined, and may send commands; where it raises, the link is not made.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        *,
        tell: Callable[[str | None], None] = lambda reason: None,  # noqa: ARG005
        enter: Callable[[], Awaitable[object]] | None = None,
        boot: str = "",
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.keys = Keys(settings.name)
        self.boot = boot or f"{random.SystemRandom().getrandbits(64):016x}"
        self.timeout = settings.timeout
        self.patience = max(PATIENCE, 2 * settings.timeout)
        self.figures = Figures()
        self.on_joined: list[Callable[[], None]] = []
        self.on_lost: list[Callable[[], None]] = []
        self._tell = tell
        self._enter = enter
        self._told: str | None = ""
        self._reason = "Redis is not there"
        self._clock = clock
        self._jitter = jitter
        self._connected: Connected | None = None
        self._calls = Calls()
        self._closing: asyncio.Task[None] | None = None
        self._failed: asyncio.Future[str] | None = None
        self._since = clock()

    @property
    def joined(self) -> bool:
        """Whether commands go through, as far as is known."""
        return self.figures.joined

    @property
    def lost_seconds(self) -> float:
        """How long Redis has not been there, in all."""
        return self.figures.lost_seconds + (0.0 if self.joined else self._clock() - self._since)

    # for whoever sends commands

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """What a script answers; Redis is sent its text only where it does not know it. Raises LostRedis."""
        call = (len(keys), *keys, *args)
        try:
            return await self.command("EVALSHA", script.digest, *call)
        except UnknownScript:
            return await self.command("EVAL", script.text, *call)

    async def command(self, *command: Any) -> Any:
        """What one command answers. Raises LostRedis."""
        (answer,) = await self.pipeline([command])
        if isinstance(answer, Exception):
            if "NOSCRIPT" in str(answer) or type(answer).__name__ == "NoScriptError":
                raise UnknownScript
            raise self.failed(answer)
        return answer

    async def pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What the commands answer, sent together; an error of one of them stands in its place. Raises LostRedis."""
        connected = self._connected
        if connected is None:
            raise LostRedis(self._reason)
        figures = self.figures
        figures.commands += len(commands)
        figures.bytes_sent += size(commands)
        begin = self._clock()
        try:
            answers: list[Any] = await self._calls.within(self.patience, _execute(connected, commands))
        except Exception as error:
            figures.errors += len(commands)
            raise (self.failed(error) if connected is self._connected else LostRedis(self._reason)) from error
        finally:
            figures.seconds += self._clock() - begin
        figures.bytes_received += size(answers)
        return answers

    async def subscribe(self, *channels: str) -> Subscription:
        """A subscription, which lives as long as the link; whoever reads it calls `failed` where that fails."""
        if self._connected is None:
            raise LostRedis(self._reason)
        found: Subscription = await self._calls.within(self.patience, self._connected.subscribe(*channels))
        return found

    def failed(self, error: BaseException) -> LostRedis:
        """Redis cannot be used: give the link up and make another; returns what to raise."""
        reason = reason_of(error)
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(reason)
        return LostRedis(reason)

    # its life

    async def keep(self) -> None:
        """Connect, and connect again, until cancelled."""
        failures = 0
        try:
            while True:
                reason = await self._connect()
                if reason is None and self._failed is not None:
                    failures = 0
                    reason = await self._failed
                failures += 1
                await self._lose(reason or "")
                pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE)
                await asyncio.sleep(pause * (0.5 + self._jitter() / 2))
        finally:
            await self._lose("")

    async def _connect(self) -> str | None:
        """Make the link; the reason where that fails."""
        from lb_redis.client import Connected

        try:
            self._connected = Connected(self.settings, self.patience)
            self._failed = asyncio.get_running_loop().create_future()
            await self._calls.within(2 * self.patience, _execute(self._connected, [("PING",)]))
            if self._enter is not None:
                await self._enter()
        except Exception as error:
            return reason_of(error)
        self.figures.lost_seconds += self._clock() - self._since
        self.figures.joined = True
        self.figures.joins += 1
        self._say(None)
        _call(self.on_joined)
        return None

    async def _lose(self, reason: str) -> None:
        connected, self._connected, self._failed = self._connected, None, None
        if self.figures.joined:
            self.figures.joined = False
            self.figures.losses += 1
            self._since = self._clock()
            _call(self.on_lost)
        if reason:
            self._reason = reason
            self._say(reason)
        if connected is not None:
            self._closing = asyncio.get_running_loop().create_task(self._close(connected))
        if self._closing is not None:
            await asyncio.shield(self._closing)  # who is cancelled here finds it again at the end

    async def _close(self, connected: Connected) -> None:
        await self._calls.end()
        with suppress(Exception):
            async with asyncio.timeout(self.patience):
                await connected.close()

    def _say(self, reason: str | None) -> None:
        cause = reason if reason is None else reason.partition(" (")[0]  # what follows may change with every try
        if cause != self._told:
            self._told = cause
            self._tell(reason)


async def _execute(connected: Connected, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    pipeline = connected.client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return await pipeline.execute(raise_on_error=False)


class UnknownScript(Exception):
    """Redis does not know a script by its digest: it was restarted, or its scripts were flushed."""


def _call(listeners: Sequence[Callable[[], None]]) -> None:
    for hear in tuple(listeners):
        try:
            hear()
        except Exception:
            log.exception("what follows the link to Redis failed")
