"""The backends of a pool as a configuration wants them, made of those that serve already where they are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lb_core.backend import NO_LIMIT, Backend
from lb_core.engine.announcing import announce

if TYPE_CHECKING:
    from lb_core.pool import Pool
    from lb_core.pool_sections import BackendConfig, PoolConfig

Identity = tuple[str, str, int, str, str]


def identity_of(backend: Backend | BackendConfig, send_proxy: str) -> Identity:
    """What makes two backends one: open connections, health and counters are kept across a reload."""
    return backend.name, backend.host, backend.port, backend.path, send_proxy


def updated(known: Mapping[Identity, Backend], pool: Pool, config: PoolConfig, wanted: BackendConfig) -> Backend:
    """The backend of that name and address, with what may change at run time brought up to date."""
    backend = known.get(identity_of(wanted, config.send_proxy))
    checked = config.health_check is not None
    if backend is None:
        backend = Backend(
            wanted.name,
            wanted.host,
            wanted.port,
            path=wanted.path,
            id=f"{config.name}/{wanted.name}",
            weight=wanted.weight,
        )
        if config.send_proxy != "off":
            announce(backend, config.send_proxy)
        backend.health = "starting" if checked else "up"
    elif not checked:
        backend.health = "up"
    pool.set_weight(backend, wanted.weight)
    pool.set_limit(backend, wanted.max_connections or NO_LIMIT)
    backend.backup = wanted.backup
    backend.zone = wanted.zone
    backend.labels = dict(wanted.labels)
    return backend
