"""Sticky sessions by a cookie that names the client's backend.

    select_backend   the cookie's backend where it can serve; else the strategy decides, and the exchange is remembered
    keeps            the same where nobody is a candidate: when all drain, each serves its own until its deadline
    on_response      a client whose backend is new to it gets another cookie
    on_complete      forget who got no answer

A request with the cookie of a candidate costs one search of its head and one look into a dict, and sets nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import hookimpl
from lb_core.sharing import Figures
from lb_sessions.agreed import Agreed
from lb_sessions.cookie import Cookie
from lb_sessions.obstacles import obstacle
from lb_sessions.owners import Owners
from lb_sessions.secret import Secret

if TYPE_CHECKING:
    from lb_core import Backend, Exchange, Pool, Route
    from lb_sessions.settings import StickySettings

MOST = 10_000
"""Exchanges that may be remembered at once. One that is only asked about, as `lb explain` does, never ends; and of more
clients than that who wait for their first answer, some get their cookie with the second."""


class CookieSessions:
    """The feature `sticky_sessions` of one route, by cookie.

    `given` counts clients that had no backend, `moved` those that were given another one.
    """

    __slots__ = (
        "_agreed",
        "_begin",
        "_cookie",
        "_decided",
        "_figures",
        "_heir",
        "_owners",
        "_route",
        "_sign",
        "_size",
        "_stands",
        "given",
        "moved",
        "secret",
        "settings",
    )

    def __init__(self, settings: StickySettings, route: Route | None = None) -> None:
        self.settings = settings
        self._route = route if route is not None and route.sharing.memory is not None else None
        self._agreed: Agreed | None = None
        self._figures: Figures | None = None
        self._heir = False
        self._cookie = Cookie(settings)
        self._sign, self._size, self._stands = self._cookie.sign, self._cookie.size, self._cookie.stands
        self._begin = len(self._sign)
        self._owners: dict[Pool, Owners] = {}
        self._decided: dict[Exchange, Backend | None] = {}
        self.secret = Secret(settings, heard=self._route is None or not self._route.sharing.seat)
        self.given = 0
        self.moved = 0

    @hookimpl
    def select_backend(self, exchange: Exchange, candidates: tuple[Backend, ...]) -> Backend | None:
        """The client's own backend."""
        head = exchange.head
        at = head.find(self._sign)
        if at >= 0:
            owners = self._owners.get(exchange.pool)
            if owners is not None and owners.candidates is candidates:
                backend = owners.ready.get(head[at + self._begin : at + self._size])
                if backend is not None and backend.in_flight < backend.limit and self._stands(head, at):
                    if self._decided:
                        self._decided.pop(exchange, None)
                    return backend
        return self._unusual(exchange, candidates)

    def _unusual(self, exchange: Exchange, candidates: tuple[Backend, ...]) -> Backend | None:
        """The same by the letter; remembers whom the strategy has to find a backend for."""
        token = self._cookie.token(exchange.head)
        owner = self._owner(exchange.pool, token) if token else None
        if owner is not None:
            why = obstacle(owner, exchange, candidates)
            if not why:
                self._decided.pop(exchange, None)
                return owner
            exchange.note(f"its client is {owner.name}'s, which {why}")
        if len(self._decided) >= MOST:
            del self._decided[next(iter(self._decided))]
        self._decided[exchange] = owner
        return None

    def keeps(self, exchange: Exchange) -> Backend | None:
        """The client's own backend where nobody takes new ones."""
        token = self._cookie.token(exchange.head)
        owner = self._owner(exchange.pool, token) if token else None
        return owner if owner is not None and not obstacle(owner, exchange, ()) else None

    def _owner(self, pool: Pool, token: bytes) -> Backend | None:
        secret = self.secret.existing()  # none was made yet: then nobody has a token
        return self._owners_in(pool, secret).owner(token) if secret else None

    def _owners_in(self, pool: Pool, secret: bytes) -> Owners:
        owners = self._owners.get(pool)
        if owners is None:
            owners = self._owners[pool] = Owners(pool, secret)
        else:
            owners.settle()
        return owners

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Give a client its cookie, where its backend is another than its cookie says."""
        if self._decided and exchange in self._decided:
            before, now = self._decided.pop(exchange), exchange.backend
            if now is None or now is before:
                return
            if before is None:
                self.given += 1
            else:
                self.moved += 1
                exchange.flag("repicked")
            if self._figures is not None:
                self._figures.write((self.given, self.moved))
            token = self._owners_in(exchange.pool, self.secret.made()).token(now)
            tls = exchange.client_scheme == "https"
            exchange.response_headers.add("Set-Cookie", self._cookie.setting(token, tls=tls))

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """Forget an exchange that ended without a response of a backend."""
        if self._decided:
            self._decided.pop(exchange, None)

    def why(self, exchange: Exchange, candidates: tuple[Backend, ...], backend: Backend) -> str:
        """Why it was chosen, for the decision record."""
        del exchange
        drains = "" if backend in candidates else ", though it takes no new ones"
        return f"the client's own, by the cookie {self.settings.cookie}{drains}"

    def inherit(self, old: object) -> None:
        """Go on with the secret, where the settings still name it, and with the counts."""
        if isinstance(old, CookieSessions):
            mine, before = self.settings, old.settings
            if (mine.secret, mine.secret_file) == (before.secret, before.secret_file):
                self.secret = old.secret
            self.given, self.moved = old.given, old.moved
            old._heir = True

    def start(self) -> None:
        """Have the same secret as the other processes that serve the route, and count with them."""
        route = self._route
        if route is None:
            return
        self._figures = Figures(route.sharing, f"sticky_sessions/{route.name}", 2)
        if route.sharing.seat:
            self._figures.write((self.given, self.moved))
        if not self.settings.secret.get_secret_value():
            self._agreed = Agreed(route, self.secret, self._owners.clear)
            self._agreed.enter()

    def close(self) -> None:
        """Agree with nobody any more."""
        if self._agreed is not None:
            self._agreed.leave()
        if self._figures is not None:
            self._figures.close(release=not self._heir)
        self._agreed = self._figures = None

    def ready(self) -> None:
        """Have the secret, before the first request."""
        self.secret.made()
        if self._agreed is not None:
            self._agreed.tell()

    def describe(self) -> str:
        """How many clients were given a backend, and how many another one."""
        given, moved = self._figures.totals() if self._figures is not None else (self.given, self.moved)
        return f"cookie {self.settings.cookie}: {given} clients given a backend, {moved} moved to another"
