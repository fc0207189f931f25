"""What the workers of a node count together: failures in a row, and the shares of a window.

A backend whose requests are spread over eight workers fails eight times as often as each of them sees. So while
something fails each worker tells the others what it has counted since it told last, EVERY seconds at most, and they add
it to their own. While nothing fails nothing is told.

    a row       is broken by a success in any worker; what others told together with it stands after it
    a window    at the first failure its requests so far are told too, by everybody

What is told is up to EVERY old, so a breaker may open some failures late, and a success that crossed a failure on the
way may count before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from lb_breaker.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lb_breaker.settings import BreakerSettings
    from lb_breaker.timers import Timer
    from lb_core.sharing import Channel, Sharing

EVERY = 0.05

News = list[int]
"""Whether a row was broken (0 or 1), failures since, and of a window: requests, failures, slow ones."""


class Counts:
    """The way to the other workers; `take(key, name, news)` hears what they have counted.

    `key` stands for the settings, `name` is the backend's, or empty.
    """

    def __init__(
        self,
        sharing: Sharing,
        topic: str,
        take: Callable[[str, str, News], None],
        *,
        later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float],
    ) -> None:
        self._sharing = sharing
        self._topic = topic
        self._take = take
        self._later = later
        self._clock = clock
        self._untold: dict[PooledTally, None] = {}
        self._next = 0.0
        self._timer: Timer | None = None
        self._channel: Channel | None = None

    def enter(self) -> None:
        """Take part."""
        self._channel = self._sharing.channel(self._topic, self._receive, nodes=False)

    def leave(self) -> None:
        """Take part no longer."""
        self._untold.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def tell(self, tally: PooledTally) -> None:
        """There is news in a tally: tell it now, or when it is time again."""
        self._untold[tally] = None
        if self._timer is None and self._channel is not None:
            wait = self._next - self._clock()
            if wait <= 0 and not self._sharing.applying:
                self._flush()
            else:
                self._timer = self._later(max(wait, 0.0), self._due)

    def _due(self) -> None:
        self._timer = None
        if self._untold:
            self._flush()

    def _flush(self) -> None:
        self._next = self._clock() + EVERY
        message: dict[str, dict[str, News]] = {}
        for tally in self._untold:
            message.setdefault(tally.key, {})[tally.name] = tally.news()
        self._untold.clear()
        if self._channel is not None:
            self._channel.send(message)

    def _receive(self, message: Mapping[str, Mapping[str, Any]]) -> None:
        for key, named in message.items():
            for name, news in named.items():
                self._take(key, name, [int(number) for number in news])


class PooledTally(Tally):
    """The count of one backend, or of one route, in all workers; `key` and `name` say which it is.

    `counts` leads to the others.
    """

    __slots__ = ("_news", "_until", "counts", "key", "name")

    def __init__(self, rules: BreakerSettings, counts: Counts, name: str) -> None:
        super().__init__(rules)
        self.key = key_of(rules)
        self.name = name
        self.counts = counts
        self._until = 0.0
        self._news: News = [0, 0, 0, 0, 0]

    def failed(self, now: float, why: str) -> str:
        """Count a failure; the reason to open, or nothing."""
        self._watch(now)
        reason = super().failed(now, why)
        news = self._news
        news[1] += 1
        news[2] += 1
        news[3] += 1
        if not reason:
            self.counts.tell(self)
        return reason

    def passed(self, now: float, seconds: float) -> str:
        """Count a success that took so long; the reason to open, or nothing."""
        slow = seconds > self._slow_call
        if slow:
            self._watch(now)
        broke = bool(self.row)
        reason = super().passed(now, seconds)
        if now < self._until:
            news = self._news
            if broke:
                news[0], news[1] = 1, 0
            news[2] += 1
            news[4] += slow
            if not reason:
                self.counts.tell(self)
        return reason

    def broken(self) -> None:
        """A row has ended, and nothing else was counted."""
        self._news[0], self._news[1] = 1, 0
        self.counts.tell(self)

    def news(self) -> News:
        """What this worker has counted since it told last."""
        told, self._news = self._news, [0, 0, 0, 0, 0]
        return told

    def add(self, now: float, news: News) -> None:
        """Count what another worker has counted."""
        fresh = self._watch(now)
        broke, row, requests, failures, slow = news
        self.row = row if broke else self.row + row
        window = self._window
        if window is not None:
            if now >= window.ends:
                window.advance(now)
            window.requests += requests
            window.failures += failures
            window.slow += slow
            if fresh and self._news[2]:
                self.counts.tell(self)  # the others do not know yet what went well here

    def _watch(self, now: float) -> bool:
        """Tell from now on for as long as the window reaches; True where nothing was told so far."""
        window = self._window
        if window is None:
            return False
        fresh = now >= self._until
        if fresh:
            if now >= window.ends:
                window.advance(now)
            self._news[2:] = [window.requests, window.failures, window.slow]
        self._until = now + self._rules.window
        return fresh


def key_of(rules: BreakerSettings) -> str:
    """What stands for these settings, in every process."""
    return f"{crc32(rules.model_dump_json().encode()):08x}"
