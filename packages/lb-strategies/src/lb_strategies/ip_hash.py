"""IP hash: a client keeps its backend for as long as that backend is there, however busy it is."""

from __future__ import annotations

from lb_strategies.consistent_hash import ConsistentHash, ConsistentHashSettings


class IpHash(ConsistentHash):
    """The strategy `ip_hash`: `consistent_hash` on the client, its load not bounded."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(ConsistentHashSettings(on="client", bounded=0))
