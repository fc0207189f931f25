"""What `lb run` says once it serves: where it listens, what goes where, and which backends answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lb_core.columns import columns
from lb_core.direct_probe import open_stream

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.server import Server

TRY_FOR = 1.0


async def overview(server: Server) -> str:
    """The whole text; waits a moment for the first health checks."""
    balancer = server.balancer
    backends = [backend for route in balancer.routes.values() for backend in route.pool.backends]
    *reasons, _ = await asyncio.gather(*map(_unreachable, backends), _first_checks(backends))
    states = dict(zip(backends, reasons, strict=True))
    rows = []
    for route in balancer.routes.values():
        first = [route.name, route.config.strategy.name]
        for backend in route.pool.backends:
            state = f"{backend.state}, but {states[backend]}" if states[backend] else backend.state
            name, address = backend.name, backend.address
            rows.append([*first, address if name == address else f"{name} ({address})", state])
            first = ["", ""]
    plugins = ", ".join(
        f"{each.name} ({each.distribution} {each.version})" for each in balancer.plugins.loaded if each.distribution
    )
    return "\n".join(
        (
            "",
            *(f"  {url}" for url in server.urls),
            "",
            *columns(["ROUTE", "STRATEGY", "BACKEND", "STATE"], rows),
            "",
            f"  plugins: {plugins}",
            "  Ctrl+C drains, twice quits",
            "",
        )
    )


async def _first_checks(backends: Iterable[Backend]) -> None:
    """Wait until every backend has passed a check, or not for long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TRY_FOR):
            while any(backend.health == "starting" for backend in backends):
                await asyncio.sleep(0.02)


async def _unreachable(backend: Backend) -> str:
    """Why nobody answers there; empty where somebody does."""
    try:
        async with asyncio.timeout(TRY_FOR):
            _, writer = await open_stream(backend, backend.host)
    except TimeoutError:
        return f"no answer within {TRY_FOR:g} s"
    except OSError as error:
        return f"unreachable: {error.strerror or error}"
    writer.close()
    return ""
