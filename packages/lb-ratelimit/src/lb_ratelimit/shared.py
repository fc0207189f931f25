"""The algorithms over counts that several processes share.

    windows        add, and read what all have added; where it is close, once more behind a barrier
    token bucket   whether a token may be taken and taking it are one step, because others take at the same time
    concurrency    add first, and take back what was too much, for the same reason

Each request is decided here, without asking anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.sharing import ArrivalCounts, arrivals, gauge, windows
from lb_ratelimit.concurrency import Concurrency
from lb_ratelimit.fixed_window import FixedWindow
from lb_ratelimit.sliding_window import SlidingWindow
from lb_ratelimit.token_bucket import TokenBucket
from lb_ratelimit.windows import Windows

if TYPE_CHECKING:
    from lb_core import Route
    from lb_core.sharing import GaugeCounts, SharedCounts, WindowCounts
    from lb_ratelimit.algorithm import Algorithm
    from lb_ratelimit.recent import Key
    from lb_ratelimit.settings import LimitSettings


class SharedSliding(SlidingWindow):
    """A sliding window for all processes."""

    __slots__ = ("_shared",)

    def __init__(self, requests: int, window: float, counters: WindowCounts) -> None:
        super().__init__(requests, window, counters=counters, align=counters.node.phase)
        self._shared = counters

    def take(self, key: Key, now: float) -> bool:
        """Whether a request may pass, which then counts."""
        if now >= self.end:
            self.advance(now)
        index, counts = self.index, self._shared
        _, used, previous = counts.add(key, index)
        share = (self.end - now) / self.window
        if share > 1.0:
            share = 1.0
        if used + previous * share <= self.requests - counts.slack:
            return True
        _, used, previous = counts.settled(key, index)
        if used + previous * share <= self.requests:
            return True
        counts.add(key, index, -1)
        return False


class SharedFixed(FixedWindow):
    """A fixed window for all processes."""

    __slots__ = ("_shared",)

    def __init__(self, requests: int, window: float, counters: WindowCounts) -> None:
        super().__init__(requests, window, counters=counters, align=counters.node.phase)
        self._shared = counters

    def take(self, key: Key, now: float) -> bool:
        """Whether a request may pass, which then counts."""
        if now >= self.end:
            self.advance(now)
        index, counts = self.index, self._shared
        if counts.add(key, index)[1] <= self.requests - counts.slack:
            return True
        if counts.settled(key, index)[1] <= self.requests:
            return True
        counts.add(key, index, -1)
        return False


class SharedBucket(TokenBucket):
    """A token bucket for all processes."""

    __slots__ = ("_shared",)

    def __init__(self, requests: int, window: float, burst: int, counters: ArrivalCounts) -> None:
        super().__init__(requests, window, burst, counters=counters)
        self._shared = counters

    def take(self, key: Key, now: float) -> bool:
        """Whether a request may pass, which then takes a token."""
        if now >= self._turns:
            self._turn(now)
        return self._shared.take(key, now, self._tolerance) > 0.0


class SharedConcurrency(Concurrency):
    """So many at the same time in all processes."""

    __slots__ = ()

    def __init__(self, requests: int, counters: GaugeCounts) -> None:
        super().__init__(requests, counters)

    def take(self, key: Key, now: float) -> bool:  # noqa: ARG002 (time does not matter here)
        """Whether a request may pass, which is then under way."""
        if self.counters.add(key) <= self.requests:
            return True
        self.counters.add(key, -1)
        return False


class Shared:
    """One limit's algorithm over shared counts, and what the other processes and nodes make of its number.

    While the other nodes cannot be reached the limit is this node's share. The clock by which windows are aligned is
    the same in every process.
    """

    __slots__ = ("_held", "_settings", "_sharing", "algorithm", "counts")

    def __init__(self, route: Route, settings: LimitSettings, number: int) -> None:
        self._settings = settings
        self._sharing = route.sharing
        self._held = False
        self.algorithm, self.counts = _built(route, settings, number)

    def inherit(self, old: Shared) -> None:
        """Go on with what has been counted; counts of the same name and size are the same already."""
        self._hold()
        if old.counts is not self.counts:
            self.counts.adopt(old.counts)

    def start(self) -> None:
        """It limits from now on."""
        self._hold()
        self.counts.set_limit(self._settings.requests)
        if isinstance(self.counts, ArrivalCounts):
            self.counts.burst = float(self._settings.burst or self._settings.requests)
        self._sharing.on_share.append(self._scale)
        self._sharing.on_offset.append(self._realign)
        self._scale()

    def close(self) -> None:
        """It limits no more."""
        for hooks, hear in ((self._sharing.on_share, self._scale), (self._sharing.on_offset, self._realign)):
            if hear in hooks:
                hooks.remove(hear)
        if self._held:
            self._held = False
            self.counts.drop()

    def _hold(self) -> None:
        if not self._held:
            self._held = True
            self.counts.hold()

    def _scale(self) -> None:
        algorithm, share = self.algorithm, self._sharing.share
        algorithm.requests = self.counts.allowed
        if isinstance(algorithm, TokenBucket):
            burst = self._settings.burst or self._settings.requests
            algorithm.burst = max(1, int(burst * share)) if share < 1.0 else burst

    def _realign(self) -> None:
        if isinstance(self.algorithm, Windows):
            self.algorithm.realign()


def _built(route: Route, settings: LimitSettings, number: int) -> tuple[Algorithm, SharedCounts]:
    """An algorithm and its counts; they are found again by what must be the same for counts to be inherited."""
    sharing, requests, window = route.sharing, settings.requests, settings.window
    length = "" if settings.algorithm == "concurrency" else f"/{window:g}"
    name = f"rate_limit/{route.name}/{settings.algorithm}/{settings.key}{length}/{number}"
    match settings.algorithm:
        case "sliding_window" | "fixed_window":
            slides = settings.algorithm == "sliding_window"
            counts = windows(sharing, name, most=settings.max_keys, limit=requests, window=window, sliding=slides)
            return (SharedSliding if slides else SharedFixed)(requests, window, counts), counts
        case "token_bucket":
            times = arrivals(sharing, name, most=settings.max_keys, limit=requests, window=window)
            return SharedBucket(requests, window, settings.burst or requests, times), times
        case _:
            under_way = gauge(sharing, name, limit=requests)
            return SharedConcurrency(requests, under_way), under_way
