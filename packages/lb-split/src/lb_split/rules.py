"""Whose rule a request matches: the pool for a header field or for a range of clients."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lb_core import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Exchange
    from lb_split.settings import PoolSettings


def rule_of(pool: PoolSettings) -> Callable[[Exchange], bool] | None:
    """Whether a request has all of a pool's header fields, or comes from one of its ranges; None where it has none."""
    checks = [_check(name, wanted) for name, wanted in pool.header.items()]
    has_fields = checks[0] if len(checks) == 1 else _all(checks) if checks else None
    clients = Ranges(pool.clients)
    if not clients:
        return has_fields
    if has_fields is None:
        return lambda exchange: exchange.client in clients
    return lambda exchange: exchange.client in clients or has_fields(exchange)


def _all(checks: list[Callable[[Exchange], bool]]) -> Callable[[Exchange], bool]:
    return lambda exchange: all(check(exchange) for check in checks)


def _check(name: str, wanted: str) -> Callable[[Exchange], bool]:
    if wanted.startswith("~"):
        found = re.compile(wanted[1:]).search
        return lambda exchange: any(map(found, exchange.headers.get_all(name)))
    exact = wanted.strip(" \t")
    return lambda exchange: exact in exchange.headers.get_all(name)
