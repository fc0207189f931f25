"""The feature `allow_clients`: only these addresses are served, or all but some; the others get 403.

    allow_clients: [10.0.0.0/8, "2001:db8::/32"]
    allow_clients: {deny: [192.0.2.0/24]}
    allow_clients: {allow: [10.0.0.0/8, unix], deny: [10.66.0.0/16]}

The address is the client's as the engine knows it: the peer of the connection, or what a trusted proxy says of it
(`trusted_proxies`). What is denied is denied, allowed or not; who has no address that can be read is not allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import model_validator

from lb_core import Feature, Peer, Ranges, Response, Settings, address_of, hookimpl

if TYPE_CHECKING:
    from typing import Self

    from lb_core import Exchange, Route

REMEMBERED = 20_000
"""Addresses whose answer is known; then the memory starts afresh."""

_REFUSED = {
    as_json: Response.problem(403, "forbidden", "this address is not allowed here", as_json=as_json)
    for as_json in (False, True)
}


class AllowClientsSettings(Settings):
    """Who is served, by address."""

    short = "allow"

    allow: tuple[Peer, ...] = ()
    """Address ranges that are served, and no others; `unix` for who comes over a unix socket. Empty: everybody is."""
    deny: tuple[Peer, ...] = ()
    """Address ranges that are not served, though allowed."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.allow and not self.deny:
            raise ValueError("nobody is named: write a list of address ranges, or deny: with one")
        return self


class AllowClients:
    """Answers those who are not allowed."""

    def __init__(self, settings: AllowClientsSettings) -> None:
        self._allowed = Ranges(settings.allow)
        self._denied = Ranges(settings.deny)
        self._known: dict[str, bool] = {}

    @hookimpl
    def before_request(self, exchange: Exchange) -> Response | None:
        """Let a client pass, or answer 403."""
        client = exchange.client
        passes = self._known.get(client)
        if passes is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            passes = self._known[client] = self.may_pass(client)
        return None if passes else _REFUSED["json" in exchange.headers.get("accept", "")]

    def may_pass(self, client: str) -> bool:
        """Whether a client with this address is served; an empty one came over a unix socket."""
        readable = not client or address_of(client) is not None
        return readable and client not in self._denied and (not self._allowed or client in self._allowed)


def build(route: Route, settings: AllowClientsSettings) -> AllowClients:
    """The list of a route."""
    del route
    return AllowClients(settings)


FEATURE = Feature("allow_clients", build, settings=AllowClientsSettings)
