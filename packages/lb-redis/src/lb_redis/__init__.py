"""Several lb nodes as one through Redis: shared limits, facts, membership, a leader, edits.

    cluster: redis://10.0.0.5:6379/0
    cluster: {redis: "rediss+sentinel://10.0.0.5,10.0.0.6/main", node: edge-1, password: "${REDIS_PASSWORD}"}

No request waits for Redis, and nothing stops when it is gone. redis-py is imported when a balancer with a cluster
starts, not before.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from lb_core import Command, Section, hookimpl
from lb_redis.settings import ClusterSettings, TlsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lb_core import LoadBalancer

__all__ = ["ClusterSettings", "TlsSettings"]


@hookimpl
def register_sections() -> Iterator[Section]:
    """Offer the section `cluster` at the top of the file."""
    yield Section("cluster", ClusterSettings)


@hookimpl
def register_commands() -> Iterator[Command]:
    """Offer `lb edit`."""
    yield EDIT


async def _edit(balancer: LoadBalancer, what: str, *arguments: str) -> str:
    from lb_redis.edit_command import edit

    return await edit(balancer, what, *arguments)


EDIT = Command(
    "edit",
    _edit,
    "Edit what all nodes of a cluster serve: show, apply, history, undo.",
    ("WHAT", "[PATCH]", "[VERSION]"),  # as they stand: `lb --help` reads them without an import
)


@hookimpl
@asynccontextmanager
async def lifespan(balancer: LoadBalancer) -> AsyncIterator[None]:
    """Take part in the cluster for as long as the balancer runs, in the process that decides."""
    settings: Any = balancer.config.section("cluster") if balancer.controls else None
    if not isinstance(settings, ClusterSettings):
        yield
        return
    from lb_redis.cluster import RedisCluster

    running = asyncio.get_running_loop().create_task(RedisCluster(balancer, settings).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
