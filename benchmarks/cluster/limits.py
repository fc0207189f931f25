"""How exactly a limit holds among many nodes: requests, exchanges and answers one after another, for one key.

A node is the very object that a real one exchanges with (lb_redis.policy_limit.Limit), and Redis is the script's rule
(lb_redis.script_model.Model); what is simulated is time: when requests come, when a node speaks, and how long a word
takes. Keys do not touch each other, so one at a time is enough.

    request   let through where the node's own count and what it knows of the others leave room; counted
    exchange  at the node's next turn, `interval` after the last one; as soon as its pace allows (policy_pace.Pace) when
              what is not told yet is a hundredth of the limit or more than what is left, and when a request is refused
              because of the cap
    answer    two latencies later

A node that refuses needs no events for requests that would be refused as well: Poisson's arrivals have no memory, so
it goes on from the moment at which one could pass again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import floor, inf
from random import Random
from typing import Any, Protocol

from lb_core.sharing.counts_changes import FEWEST, HUNDREDTH
from lb_redis.policy import Answer, Batch, Rules, Told
from lb_redis.policy_limit import Limit
from lb_redis.policy_pace import Pace
from lb_redis.script_model import Model

KEY = "key"


@dataclass(frozen=True)
class Case:
    """One key under load: `rates` are the requests a second at each node, which begin at `begins` (all at 0 where
    nothing is said). Times are seconds; `latency` is one way.
    """

    rates: tuple[float, ...]
    limit: int = 1000
    window: float = 10.0
    interval: float = 0.05
    latency: float = 0.0005
    windows: float = 3.0
    begins: tuple[float, ...] = ()


@dataclass
class Outcome:
    """When requests were let through, and what was said for it."""

    passed: list[float] = field(default_factory=list)
    entries: int = 0
    """How often a node said something of the key."""
    hurried: int = 0
    """How many exchanges came between turns because of the key."""
    refused_everywhere: float = inf
    """When every node that had requests had refused one in the first window."""

    def between(self, begin: float, end: float) -> int:
        """How many were let through from one moment to another."""
        return sum(begin <= moment < end for moment in self.passed)


class Node:
    """One node's count of the key, and what it was told."""

    def __init__(self, number: int, rate: float, rules: Rules, phase: float) -> None:
        self.name = str(number)
        self.rate = rate
        self.limit = Limit(rules)
        self.pace = Pace()
        self.last = phase
        self.index = -1
        self.used = self.before = 0
        self.others = self.others_before = 0
        self.cap = inf
        self.pending: dict[int, int] = {}
        self.wants = False
        self.has_refused = False
        self.flying = 0
        self.turn = 0
        self.exchange_at = inf

    def move_on(self, index: int) -> None:
        """A window begins: what was counted is that of the window before now."""
        next_one = index == self.index + 1
        self.before, self.others_before = (self.used, self.others) if next_one else (0, 0)
        self.index, self.used, self.others, self.cap = index, 0, 0, inf

    def take(self, told: Told) -> None:
        """What the exchange tells the node's processes."""
        if told.window == self.index:  # one that is over is nothing that requests are decided by
            self.others, self.others_before, self.cap = told.others, told.before, told.cap

    def hurries(self, limit: int) -> bool:
        """Whether the others must know at once what was let through (lb_core.sharing.counts_windows)."""
        untold = self.pending.get(self.index, 0)
        left = min(self.cap, limit - self.others) - self.used
        return left >= 0 and (untold > left or untold >= max(FEWEST, limit // HUNDREDTH))


class Counts(Protocol):
    """Where the claims are added up: the script's rule, or the script itself."""

    def call(self, node: str, batch: Batch) -> Answer:
        """Apply a batch, and answer it."""


def run(case: Case, seed: int, counts: Counts | None = None) -> Outcome:
    """Simulate one key; the same seed gives the same outcome."""
    return _Run(case, Random(seed), counts).go()


class _Run:
    def __init__(self, case: Case, random: Random, counts: Counts | None) -> None:
        self.case = case
        self.random = random
        self.rules = Rules(case.limit, case.window, nodes=len(case.rates))
        self.redis = counts or Model(self.rules)
        self.nodes = [
            Node(number, rate, self.rules, random.random() * case.interval)
            for number, rate in enumerate(case.rates)
            if rate > 0
        ]
        self.silent = len(self.nodes)
        self.outcome = Outcome()
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.made = 0
        self.now = 0.0

    def go(self) -> Outcome:
        begins = self.case.begins or (0.0,) * len(self.case.rates)
        for node in self.nodes:
            self._expect(node, begins[int(node.name)])
        end = self.case.windows * self.case.window
        while self.events:
            self.now, _, handle, args = heapq.heappop(self.events)
            if self.now >= end:
                break
            handle(*args)
        return self.outcome

    def _at(self, moment: float, handle: Callable[..., None], *args: object) -> None:
        self.made += 1
        heapq.heappush(self.events, (moment, self.made, handle, args))

    # requests

    def _expect(self, node: Node, begin: float) -> None:
        """The next request of a node that comes after a moment; one that was expected before is not any more."""
        node.turn += 1
        self._at(begin + self.random.expovariate(node.rate), self._request, node, node.turn)

    def _request(self, node: Node, turn: int) -> None:
        if turn != node.turn:
            return
        now, rules = self.now, self.rules
        index = rules.index(now)
        if index != node.index:
            node.move_on(index)
        room = self._room_at(node)
        if room <= now and node.used < node.cap:
            node.used += 1
            node.pending[index] = node.pending.get(index, 0) + 1
            self.outcome.passed.append(now)
            self._exchange_soon(node, at_once=node.hurries(rules.limit))
            self._expect(node, now)
            return
        self._note_refusal(node)
        if not node.wants:
            node.wants = True
            self._exchange_soon(node, at_once=room <= now)
        if room > now:
            self._expect(node, room)

    def _room_at(self, node: Node) -> float:
        """When one more fits in by what the node knows: now, or as the window before moves out of sight."""
        window = self.case.window
        free = self.rules.limit - node.used - node.others - 1
        before = node.before + node.others_before
        begin = node.index + 1 - (free / before if before else 1.0)
        return window * (node.index + 1) if free < 0 else max(self.now, begin * window)

    def _note_refusal(self, node: Node) -> None:
        if not node.has_refused:
            node.has_refused = True
            self.silent -= 1
            if not self.silent:
                self.outcome.refused_everywhere = self.now

    # exchanges

    def _exchange_soon(self, node: Node, *, at_once: bool) -> None:
        """At the node's next turn, or before; not while an answer is under way."""
        if node.flying:
            return
        moment = turn = self._next_turn(node, self.now)
        if at_once:
            moment = min(turn, max(self.now, node.pace.next(urgent=True)))
        if moment < node.exchange_at:
            self.outcome.hurried += moment < turn
            node.exchange_at = moment
            self._at(moment, self._exchange, node, moment)

    def _next_turn(self, node: Node, moment: float) -> float:
        interval = self.case.interval
        return (floor((moment - node.last) / interval) + 1) * interval + node.last

    def _exchange(self, node: Node, moment: float) -> None:
        if moment != node.exchange_at:
            return
        node.exchange_at = inf
        now, limit = self.now, node.limit
        node.last = now
        self._tell(node, limit.settle(now))
        changes = [(KEY, index, amount) for index, amount in node.pending.items()]
        if node.wants and not node.pending.get(node.index):
            changes.append((KEY, node.index, 0))
        node.pending, wanted, node.wants = {}, node.wants, False
        limit.add(changes, now)
        batches = limit.batches(now)
        node.flying = len(batches)
        node.pace.begin(now, sum(len(batch.keys) + 1 for batch in batches))
        for batch in batches:
            self.outcome.entries += len(batch.keys)
            self._at(now + self._latency(), self._at_redis, node, batch)
        if wanted:  # refused again and again, it asks at its turns
            self._expect(node, max(self._room_at(node), now if batches else self._next_turn(node, now)))
        if not batches:
            self._rest(node)

    def _at_redis(self, node: Node, batch: Batch) -> None:
        self._at(self.now + self._latency(), self._at_node, node, batch, self.redis.call(node.name, batch))

    def _at_node(self, node: Node, batch: Batch, answer: Answer) -> None:
        node.flying -= 1
        self._tell(node, node.limit.answered(batch, answer, self.now))
        if not node.flying:
            self._rest(node)

    def _rest(self, node: Node) -> None:
        """Nothing is under way: the next exchange comes when there is something to say."""
        due = node.limit.due
        if node.pending or node.wants or due < self.now:
            self._exchange_soon(node, at_once=node.hurries(self.rules.limit))
        elif due < inf:
            moment = self._next_turn(node, due)
            node.exchange_at = moment
            self._at(moment, self._exchange, node, moment)

    def _tell(self, node: Node, told: Iterable[Told]) -> None:
        for each in told:
            before = node.cap, -node.others
            node.take(each)
            if (node.cap, -node.others) > before:  # what was refused may pass now
                self._expect(node, self._room_at(node))

    def _latency(self) -> float:
        """Half of it fixed, half of it by chance: on average what the case says."""
        return self.case.latency * (0.5 + self.random.expovariate(2.0))


def alone(case: Case, seed: int) -> Outcome:
    """The same load at one limiter that knows everything at once: what the nodes are compared with."""
    total = sum(case.rates)
    return run(replace(case, rates=(total,), begins=()), seed)
