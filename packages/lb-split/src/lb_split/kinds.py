"""What is drawn: each request (`Split`), each client by its address, each client by a cookie."""

from __future__ import annotations

import random
from time import monotonic
from typing import TYPE_CHECKING, Any

from lb_core import hookimpl
from lb_split.cookie import cookie, reader
from lb_split.points import of_client, place, sequence
from lb_split.split import Split

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Exchange, Route
    from lb_split.part import Part
    from lb_split.settings import SplitSettings


class SplitByClient(Split):
    """Drawing for each client by the hash of its address."""

    def _drawn(self, exchange: Exchange) -> Part | None:
        taking = self._taking_part
        return taking[place(self._borders, of_client(exchange.client))] if taking else None


class SplitByCookie(Split):
    """Drawing for each client, remembered by a cookie that holds its point and neither a pool nor a person."""

    def __init__(
        self,
        route: Route,
        settings: SplitSettings,
        *,
        clock: Callable[[], float] = monotonic,
        start: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(route, settings, clock=clock)
        self._point_in = reader(settings.cookie)
        self._points = sequence(int(start() * 65536))
        self._new: dict[Exchange, int] = {}

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Give a new client its cookie."""
        if self._new:
            point = self._new.pop(exchange, None)
            if point is not None:
                field = cookie(self._settings.cookie, point, self._settings.ttl, secure=exchange.scheme == "https")
                exchange.response_headers.add("Set-Cookie", field)

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """Count how a pool has fared, and forget who got no answer."""
        if self._new:
            self._new.pop(exchange, None)
        super().on_complete(exchange)

    def _drawn(self, exchange: Exchange) -> Part | None:
        taking = self._taking_part
        if not taking:
            return None
        point = self._point_in(exchange.head)
        if point is None:
            point = self._new[exchange] = next(self._points)
        return taking[place(self._borders, point)]

    def _carry_on(self, old: Any) -> None:
        super()._carry_on(old)
        self._points = old._points


KINDS: dict[str, type[Split]] = {"request": Split, "cookie": SplitByCookie, "client": SplitByClient}
