"""The PROXY header that a backend is sent in front of the first request: which client this connection is for.

Such a connection serves that client's request and no other: `Closing` stands where idle connections would wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.engine.connections import Closing
from lb_core.engine.proxy_protocol import UNIX_END, End, Version, write

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.engine.downstream import Downstream
    from lb_core.engine.forwarding import Forwarding


def announce(backend: Backend, version: Version) -> None:
    """Let a new backend be told each client's address, and let none of its connections be shared."""
    backend.send_proxy = version
    backend.idle = Closing()


def header_for(exchange: Forwarding, version: Version) -> bytes:
    """The header for an exchange's client.

    A client that a trusted proxy named in X-Forwarded-For has no port that we know of: 0 is sent.
    """
    downstream = exchange.downstream
    source, destination = downstream.told or (_end(downstream, "peername"), _end(downstream, "sockname"))
    if exchange.client != downstream.peer:
        source = End(exchange.client, 0)
    return write(version, source, destination)


def _end(downstream: Downstream, which: str) -> End:
    name = downstream.transport.get_extra_info(which)
    return End(str(name[0]), int(name[1] or 0)) if isinstance(name, tuple) else UNIX_END
