"""The exchange of counts between this node and the others: all limits in one pipeline, one pipeline at a time.

    on a timer, or urgent  ->  settle, read changes, batch  ->  pipeline  ->  answers  ->  tables of the processes
                                                                   |
                                  not answered within `timeout`, or failed: away, each node keeps to its share

What is counted while Redis cannot be reached is kept, and said when it can. Nothing here is waited for by a request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lb_redis.clock import Clock
from lb_redis.exchange_call import Call, CountsExchange, Place
from lb_redis.exchange_fields import Fields
from lb_redis.exchange_others import BucketExchange, GaugeExchange
from lb_redis.exchange_windows import WindowExchange
from lb_redis.failures import LostRedis
from lb_redis.link import Script
from lb_redis.policy_pace import Pace

if TYPE_CHECKING:
    from lb_core.sharing import Sharing
    from lb_redis.link import Link

log = logging.getLogger("lb.cluster")

BUCKETS = 16
"""Parts into which a Redis Cluster's keys are divided."""

SECRET = Script("""
local found = redis.call('GET', KEYS[1])
if found then return found end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
""")

KINDS: dict[str, Callable[[Any, Place, int], CountsExchange]] = {
    "windows": WindowExchange,
    "arrivals": BucketExchange,
    "gauge": GaugeExchange,
}


class Exchange:
    """Exchanges what `sharing.counts` holds; `tell` is given a reason while Redis is too slow, None when it is not."""

    def __init__(
        self,
        sharing: Sharing,
        link: Link,
        *,
        tell: Callable[[str | None], None] = lambda reason: None,  # noqa: ARG005
    ) -> None:
        self.clock = Clock()
        self.pace = Pace()
        self._sharing = sharing
        self._link = link
        self._tell = tell
        self._exchanges: dict[str, CountsExchange] = {}
        self._fields: Fields | None = None
        self._node = link.boot
        self._wake = asyncio.Event()
        self._urgent = False
        self._slow = False

    def sample(self, offset: float, doubt: float) -> None:
        """Take in how far Redis's clock seems to be ahead, at most `doubt` seconds wrong."""
        if self.clock.sample(offset, doubt):
            self._sharing.set_offset(self.clock.offset)

    @property
    def secret(self) -> bytes:
        """The secret that this node's keys are told by; empty before it is known."""
        return self._fields.secret if self._fields is not None else b""

    def agree(self, secret: bytes) -> None:
        """The nodes share this secret now: where it is another one nobody finds what was said, so it begins anew.

        That is so where a node has joined an emptied Redis before any other was back.
        """
        if secret and self._fields is not None and secret != self._fields.secret:
            self._fields = None
            self._exchanges = {}
            self._node = os.urandom(8).hex()  # what this run said last, by number, counts for the old ones

    async def keep(self) -> None:
        """Exchange until cancelled."""
        sharing, link = self._sharing, self._link
        hooks: list[tuple[list[Any], Any]] = [
            (sharing.on_urgent, self._hurry),
            (sharing.on_nodes, self._share),
            (link.on_joined, self._joined),
            (link.on_lost, self._lost),
        ]
        for hook, hear in hooks:
            hook.append(hear)
        try:
            while True:
                await self._wait()
                await self._exchange()
        finally:
            for hook, hear in hooks:
                if hear in hook:
                    hook.remove(hear)

    async def farewell(self) -> None:
        """Say what is left to be said, and give back what is reserved, because this node ends. Never raises."""
        try:
            for exchange in self._exchanges.values():
                exchange.release()
            async with asyncio.timeout(self._link.timeout):
                await self._round(self._calls())
        except Exception as error:
            log.debug("the last exchange of counts failed: %s", error)

    # when

    def _hurry(self, name: str) -> None:  # noqa: ARG002
        self._urgent = True
        self._wake.set()

    def _joined(self) -> None:
        self.pace.rejoined(time.monotonic())
        for exchange in self._exchanges.values():
            exchange.heal(self._now())
        self._wake.set()

    def _lost(self) -> None:
        self._slow = False  # it is lost altogether, and the link says so
        self._late()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        while (wait := self.pace.next(urgent=self._urgent) - time.monotonic()) > 0:
            self._wake.clear()
            timer = loop.call_later(wait, self._wake.set)  # asyncio.timeout would cost more than the rest
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    # what

    async def _exchange(self) -> None:
        """One exchange, with what follows from how it went."""
        if not self._link.joined:
            self.pace.begin(time.monotonic(), 0)
            self._late()
            return
        calls = self._calls()
        if calls == [] and not self.pace.away:
            return  # as it is most of the time where there is little traffic
        task = asyncio.ensure_future(self._round(calls))
        try:
            in_time = await self._in_time(task)
            if not in_time:
                self._late("it answers too slowly: is it overloaded, or the network between?")
            await task
        except LostRedis:
            self._late()
        except Exception:
            log.exception("the exchange of counts failed")
            self._late()
        else:
            if in_time and self.pace.good(time.monotonic()):
                self._share()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _in_time(self, task: asyncio.Future[None]) -> bool:
        """Whether it is answered within the timeout; a busy process may look too late, and find the answer there."""
        done, _ = await asyncio.wait([task], timeout=self._link.timeout)
        for _ in range(3):
            if done:
                break
            done, _ = await asyncio.wait([task], timeout=0.001)
        return bool(done)

    def _calls(self) -> list[Call] | None:
        """What there is to say; None before it is known what stands for keys."""
        self._urgent = False
        if self._fields is None:
            return None
        now = self._now()
        calls = [call for exchange in self._followed(self._fields) for call in exchange.calls(now)]
        self.pace.begin(time.monotonic(), sum(call.size for call in calls))
        return calls

    async def _round(self, calls: list[Call] | None) -> None:
        """Say this, and take in the answers. Raises LostRedis."""
        if calls is None:
            await self._find_fields()
            calls = self._calls()
        if not calls:
            if self.pace.away:
                await self._link.command("PING")
            return
        replies = await self._call(calls)
        now = self._now()
        for call, reply in zip(calls, replies, strict=True):
            call.take(reply, now)
        self._link.figures.last_exchange = time.time()

    async def _call(self, calls: list[Call]) -> list[Any]:
        """The answers to all calls; a script that Redis does not know is sent. Raises LostRedis."""
        commands = [_command("EVALSHA", call.script.digest, call) for call in calls]
        replies = await self._link.pipeline(commands)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, Exception) and _no_script(reply)]
        if unknown:
            again = await self._link.pipeline([_command("EVAL", calls[at].script.text, calls[at]) for at in unknown])
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._link.failed(reply)
        return replies

    def _followed(self, fields: Fields) -> list[CountsExchange]:
        """The exchanges of the counts that there are now."""
        sharing = self._sharing
        found: dict[str, CountsExchange] = {}
        for name, counts in sharing.counts.items():
            exchange = self._exchanges.get(name)
            if exchange is None or not exchange.follow(counts, sharing.nodes):
                exchange = KINDS[counts.kind](counts, Place(self._node, fields, self._key), sharing.nodes)
            found[name] = exchange
        self._exchanges = found
        return list(found.values())

    async def _find_fields(self) -> None:
        """The secret that the nodes share: the one there is, or a new one."""
        secret = await self._link.run(SECRET, [self._link.keys.secret], [os.urandom(16)])
        buckets = BUCKETS if self._link.settings.redis.kind == "cluster" else 1
        self._fields = Fields(secret, buckets)

    def _key(self, bucket: int, *parts: str) -> str:
        name = self._link.keys.name
        return ":".join((f"{{{name}.{bucket}}}" if bucket else f"{{{name}}}", *parts))

    def _now(self) -> float:
        return time.time() + self._sharing.offset

    # near and away

    def _late(self, slow: str | None = None) -> None:
        if self.pace.late():
            for exchange in self._exchanges.values():
                exchange.check()
            self._share()
        if slow is not None and not self._slow and self.pace.failures > 1:  # once is nothing to be told
            self._slow = True
            self._tell(slow)

    def _share(self) -> None:
        """The part of the limits that this node may use now."""
        away = self.pace.away
        self._sharing.set_share(1.0 / max(1, self._sharing.nodes) if away else 1.0)
        if not away and self._slow:
            self._slow = False
            self._tell(None)


def _command(name: str, script: str, call: Call) -> tuple[Any, ...]:
    return (name, script, len(call.keys), *call.keys, *call.arguments)


def _no_script(error: Exception) -> bool:
    return type(error).__name__ == "NoScriptError" or "NOSCRIPT" in str(error)
