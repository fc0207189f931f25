"""The feature `split`: which of several pools serves a request.

    a rule     a header field or a range of clients sends a request to its pool, whatever the weights
    by         each request is drawn, or each client, which then keeps its pool: see `points`
    absent     a pool without candidates is passed over, and the others share what was its share
    rollback   a pool that fails more often than the stable one loses its weight, until somebody changes it
    shift      other weights, at once and without a reload
    together   a shift and a rollback reach every process and node that has the same section (told.py)

Nothing is asked of the pools on the way of a request: they tell when their candidates change, and the next request
finds out who takes part. While no pool with a weight has candidates the split stands aside, and the request begins
where it would without it.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from lb_core import Event, LbError, hookimpl
from lb_split.part import Part, has_failed
from lb_split.points import borders
from lb_split.rollback import verdict
from lb_split.rules import rule_of
from lb_split.shares import percent, shifted
from lb_split.told import Told
from lb_split.turns import turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lb_core import Exchange, Pool, Route
    from lb_split.outcomes import Outcomes
    from lb_split.recent_of_all import Sum
    from lb_split.settings import SplitSettings

    Rule = tuple[Callable[[Exchange], bool], Part]


class Split:
    """The feature `split` of one route, drawing for each request.

    `shift` changes the weights; `parts` are the pools in the order of the configuration. The clock is that of
    `exchange.ended`.
    """

    def __init__(self, route: Route, settings: SplitSettings, *, clock: Callable[[], float] = monotonic) -> None:
        self._route = route
        self._settings = settings
        self._clock = clock
        self.parts = tuple(Part(each, route, settings.rollback.window) for each in settings.pools)
        self._stable = next((part for part in self.parts if part.own), self.parts[0])
        self._by_pool = {part.pool: part for part in self.parts}
        rules = [(rule_of(each), part) for each, part in zip(settings.pools, self.parts, strict=True)]
        self._rules: list[Rule] = [(rule, part) for rule, part in rules if rule is not None]
        self._watches = settings.rollback.enabled
        self._told = Told(route, settings, self._take)
        self._heard: list[Pool] = []
        self._unsettled = True
        self._taking_part: list[Part] = []
        self._weights: list[float] = []
        self._turns: Iterator[int] = iter(())
        self._borders: list[float] = []

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        """Send the request to its pool."""
        if self._unsettled:
            self._settle()
        part = self._ruled(exchange) if self._rules else None
        if part is None:
            part = self._drawn(exchange)
        if part is not None and not part.own:
            exchange.pool = part.pool

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """Count how a pool has fared."""
        part = self._by_pool.get(exchange.pool)
        if part is None or not exchange.attempts:
            return
        failed = has_failed(exchange)
        part.requests += 1
        part.failed += failed
        if self._watches:
            part.recent.add(exchange.ended, failed)
            if part.recent.failed and part is not self._stable and part.weight:
                self._judge(part, exchange.ended)

    def shift(self, wanted: Mapping[str, float]) -> None:
        """Change the weights, from the next request on, until the section `split` changes or the balancer ends.

        Where every pool is named these are the new weights; else they are percent, and the others share the rest as
        they did before. Raises LbError.
        """
        before = self.weights
        after = shifted(before, wanted)
        for part in self.parts:
            part.weight = after[part.name]
            part.rolled_back = part.rolled_back and part.name not in wanted
            if part.name in wanted:
                self._forget(part)
        self._unsettled = True
        self._told.tell(self.weights, self.rolled_back, wanted)
        details = {"before": before, "after": after}
        self._tell("split_shifted", ", ".join(self._shares()), details)

    @property
    def weights(self) -> dict[str, float]:
        """The weights now, by pool."""
        return {part.name: part.weight for part in self.parts}

    @property
    def rolled_back(self) -> list[str]:
        """The pools that were taken out because they failed."""
        return [part.name for part in self.parts if part.rolled_back]

    def inherit(self, old: Split) -> None:
        """Go on with the counts and, where the section is the same, with the weights as they were shifted."""
        before = {part.name: part for part in old.parts}
        same = old._settings == self._settings
        for part in self.parts:
            known = before.get(part.name)
            if known is None:
                continue
            part.requests, part.failed = known.requests, known.failed
            if same:
                part.weight, part.rolled_back, part.recent = known.weight, known.rolled_back, known.recent
        if same:
            self._told.carry_on(old._told)
            if type(old) is type(self):
                self._carry_on(old)

    def start(self) -> None:
        """Tell the other processes, and hear them."""
        self._told.enter(lambda: (self.weights, self.rolled_back))

    def close(self) -> None:
        """Listen to the pools no more, nor to other processes."""
        self._told.leave()
        for pool in self._heard:
            pool.on_change.remove(self._changed)
        self._heard.clear()
        if self._changed in self._route.on_gate:
            self._route.on_gate.remove(self._changed)
        self._unsettled = True
        self._watches = False  # requests under way still end here; whoever comes after judges

    def describe(self) -> list[str]:
        """Shares, requests and failures of each pool."""
        now, window = self._clock(), self._settings.rollback.window
        lines = []
        for part, share in zip(self.parts, self._shares(), strict=True):
            lately = self._lately(part, now)
            recent = f", {lately.ratio:.1%} of {lately.requests} in {window:g}s" if self._watches else ""
            state = ", rolled back" if part.rolled_back else "" if part.pool.candidates else ", no candidates"
            requests, failed = self._counted(part)
            lines.append(f"{share}: {requests} requests, {failed} failed{recent}{state}")
        return lines

    def _shares(self) -> list[str]:
        total = sum(part.weight for part in self.parts)
        return [f"{part.name} {percent(part.weight, total)}" for part in self.parts]

    # who takes part

    def _ruled(self, exchange: Exchange) -> Part | None:
        for rule, part in self._rules:
            if rule(exchange) and part.pool.candidates:
                return part
        return None

    def _drawn(self, exchange: Exchange) -> Part | None:
        """The part whose turn it is."""
        del exchange  # each request by itself
        taking = self._taking_part
        return taking[next(self._turns)] if taking else None

    def _settle(self) -> None:
        """Find out who takes part; the turns begin anew only where that has changed."""
        self._unsettled = False
        route = self._route
        if self._changed not in route.on_gate:
            route.on_gate.append(self._changed)
        for pool in (*self._by_pool, route.serving, route.lent()):
            if pool is not None and pool not in self._heard:
                self._heard.append(pool)
                pool.on_change.append(self._changed)
        taking = [part for part in self.parts if part.weight and self._serves(part)]
        weights = [part.weight for part in taking]
        if taking != self._taking_part or weights != self._weights:
            self._taking_part, self._weights = taking, weights
            self._turns = turns(weights) if taking else iter(())
            self._borders = borders(weights) if taking else []

    def _serves(self, part: Part) -> bool:
        """Whether a part's requests find somebody; those of the route's own pool perhaps at its standby."""
        return self._route.reachable if part.own else bool(part.pool.candidates)

    def _changed(self) -> None:
        self._unsettled = True

    def _carry_on(self, old: Any) -> None:
        """Go on in the middle of the turns."""
        self._taking_part = [part for part in self.parts if part.name in {each.name for each in old._taking_part}]
        self._weights, self._turns, self._borders = old._weights, old._turns, old._borders

    # what was counted

    def _counted(self, part: Part) -> tuple[int, int]:
        """Requests and failures so far."""
        return part.requests, part.failed

    def _lately(self, part: Part, now: float) -> Outcomes | Sum:
        """How a part has fared within the window."""
        part.recent.advance(now)
        return part.recent

    def _forget(self, part: Part) -> None:
        """What a part did before counts no more."""
        part.recent.clear()

    def _take(self, weights: Mapping[str, float], rolled_back: Iterable[str], cleared: Iterable[str]) -> None:
        """Follow what another process has done: it told the event."""
        for part in self.parts:
            part.weight, part.rolled_back = weights[part.name], part.name in rolled_back
            if part.name in cleared:
                self._forget(part)
        self._unsettled = True

    # rollback

    def _judge(self, part: Part, now: float) -> None:
        stable = self._stable
        rollback = self._settings.rollback
        mine, theirs = self._lately(part, now), self._lately(stable, now)
        if not self._serves(stable) or not verdict(mine, theirs, rollback):
            return
        weight, part.weight, part.rolled_back = part.weight, 0.0, True
        if not any(each.weight for each in self.parts):
            stable.weight = weight
        self._unsettled = True
        self._told.tell(self.weights, self.rolled_back)
        details = {
            "pool": part.name,
            "weight": weight,
            "requests": mine.requests,
            "failed": mine.failed,
            "error_ratio": mine.ratio,
            "stable": stable.name,
            "stable_requests": theirs.requests,
            "stable_failed": theirs.failed,
            "stable_error_ratio": theirs.ratio,
            "window": rollback.window,
        }
        message = (
            f"{part.name} failed {mine.failed} of {mine.requests} requests in {rollback.window:g}s ({mine.ratio:.1%}), "
            f"{stable.name} {theirs.failed} of {theirs.requests} ({theirs.ratio:.1%}): "
            f"the weight of {part.name} is 0 until somebody changes it"
        )
        self._tell("canary_rolled_back", message, details)

    def _tell(self, kind: str, message: str, details: Mapping[str, object]) -> None:
        self._route.pool.notify(Event(kind, message, route=self._route.name, details=details))


def split_of(route: Route) -> Split:
    """The split of a route that has one; raises LbError."""
    for _, part in route.parts:
        if isinstance(part, Split):
            return part
    raise LbError(f'route "{route.name}" has no split: add the section split: to it')
