"""The feature `rate_limit` of one route: its limits, asked in the order of the configuration.

A request must pass all of them. One that a limit refuses is given back to those before it and never asked of those
after it, so it counts nowhere. What nobody needs is not there: without fields for clients there is no `on_response`,
without a limit of requests under way no `on_complete`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import hookimpl
from lb_ratelimit.fields import policy_fields, standing_fields
from lb_ratelimit.limit import Limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lb_core import Exchange, Response, Route
    from lb_ratelimit.settings import LimitSettings, RateLimitSettings


class RateLimit:
    """Limits of which clients are told nothing but a refusal."""

    __slots__ = ("_form", "_held", "_shown", "limits")

    def __init__(self, limits: tuple[Limit, ...], form: str) -> None:
        self.limits = limits
        self._form = form
        self._shown = tuple(limit for limit in limits if limit.shown)
        self._held = tuple(limit for limit in limits if limit.holds)
        fields = policy_fields(form, (limit.policy for limit in limits if limit.told))
        for limit in limits:
            if limit.told:
                limit.fields = fields
            if limit is not limits[-1]:
                limit.remembers = True

    @hookimpl
    def before_request(self, exchange: Exchange) -> Response | None:
        """Ask every limit."""
        for limit in self.limits:
            answer = limit.ask(exchange)
            if answer is not None:
                for before in self.limits[: self.limits.index(limit)]:
                    before.give_back(exchange)
                return answer
        return None

    def inherit(self, old: RateLimit) -> None:
        """Go on counting where the limits before have counted: those of the same algorithm, key and window."""
        left = list(old.limits)
        for limit in self.limits:
            found = next((other for other in left if limit.inherit(other)), None)
            if found is not None:
                left.remove(found)

    def start(self) -> None:
        """The limits hold from now on."""
        for limit in self.limits:
            limit.start()

    def close(self) -> None:
        """They hold no more."""
        for limit in self.limits:
            limit.close()

    def describe(self) -> list[str]:
        """A line for each limit."""
        return [limit.describe() for limit in self.limits]

    def _show(self, exchange: Exchange) -> None:
        """Tell the client where it stands with the limit that has the fewest left."""
        now = exchange.first_byte
        fewest, tightest, its_key = -1, None, None
        for limit in self._shown:
            key = exchange.state.get(limit)
            if key is not None:
                left = limit.algorithm.remaining(key, now)
                if tightest is None or left < fewest:
                    fewest, tightest, its_key = left, limit, key
        if tightest is None or its_key is None:
            return
        add = exchange.response_headers.add
        for name, value in tightest.fields:
            add(name, value)
        algorithm = tightest.algorithm
        reset = algorithm.reset(its_key, now)
        if not fewest and reset is not None:
            reset = algorithm.retry_after(its_key, now)
        for name, value in standing_fields(self._form, tightest.policy, fewest, reset):
            add(name, value)

    def _release(self, exchange: Exchange) -> None:
        for limit in self._held:
            limit.give_back(exchange)


class Showing(RateLimit):
    """Limits of which clients are told with every answer of a backend."""

    __slots__ = ()

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Tell the client where it stands."""
        self._show(exchange)


class Holding(RateLimit):
    """Limits of which some count requests under way."""

    __slots__ = ()

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """The request is no longer under way, however it ended."""
        self._release(exchange)


class ShowingAndHolding(Showing, Holding):
    """Both."""

    __slots__ = ()


def build(route: Route, settings: RateLimitSettings) -> RateLimit:
    """The limits of a route."""
    limits = tuple(
        Limit(route, name, limit, number=_number(settings.limits[:place], limit))
        for place, (name, limit) in enumerate(zip(settings.names, settings.limits, strict=True))
    )
    shows, holds = any(limit.shown for limit in limits), any(limit.holds for limit in limits)
    kinds: dict[tuple[bool, bool], type[RateLimit]] = {
        (False, False): RateLimit,
        (True, False): Showing,
        (False, True): Holding,
        (True, True): ShowingAndHolding,
    }
    return kinds[shows, holds](limits, next(iter(settings.forms), "off"))


def _number(before: Sequence[LimitSettings], limit: LimitSettings) -> int:
    """How many limits before this one in the list count the same: the n-th of a kind inherits from the n-th."""
    return sum((each.algorithm, each.key, each.window) == (limit.algorithm, limit.key, limit.window) for each in before)
