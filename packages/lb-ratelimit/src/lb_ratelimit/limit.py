"""One limit of one route: whom a request counts for, whether it may pass, and what is said when it may not."""

from __future__ import annotations

import time
from math import ceil
from typing import TYPE_CHECKING

from lb_core import Event, Ranges, Response
from lb_ratelimit.concurrency import Concurrency
from lb_ratelimit.fields import Fields, Policy, standing_fields
from lb_ratelimit.fixed_window import FixedWindow
from lb_ratelimit.keys import KeyFunction, key_function
from lb_ratelimit.sliding_window import SlidingWindow
from lb_ratelimit.token_bucket import TokenBucket

if TYPE_CHECKING:
    from lb_core import Exchange, Route
    from lb_ratelimit.algorithm import Algorithm
    from lb_ratelimit.recent import Key
    from lb_ratelimit.settings import LimitSettings
    from lb_ratelimit.shared import Shared

QUIET = 10.0
"""Seconds without a refusal after which the next one is an event again."""

FLAG = "rate_limited"
ANSWERS = 256


class Limit:
    """One limit; times are `exchange.started`. `number` is how many limits of the route before it count the same.

    `remembers` says whether an exchange that passed must be found again: because it ends, because a later limit may
    refuse it, or because its answer tells how many are left.
    """

    __slots__ = (
        "_answers",
        "_key",
        "_quiet_until",
        "_refused",
        "_route",
        "_settings",
        "_shared",
        "_take",
        "algorithm",
        "fields",
        "policy",
        "remembers",
    )

    def __init__(self, route: Route, name: str, settings: LimitSettings, *, number: int = 0) -> None:
        self._route = route
        self._settings = settings
        self._key = _with_exempt(key_function(settings.key), settings)
        self._quiet_until = float("-inf")
        self._answers: dict[tuple[int, bool], Response] = {}
        self._shared = _shared(route, settings, number)
        """Where other processes or nodes limit together with this one."""
        self.algorithm = _algorithm(settings) if self._shared is None else self._shared.algorithm
        self._take = self.algorithm.take
        self.policy = Policy(name, settings.requests, None if self.holds else settings.window)
        self.fields: Fields = ()
        """Fields that are always the same; the feature sets them, because they name all its limits."""
        self._refused = 0
        self.remembers = self.holds or self.shown

    @property
    def holds(self) -> bool:
        """Whether requests count for as long as they are under way."""
        return self._settings.algorithm == "concurrency"

    @property
    def refused(self) -> int:
        """How many it has refused, in all processes of the node."""
        return self._refused if self._shared is None else self._shared.counts.refused

    @property
    def told(self) -> bool:
        """Whether clients are told of it; they are not told about what would be."""
        return self._settings.headers != "off" and not self._settings.dry_run

    @property
    def shown(self) -> bool:
        """Whether they are told with every answer, not only with refusals."""
        return self.told and self._settings.headers != "refused"

    def ask(self, exchange: Exchange) -> Response | None:
        """None for a request that may pass, which then counts; else the answer."""
        key = self._key(exchange)
        if key is None:
            return None
        if self._take(key, exchange.started):
            if self.remembers:
                exchange.state[self] = key
            return None
        self._tell(exchange)
        return None if self._settings.dry_run else self._answer(exchange, key)

    def give_back(self, exchange: Exchange) -> None:
        """The request has ended, or did not happen: another limit refused it."""
        key = exchange.state.pop(self, None)
        if key is not None:
            self.algorithm.give_back(key, exchange.started)

    def inherit(self, old: Limit) -> bool:
        """Go on counting where a limit of the same kind has counted; whether it is of the same kind."""
        mine, its = self._settings, old._settings
        if (mine.algorithm, mine.key) != (its.algorithm, its.key) or (mine.window != its.window and not self.holds):
            return False
        self._quiet_until = old._quiet_until
        self._refused = old._refused
        if self._shared is not None and old._shared is not None:
            self._shared.inherit(old._shared)
            return True
        self.algorithm = algorithm = old.algorithm
        algorithm.requests = mine.requests
        if isinstance(algorithm, TokenBucket):
            algorithm.burst = mine.burst or mine.requests
        algorithm.resize(mine.max_keys)
        self._take = algorithm.take
        return True

    def start(self) -> None:
        """It limits from now on."""
        if self._shared is not None:
            self._shared.start()

    def close(self) -> None:
        """It limits no more."""
        if self._shared is not None:
            self._shared.close()

    def describe(self) -> str:
        """What it is and how it stands, for `lb explain`."""
        dry = ", dry run" if self._settings.dry_run else ""
        counts = f"{len(self.algorithm.counters)} keys, {self.refused} refused"
        return f"limit {self.policy.name}: {self._what()}, {self._settings.algorithm}{dry}: {counts}"

    def _what(self) -> str:
        settings = self._settings
        what = f"{settings.requests} at once" if self.holds else f"{settings.requests}/{settings.window:g}s"
        return f"{what} by {settings.key}"

    def _tell(self, exchange: Exchange) -> None:
        """The flag in the log; an event when it begins."""
        exchange.flag(FLAG)
        self._refused += 1
        now = exchange.started
        quiet_until = self._quiet_until
        if self._shared is not None:
            quiet_until = max(quiet_until, self._shared.counts.note_refused(now) + QUIET)
        if now >= quiet_until:
            does = "would refuse requests (dry run)" if self._settings.dry_run else "refuses requests"
            who = exchange.client or "a client over a unix socket"
            message = f"limit {self.policy.name} ({self._what()}) {does}, the first of {who}"
            details = {"limit": self.policy.name, "client": exchange.client, "dry_run": self._settings.dry_run}
            self._route.pool.notify(Event("rate_limited", message, route=self._route.name, details=details))
        self._quiet_until = now + QUIET

    def _answer(self, exchange: Exchange, key: Key) -> Response:
        wait = max(1, ceil(self.algorithm.retry_after(key, exchange.started)))
        as_json = "json" in exchange.headers.get("accept", "")
        answer = self._answers.get((wait, as_json))
        if answer is None:
            if len(self._answers) >= ANSWERS:
                self._answers = {}
            answer = self._answers[wait, as_json] = self._make_answer(wait, as_json)
        return answer

    def _make_answer(self, wait: int, as_json: bool) -> Response:
        form = "draft" if self._settings.headers == "refused" else self._settings.headers
        reset = None if self.holds else float(wait)  # no sooner than Retry-After, as the draft asks
        fields = {"Retry-After": str(wait), **dict(self.fields), **dict(standing_fields(form, self.policy, 0, reset))}
        detail = f"too many requests: try again in {wait} s"
        return Response.problem(429, FLAG, detail, as_json=as_json, headers=fields)


def _shared(route: Route, settings: LimitSettings, number: int) -> Shared | None:
    if route.sharing.memory is None:
        return None
    from lb_ratelimit.shared import Shared  # a process alone need not load any of it

    return Shared(route, settings, number)


def _algorithm(settings: LimitSettings) -> Algorithm:
    requests, window, most = settings.requests, settings.window, settings.max_keys
    phase = time.time() - time.monotonic()
    match settings.algorithm:
        case "sliding_window":
            return SlidingWindow(requests, window, most=most, phase=phase)
        case "fixed_window":
            return FixedWindow(requests, window, most=most, phase=phase)
        case "token_bucket":
            return TokenBucket(requests, window, settings.burst or requests, most=most)
        case _:
            return Concurrency(requests)


def _with_exempt(key: KeyFunction, settings: LimitSettings) -> KeyFunction:
    if not settings.exempt:
        return key
    exempt = Ranges(settings.exempt)
    return lambda exchange: None if exchange.client in exempt else key(exchange)
