"""The demo's backends as processes: started, started again when they were killed, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterable

from lb_core.errors import StartError

READY_WITHIN = 10.0


class BackendProcess:
    """One backend process; it keeps its port when it is started again."""

    def __init__(self, name: str, latency_ms: float) -> None:
        self.name = name
        self.latency_ms = latency_ms
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 while it is not running."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else 0

    async def start(self) -> None:
        """Start it and wait until it listens; raises StartError."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "lb_core.demo.backend", "--with-parent", "--name", self.name),
            *("--port", str(self.port), "--latency-ms", str(self.latency_ms)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl+C in the terminal is for the balancer, which drains before they go
        )
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), READY_WITHIN)
            self.port = int(line)
        except (TimeoutError, ValueError) as error:
            await self.stop()
            raise StartError(
                f"demo backend {self.name!r} did not start: run `lb --debug demo` and read its error"
            ) from error

    async def wait(self) -> int:
        """Wait until it ends; returns its exit status."""
        assert self._process is not None
        return await self._process.wait()

    def kill(self) -> None:
        """End it at once, as the kernel would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """End it and wait for it."""
        self.kill()
        if self._process is not None:
            await self._process.wait()


class Fleet:
    """The backends of the demo; `tell` hears of them, and a killed one comes back after `restart_after` seconds."""

    def __init__(self, backends: Iterable[BackendProcess], tell: Callable[[str], None], restart_after: float) -> None:
        self.backends = tuple(backends)
        self._tell = tell
        self._restart_after = restart_after
        self._keepers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Fleet:
        try:
            await asyncio.gather(*(backend.start() for backend in self.backends))
        except BaseException:
            await self._stop_all()
            raise
        self._keepers = [asyncio.create_task(self._keep(backend)) for backend in self.backends]
        return self

    async def __aexit__(self, *_: object) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._stop_all()

    def __getitem__(self, name: str) -> BackendProcess:
        return next(backend for backend in self.backends if backend.name == name)

    async def _keep(self, backend: BackendProcess) -> None:
        while True:
            pid = backend.pid
            await backend.wait()
            self._tell(f"{backend.name}: process {pid} is gone; a new one starts in {self._restart_after:g} s")
            await asyncio.sleep(self._restart_after)
            try:
                await backend.start()
            except StartError as error:
                self._tell(str(error))
            else:
                self._tell(f"{backend.name}: started again as process {backend.pid}")

    async def _stop_all(self) -> None:
        await asyncio.gather(*(backend.stop() for backend in self.backends), return_exceptions=True)
