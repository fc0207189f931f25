"""redis-py's client as this package uses it: one server, Sentinels or a Cluster behind the same few calls.

redis-py is imported when the first client is made, not before. It retries nothing: the link to Redis does that, once
for everybody.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from lb_redis.address import Address
    from lb_redis.settings import ClusterSettings

CONNECTIONS = 8
"""Most connections to one server: beat, exchange, facts, subscription, an edit."""


class Pipeline(Protocol):
    """Commands sent together."""

    def execute_command(self, *args: Any) -> Any: ...
    async def execute(self, raise_on_error: bool = True) -> list[Any]: ...


class Subscription(Protocol):
    """A connection that hears what is published."""

    async def subscribe(self, *channels: str) -> None: ...
    async def ping(self, message: str | None = None) -> Any: ...
    async def get_message(
        self, ignore_subscribe_messages: bool = False, timeout: float | None = 0.0
    ) -> dict[str, Any] | None: ...
    async def aclose(self) -> None: ...


class Client(Protocol):
    """The part of a client that is the same for all three."""

    def execute_command(self, *args: Any) -> Awaitable[Any]: ...
    def pipeline(self, transaction: bool = False) -> Pipeline: ...
    async def aclose(self) -> None: ...


class Connected:
    """A client, and what subscribes at the same place."""

    def __init__(self, settings: ClusterSettings, patience: float) -> None:
        self._address: Address = settings.redis
        self._options = _options(settings, patience)
        self._sentinels: Any = None
        self._subscribers: list[Client] = []
        self.client: Client = self._make(settings)

    async def subscribe(self, *channels: str) -> Subscription:
        """A subscription to channels, closed with the rest."""
        if self._address.kind == "cluster":  # every node of a Cluster hears what is published at any of them
            from redis.asyncio import Redis

            node = cast("Any", self.client).get_random_primary_node()
            client: Any = Redis(host=node.host, port=node.port, **self._options)
            self._subscribers.append(client)
        else:
            client = self.client
        subscription = cast("Subscription", client.pubsub())
        try:
            await subscription.subscribe(*channels)
        except BaseException:
            await subscription.aclose()
            raise
        return subscription

    async def close(self) -> None:
        """Close every connection."""
        for client in (self.client, *self._subscribers):
            await client.aclose()
        for sentinel in self._sentinels.sentinels if self._sentinels is not None else ():
            await sentinel.aclose()

    def _make(self, settings: ClusterSettings) -> Client:
        from redis.asyncio import Redis, RedisCluster, Sentinel
        from redis.asyncio.cluster import ClusterNode

        address, options = self._address, self._options
        match address.kind:
            case "sentinel":
                own = {
                    key: value
                    for key, value in options.items()
                    if key not in ("username", "password", "max_connections")
                }
                own |= {
                    "username": settings.sentinel_username or None,
                    "password": settings.sentinel_password.get_secret_value() or None,
                }
                hosts = list(address.hosts)
                sentinel: Any = Sentinel
                self._sentinels = sentinel(hosts, sentinel_kwargs=own, db=address.database, **options)
                return cast("Client", self._sentinels.master_for(address.service))
            case "cluster":
                nodes = [ClusterNode(host, port) for host, port in address.hosts]
                return cast("Client", RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options))
        (host, port), *_ = address.hosts
        return cast("Client", Redis(host=host, port=port, db=address.database, **options))


def _options(settings: ClusterSettings, patience: float) -> dict[str, Any]:
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    found: dict[str, Any] = {
        "username": settings.user or None,
        "password": settings.secret() or None,
        "socket_timeout": 2 * patience,  # the link gives up before, and looks once more where this process was busy
        "socket_connect_timeout": patience,
        "socket_keepalive": True,
        "protocol": 2,
        "client_name": "lb",
        "max_connections": CONNECTIONS,
        "retry": Retry(NoBackoff(), 0),
    }
    if settings.encrypted:
        tls = settings.tls
        found |= {
            "ssl": True,
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": tls is None or tls.check_hostname,
            "ssl_ca_certs": (tls and tls.ca) or None,
            "ssl_certfile": (tls and tls.cert) or None,
            "ssl_keyfile": (tls and tls.key) or None,
        }
    return found
