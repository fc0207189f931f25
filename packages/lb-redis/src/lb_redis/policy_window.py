"""The keys of one window, and the numbered batches in which they are told to Redis.

    settle    what is kept of keys that are hardly used is looked at               \\
    add       what the processes have counted since the last time is taken in       }  one exchange
    batch     what is to be said; the same again until it is answered               |
    answered  the answer; returns what the processes must know now                 /

After a loss (Redis restarted empty, or from an older state) everything is told again. Until all nodes have done so,
what was known of the others before is not forgotten, and nothing is asked for; then it is told once more, to hear what
the others have.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf
from typing import TypeVar

from lb_redis.policy import AHEAD, MOST_AMOUNT, SHORT, Account, Answer, Batch, Key, Rules, Told

MOST = 1000
"""Keys in one batch: Redis does nothing else for about a millisecond then."""

IDLE = 0.3
"""Seconds after which a reservation that is not used shrinks; then the wait doubles, up to `LONGEST`."""

POLL = 0.05
"""Seconds after which a refusal is a reason to ask again for more of a key that seemed used up; they double, too."""

LONGEST = 1.0

HEALING = 0.8
"""Seconds after a loss in which the other nodes are thought not to have told everything again."""


class Window:
    """One window of one limit, or the part of it that is in one bucket of Redis; `before` finds the one before it.

    Most keys are this node's alone: of them there is a number only. The others have an account.
    """

    def __init__(self, index: int, bucket: int, rules: Rules, before: Callable[[], Window | None]) -> None:
        self.index = index
        self.bucket = bucket
        self.accounts: dict[Key, Account] = {}
        self.alone: dict[Key, int] = {}
        self._rules = rules
        self._before = before
        self._flying: Batch | None = None
        self._number = 0
        self._news: dict[Key, int] = {}
        self._unsaid: dict[Key, int] = {}
        self._quiet = rules.quiet
        self._dirty: dict[Key, Account] = {}
        self._timers: list[tuple[float, int, Key]] = []
        self._set = 0
        self._over = False
        self._checked = True
        self._healing = -inf

    def add(self, key: Key, amount: float, now: float) -> None:
        """This node has let through so much more; 0: it has refused a request for want of more."""
        account = self.accounts.get(key)
        if account is None:
            if amount:
                news = self._news.get(key)
                if news is not None:
                    self._news[key] = news + int(amount)
                    return
                news = self._unsaid.pop(key, 0) + int(amount)
                unsaid = 0 < news < self._quiet  # too little to be said
                (self._unsaid if unsaid else self._news)[key] = news
        elif amount:
            account.used += int(amount)
            self._dirty[key] = account
        elif now >= account.due:
            account.lacks = True
            self._dirty[key] = account

    def used(self, key: Key) -> int:
        """What this node has let through."""
        account = self.accounts.get(key)
        if account is not None:
            return account.used
        return self.alone.get(key, 0) + self._news.get(key, 0) + self._unsaid.get(key, 0)

    def claimed(self, key: Key) -> int:
        """What Redis counts for this node."""
        account = self.accounts.get(key)
        return account.claimed if account is not None else self.alone.get(key, 0)

    def settle(self, now: float) -> list[Told]:
        """Look at keys that are used less than was reserved; returns what the processes must know."""
        self._quiet = self._rules.quiet
        if now >= (self.index + 1) * self._rules.window:
            return [] if self._over else self.release()
        if -inf < self._healing <= now:
            self._healing = -inf
            self._dirty |= self.accounts
            for key in self.alone:
                self._news.setdefault(key, 0)
        while self._timers and self._timers[0][0] <= now:
            _, _, key = heapq.heappop(self._timers)
            account = self.accounts[key]
            account.timed = False
            if account.quiet > now:
                self._wait(key, account)
            elif account.claimed > account.used:
                self._dirty[key] = account
        return []

    def batch(self, now: float) -> Batch | None:
        """What is to be said; None for nothing."""
        if self._flying is not None:
            return self._flying
        if not self._news and not self._dirty and self._checked:
            return None
        self._number += 1
        self._checked = True
        self._flying = made = Batch(self.index, self.bucket, self._number, self._rules.weight(self.index, now))
        news, self._news = _first(self._news, MOST)
        dirty, self._dirty = _first(self._dirty, MOST - len(news))
        made.keys = [*news, *dirty]
        self._say_alone(made, news, now)
        self._say_shared(made, dirty, now)
        return made

    def answered(self, batch: Batch, answer: Answer, now: float) -> list[Told]:
        """Take in the answer to the batch under way; returns what the processes must know."""
        if batch is not self._flying:
            return []
        self._flying = None
        if not answer.known:
            self.lose(now)
            return []
        if answer.totals == batch.claims and not any(answer.befores) and self.accounts.keys().isdisjoint(batch.keys):
            return []  # nobody else has any of these keys
        told: list[Told] = []
        for at, key in enumerate(batch.keys):
            account = self.accounts.get(key)
            grant, before = answer.grants[at], answer.befores[at]
            if before and batch.mine[at] < 0:
                before = max(0, before - self._claimed_before(key))
            others = answer.totals[at] - batch.claims[at] - grant
            if account is None and (others or before):
                account = self._meet(key)
            if account is not None:
                account.sharers = answer.sharers[at]
                self._share(key, account, (others, grant, before), now)
                told += self._return(key, account) if self._over else [self._tell(key, account)]
        return told

    @property
    def due(self) -> float:
        """When something is to be said, if nothing is added before: a time that is over for at once, inf for never."""
        if self._flying is not None or self._news or self._dirty or not self._checked:
            return -inf
        return self._timers[0][0] if self._timers else inf

    def check(self) -> None:
        """Say something, even if there is nothing new, to hear whether what was said before is still known."""
        self._checked = self._number == 0

    def lose(self, now: float) -> None:
        """Redis has nothing of what was said: say it all again."""
        self._flying = None
        self._number = 0
        self.heal(now + HEALING)
        for account in self.accounts.values():
            account.claimed = 0
            account.told = False
        self._dirty = dict(self.accounts)
        for key, claimed in self.alone.items():
            self._news[key] = self._news.get(key, 0) + claimed
        self.alone = {}

    def heal(self, till: float) -> None:
        """Others may have lost what they said: ask for nothing until they have said it again."""
        self._healing = max(self._healing, till)
        if self._flying is not None:
            self._flying.asks = [0] * len(self._flying.asks)

    def _say_alone(self, made: Batch, news: dict[Key, int], now: float) -> None:
        """The columns of keys that are this node's alone, as far as is known."""
        first, asking = self._rules.first, not self._over and now >= self._healing
        said = list(map(self.alone.get, news))  # columns at once: this is what an exchange costs most by
        claims = [
            spent if before is None else before + spent for spent, before in zip(news.values(), said, strict=True)
        ]
        self.alone.update(zip(news, claims, strict=True))
        made.adds += news.values()
        made.claims += claims
        made.mine += [
            self._claimed_before(key) if before is None else -1 for key, before in zip(news, said, strict=True)
        ]
        made.asks += [-max(2 * spent, first) if asking else 0 for spent in news.values()]

    def _say_shared(self, made: Batch, accounts: dict[Key, Account], now: float) -> None:
        """The columns of keys that others have, too."""
        asking = not self._over and now >= self._healing
        for key, account in accounts.items():
            spent = account.used - account.said
            account.said = account.used
            account.idle = not spent and not account.lacks
            account.spent = spent
            made.mine.append(-1 if account.told else self._claimed_before(key))
            account.told = True
            claim = max(account.used, account.cap)
            made.adds.append(claim - account.claimed)
            made.claims.append(claim)
            account.claimed = claim
            made.asks.append(self._ask(key, account, spent, now) if asking else 0)

    def _meet(self, key: Key) -> Account:
        """Another node has a key that was this one's alone."""
        account = self.accounts[key] = Account()
        account.said = account.claimed = self.alone.pop(key)
        account.used = account.said + self._news.pop(key, 0) + self._unsaid.pop(key, 0)
        account.told = True
        if account.used > account.said:
            self._dirty[key] = account
        return account

    def _ask(self, key: Key, account: Account, spent: int, now: float) -> int:
        account.lacks = False
        if account.idle:
            return 0
        want = max(2 * spent, account.reserve(self._left(key, account, now)), 1)
        return min(max(0, want - (account.claimed - account.used)), MOST_AMOUNT)

    def _share(self, key: Key, account: Account, news: tuple[int, int, int], now: float) -> None:
        """Take in what Redis says of a key that others have too."""
        others, grant, before = news
        if now < self._healing:
            others, before = max(others, account.others), max(before, account.before)
        account.others = others
        account.before = before
        account.claimed += grant
        account.cap = account.claimed
        account.pause = POLL if grant else min(2 * account.pause, LONGEST)
        if account.claimed <= account.used:
            account.due = min(now + account.pause, self._room_at(key, account, now))
            return
        account.due = now
        account.quiet = now + max(IDLE, account.pause)
        ready = account.reserve(self._left(key, account, now))
        if not account.idle:  # what it needs, twice, so that it is not given back and asked for again and again
            ready = 2 * max(ready, 2 * account.spent, 1)
        rest = account.used + ready
        if rest < account.cap:
            account.cap = rest
            self._dirty[key] = account
        self._wait(key, account)

    def _wait(self, key: Key, account: Account) -> None:
        """Look at the key again when it is quiet."""
        if not account.timed:
            account.timed = True
            self._set += 1
            heapq.heappush(self._timers, (account.quiet, self._set, key))

    def _room_at(self, key: Key, account: Account, now: float) -> float:
        """When one more fits in, if nobody uses anything till then: as the window before moves out of sight."""
        rules, before = self._rules, self._used_before(key, account)
        lacking = account.claimed + account.others + 1 - rules.limit
        if not before or not rules.sliding:
            return inf
        moment = (self.index + 1 + lacking / before - min(AHEAD / rules.window, SHORT)) * rules.window
        return max(now, moment)

    def _left(self, key: Key, account: Account, now: float) -> float:
        weight = self._rules.weight(self.index, now)
        before = self._used_before(key, account) * weight if weight else 0.0
        return self._rules.limit - account.claimed - account.others - before

    def _used_before(self, key: Key, account: Account) -> int:
        window = self._before()
        return account.before + (window.used(key) if window is not None else 0)

    def _claimed_before(self, key: Key) -> int:
        window = self._before()
        return window.claimed(key) if window is not None else 0

    def release(self) -> list[Told]:
        """The window is over, or this node ends: what is reserved and not used is given back.

        It would count in the next window, too.
        """
        self._over = True
        self._timers = []
        return [told for key, account in self.accounts.items() for told in self._return(key, account)]

    def _return(self, key: Key, account: Account) -> list[Told]:
        if account.claimed <= account.used:
            return []
        account.cap = account.used
        self._dirty[key] = account
        return [self._tell(key, account)]

    def _tell(self, key: Key, account: Account) -> Told:
        return Told(key, self.index, account.others, account.before, account.cap)


Value = TypeVar("Value")


def _first(found: dict[Key, Value], most: int) -> tuple[dict[Key, Value], dict[Key, Value]]:
    """The first entries, `most` at most, and the others."""
    if len(found) <= most:
        return found, {}
    items = list(found.items())
    return dict(items[:most]), dict(items[most:])
