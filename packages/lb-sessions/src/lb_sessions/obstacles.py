"""Why a client's own backend cannot take its request, and another has to.

    full       as many requests in flight as it may have
    failed     in this very request. A kept connection that the backend had closed while idle is no failure: then the
               request goes to it once more, over a new connection, and the session is not lost to a coincidence
    gone       down, ejected, in maintenance, or drained and past its deadline

A backend that drains still serves its own clients, and so does a backup whose clients came while the others were down:
they stay until their sessions end (HAProxy does the same).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core import Backend, Exchange


def obstacle(backend: Backend, exchange: Exchange, candidates: tuple[Backend, ...]) -> str:
    """What keeps a backend from serving a client that is its own; nothing where it can."""
    if backend.in_flight >= backend.limit:
        return f"is full ({backend.in_flight} of {backend.limit})"
    if backend in candidates:
        return ""
    if exchange.backend is backend and not (exchange.error is not None and exchange.error.reused):
        return "failed"
    if backend.serves_known(exchange.pool.clock()):
        return ""
    return "takes no more requests" if backend.state in ("up", "draining") else f"is {backend.state}"
