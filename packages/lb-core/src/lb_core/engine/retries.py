"""When another attempt may be made: when it cannot do harm (RFC 9110 section 9.2.2).

    nothing was sent              any method: the backend never saw the request
    a reused connection died      idempotent methods; free, since the backend most likely closed it while idle
    reset, or a timeout if asked  idempotent methods, within `retry.attempts` and the retry budget

The request is kept for that as long as it fits 64 KiB. A refused connection costs the others nothing, so it is outside
the budget: when one of two backends dies under load, every request it held must find the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.errors import AttemptError, BackendReset, ConnectFailed, ConnectTimeout, HeaderTimeout

if TYPE_CHECKING:
    from lb_core.engine.forwarding import Forwarding

REPLAY_LIMIT = 64 * 1024
BUDGET_MINIMUM = 3
STALE, BUDGETED, WAITED, EVENTS, ADD_HOST, KEEPING, RENAMED, NOTED = (1 << bit for bit in range(1, 9))
"""What is unusual about an exchange: a free retry was used, a place in the budget is held, it has waited for a backend,
its answer is a stream of events, which may be silent for as long as a tunnel, its Host names the backend, a copy of
its body is kept, its Host was replaced for the backends of another route, a plugin has noted something about its
choice. The lowest bit is RECORDED: such an exchange is sent like an ordinary one."""

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))


def is_stale(error: AttemptError) -> bool:
    """Whether a connection that had served before ended without an answer: nothing is wrong with its backend."""
    return isinstance(error, BackendReset) and error.reused


def is_idempotent(exchange: Forwarding) -> bool:
    """Whether sending the request twice does what sending it once does."""
    return exchange.raw_method in _IDEMPOTENT or "idempotency-key" in exchange.headers


def may_retry(exchange: Forwarding, error: AttemptError) -> bool:
    """Whether another attempt may follow the one that ended with `error`; takes a place in the budget if need be."""
    route = exchange.route
    if exchange.payload is None or (len(exchange.payload) > REPLAY_LIMIT and not error.unsent):
        return False
    if is_stale(error) and not exchange.unusual & STALE:
        exchange.unusual |= STALE
        return is_idempotent(exchange)
    if exchange.attempts > route.retry_attempts + bool(exchange.unusual & STALE):
        return False
    if isinstance(error, ConnectFailed):
        return route.retry_connect
    if isinstance(error, (ConnectTimeout, HeaderTimeout)) and not _has_others(exchange):
        return False  # who was silent for a whole timeout would be silent for another
    if error.unsent:
        return route.retry_connect and _within_budget(exchange)
    if isinstance(error, BackendReset):
        wanted = route.retry_reset
    else:
        wanted = route.retry_timeout and isinstance(error, HeaderTimeout)
    return wanted and is_idempotent(exchange) and _within_budget(exchange)


def _has_others(exchange: Forwarding) -> bool:
    backend = exchange.backend
    return backend is not None and bool(exchange.pool.others(backend))


def may_reuse(exchange: Forwarding) -> bool:
    """Whether a further attempt may take an idle connection, which its backend may be closing just now.

    Only after a refused one, and where a stale connection would be forgiven: else a retry could be lost to bad luck.
    """
    return isinstance(exchange.error, ConnectFailed) and not exchange.unusual & STALE and is_idempotent(exchange)


def _within_budget(exchange: Forwarding) -> bool:
    route = exchange.route
    if exchange.unusual & BUDGETED:
        return True
    # retries that another pool took over are there, and count as active there
    pools = {pool for pool in (exchange.pool, route.pool, route.lent()) if pool is not None}
    active = sum(backend.in_flight for pool in pools for backend in pool.backends)
    if route.retrying >= max(BUDGET_MINIMUM, route.retry_budget * active):
        return False
    exchange.unusual |= BUDGETED
    route.retrying += 1
    return True
