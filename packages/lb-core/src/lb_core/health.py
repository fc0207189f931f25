"""Active checks: ask every backend of a pool regularly whether it serves.

    starting ── 1 pass ──> up <── healthy_after passes in a row ── down
        └── 30 s without ──────────────────────────────────────────> ^
                            up ── unhealthy_after failures in a row ─┘

A starting backend is asked at once and then every half second; one that is up every `interval`; after a failure, and
until it is up again, every `interval_down`. Every pause varies by a tenth, so that checks do not fall into step. One
task a backend: a slow backend delays nobody's check but its own.

A backend with several addresses is asked at one of them, the next where no connection can be made: as requests are.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random as random_module
import re
import socket
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from lb_core.direct_probe import BODY_MOST, DirectProbe, open_stream
from lb_core.names import addresses_of
from lb_core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lb_core.backend import Backend
    from lb_core.pool import Pool
    from lb_core.pool_sections import HealthCheckConfig

log = logging.getLogger("lb.health")

STARTING_PAUSE = 0.5
STARTING_FOR = 30.0
ADOPTING_WITHIN = 1.0
"""Backends that are up already, after a reload, get their first check spread over this many seconds."""


@dataclass(frozen=True, slots=True)
class HealthResult:
    """What one probe found: `detail` in words, the `status` where there was one, and the `seconds` it took."""

    ok: bool
    detail: str
    status: int = 0
    seconds: float = 0.0


class HealthChecker:
    """Checks the backends of a pool, also those that join later, for as long as `run` runs.

    `host` is the Host of the probes (empty: the backend's address). `report` hears every result before the thresholds
    decide. Whoever makes a backend for a checked pool makes it `starting`; one that is `up` keeps serving meanwhile.
    """

    def __init__(
        self,
        pool: Pool,
        check: HealthCheckConfig,
        *,
        host: str,
        report: Callable[[Backend, HealthResult], None],
        random: Callable[[], float] = random_module.random,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.pool = pool
        self.check = check
        self._host = check.host or host
        self._report = report
        self._random = random
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Check until cancelled."""
        changed = asyncio.Event()
        watching: dict[Backend, asyncio.Task[None]] = {}
        self.pool.watchers.append(changed.set)
        try:
            async with AsyncExitStack() as stack:
                probe = await self._prober(stack)
                tasks = await stack.enter_async_context(asyncio.TaskGroup())
                while True:
                    changed.clear()
                    backends = set(self.pool.backends)
                    for backend in watching.keys() - backends:
                        watching.pop(backend).cancel()
                    for backend in backends - watching.keys():
                        watching[backend] = tasks.create_task(self._watch(backend, probe))
                    await changed.wait()
        finally:
            self.pool.watchers.remove(changed.set)

    async def _prober(self, stack: AsyncExitStack) -> Probe:
        if self.check.type == "tcp":
            return TcpProbe(self.check)
        # Imported in a thread: it takes a tenth of a second, in which the loop goes on.
        httpx = await asyncio.to_thread(import_module, "httpx")
        return await stack.enter_async_context(HttpProbe(httpx, self.check, self._host))

    async def _watch(self, backend: Backend, probe: Probe) -> None:
        """Check one backend for as long as it stays in the pool."""
        begin = self._clock()
        in_a_row = 0
        last_ok = True
        if backend.health != "starting":
            await self._sleep(min(ADOPTING_WITHIN, self.check.interval) * self._random())
        while True:
            result = await self._ask(backend, probe)
            if result.detail == _NO_DESCRIPTOR:  # says something of us, nothing of the backend
                await self._sleep(self._pause(backend, result))
                continue
            in_a_row = in_a_row + 1 if result.ok == last_ok else 1
            last_ok = result.ok
            self._tell(backend, result)
            young = self._clock() - begin < STARTING_FOR
            self._decide(backend, result, in_a_row, young=young)
            await self._sleep(self._pause(backend, result) * (0.9 + 0.2 * self._random()))

    async def _ask(self, backend: Backend, probe: Probe) -> HealthResult:
        begin = self._clock()
        try:
            async with asyncio.timeout(self.check.timeout):
                status = await probe.ask(backend)
        except Exception as error:
            if backend.lookup is not None:
                backend.lookup.again()
            return HealthResult(False, in_words(error, self.check.timeout), seconds=self._clock() - begin)
        seconds = self._clock() - begin
        if status and not self.check.accepts(status):
            return HealthResult(False, f"status {status}, expected {self._expected()}", status, seconds)
        return HealthResult(True, f"status {status}" if status else "connected", status, seconds)

    def _expected(self) -> str:
        return ", ".join(f"{low}-{high}" if low < high else f"{low}" for low, high in self.check.expect)

    def _tell(self, backend: Backend, result: HealthResult) -> None:
        try:
            self._report(backend, result)
        except Exception:
            log.exception("health check of %s: reporting %r failed; the check goes on", backend.id, result.detail)

    def _decide(self, backend: Backend, result: HealthResult, in_a_row: int, *, young: bool) -> None:
        """Apply the thresholds."""
        health = backend.health
        if result.ok:
            if health == "starting" or (health == "down" and in_a_row >= self.check.healthy_after):
                self.pool.set_health(backend, "up", _passed(in_a_row))
        elif (health == "starting" and not young) or (health == "up" and in_a_row >= self.check.unhealthy_after):
            self.pool.set_health(backend, "down", f"{_failed(in_a_row)}, the last: {result.detail}")

    def _pause(self, backend: Backend, result: HealthResult) -> float:
        if backend.health == "starting":
            return min(STARTING_PAUSE, self.check.interval)
        if result.ok and backend.health == "up":
            return self.check.interval
        return min(self.check.interval_down, self.check.interval)


class Probe(Protocol):
    """One way of asking a backend."""

    async def ask(self, backend: Backend) -> int:
        """The status it answers with, 0 where the protocol has none; raises where it does not answer."""


class TcpProbe:
    """Opens a connection and closes it."""

    def __init__(self, check: HealthCheckConfig) -> None:
        self._port = check.port
        self._timeout = check.timeout

    async def ask(self, backend: Backend) -> int:
        async def connect(address: str, limit: float | None) -> int:
            async with asyncio.timeout(limit):
                _, writer = await open_stream(backend, address, self._port)
            writer.close()
            return 0

        return await _one_of(backend, self._timeout, connect, OSError)


class HttpProbe:
    """Sends a request; keeps connections between checks, follows no redirect, ignores proxies in the environment."""

    def __init__(self, httpx: Any, check: HealthCheckConfig, host: str) -> None:
        self._check = check
        self._host = host
        # A kept connection that the backend closed just as the probe went out says nothing about its health.
        self._stale = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
        self._unconnected = (httpx.ConnectError, httpx.ConnectTimeout, OSError)
        self._limits = httpx.Timeout
        self._client = httpx.AsyncClient(
            timeout=None,  # the checker sets one around all of it
            trust_env=False,
            follow_redirects=False,
            verify=False,  # plain HTTP only: spares reading the certificate bundle
            limits=httpx.Limits(max_connections=None, keepalive_expiry=3 * check.interval),
            headers={"User-Agent": "lb-health-check"},
        )
        self._asked: WeakSet[Backend] = WeakSet()  # of those that have left the pool nothing stays
        self._direct = DirectProbe(check, host)

    async def __aenter__(self) -> HttpProbe:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.aclose()

    async def ask(self, backend: Backend) -> int:
        async def ask(address: str, limit: float | None) -> int:
            return await self._ask_at(backend, address, limit)

        return await _one_of(backend, self._check.timeout, ask, self._unconnected)

    async def _ask_at(self, backend: Backend, address: str, limit: float | None) -> int:
        if backend.path or backend.send_proxy != "off":
            return await self._direct.ask(backend, address, limit)
        address = f"[{address}]" if ":" in address else address
        url = f"http://{address}:{self._check.port or backend.port}{self._check.path}"
        try:
            return await self._send(url, self._host or backend.address, limit)
        except self._stale:
            if backend not in self._asked:
                raise
            self._asked.discard(backend)
            return await self._send(url, self._host or backend.address, limit)
        finally:
            self._asked.add(backend)

    async def _send(self, url: str, host: str, limit: float | None) -> int:
        limits = self._limits(None, connect=limit)
        async with self._client.stream(self._check.method, url, headers={"Host": host}, timeout=limits) as response:
            size = 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > BODY_MOST:
                    break
            return int(response.status_code)


async def _one_of(
    backend: Backend,
    timeout: float,
    ask: Callable[[str, float | None], Awaitable[int]],
    unconnected: type[Exception] | tuple[type[Exception], ...],
) -> int:
    """Ask at one address after the other until a connection is made; each but the last gets a share of the time."""
    *others, last = await addresses_of(backend)
    for address in others:
        try:
            return await ask(address, timeout / (len(others) + 1))
        except unconnected:
            if backend.lookup is not None:
                backend.lookup.avoid((address,))
    return await ask(last, None)


def in_words(error: BaseException, timeout: float) -> str:
    """Why a probe failed, in words; the system's own error is looked for beneath those that wrap it."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case TimeoutError():
                return f"no answer within {format_duration(timeout)}"
            case socket.gaierror():
                return "the name does not resolve"
            case OSError(errno=int() as number) if number in _WORDS:
                return _WORDS[number]
            case OSError(strerror=str() as text) if text:
                return text.lower()
            case BaseExceptionGroup(exceptions=(first, *_)):  # one for each address of the name
                cause = first
                continue
        cause = cause.__cause__ or cause.__context__
    known = re.search(r"\[Errno (\d+)\]", str(error))  # asyncio puts several into one message
    if known and int(known[1]) in _WORDS:
        return _WORDS[int(known[1])]
    if type(error).__name__ == "RemoteProtocolError":
        return f"no valid HTTP answer: {error}"
    return str(error) or type(error).__name__


_NO_DESCRIPTOR = "too many open files"
_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.EMFILE: _NO_DESCRIPTOR,
    errno.ENFILE: _NO_DESCRIPTOR,
}


def _passed(count: int) -> str:
    return "a check passed" if count == 1 else f"{count} checks passed"


def _failed(count: int) -> str:
    return "a check failed" if count == 1 else f"{count} checks in a row failed"
