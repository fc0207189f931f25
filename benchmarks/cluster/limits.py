"""How exactly a limit holds among many nodes: requests, exchanges and answers one after another, for one key.

A node is the very object that a real one exchanges with (lb_redis.policy_limit.Limit), and Redis is the script's rule
(lb_redis.script_model.Model); what is simulated is time: when requests come, when a node speaks, and how long a word
takes. Keys do not touch each other, so one at a time is enough.

    request   let through where the node's own count and what it knows of the others leave room; counted
    exchange  at the node's next turn (every `interval`, in a phase of its own), at once when half of what it may use
              until the next answer is used
    answer    two latencies later

A node that refuses needs no events for requests that would be refused as well: Poisson's arrivals have no memory, so
it goes on from the moment at which one could pass again.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from math import inf
from random import Random

from lb_redis.policy import Answer, Batch, Rules, Told
from lb_redis.policy_limit import Limit
from lb_redis.script_model import Model

KEY = "key"


@dataclass(frozen=True)
class Case:
    """One key under load: `rates` are the requests a second at each node, times are seconds, `latency` one way."""

    rates: tuple[float, ...]
    limit: int = 1000
    window: float = 10.0
    interval: float = 0.05
    latency: float = 0.0005
    windows: float = 3.0
    shared: bool = True


@dataclass
class Outcome:
    """When requests were let through, and what was said for it."""

    passed: list[float] = field(default_factory=list)
    entries: int = 0
    """Keys in batches: one for each time that a node says something of the key."""
    exchanges: int = 0
    refused_everywhere: float = inf
    """When every node that had requests had refused one, for the first time."""

    def between(self, begin: float, end: float) -> int:
        """How many were let through from one moment to another."""
        return sum(begin <= moment < end for moment in self.passed)

    def most(self, window: float) -> int:
        """The most in any span of a window's length."""
        first = most = 0
        for last, moment in enumerate(self.passed):
            while self.passed[first] <= moment - window:
                first += 1
            most = max(most, last - first + 1)
        return most


def run(case: Case, seed: int) -> Outcome:
    """Simulate one key; the same seed gives the same outcome."""
    return _Run(case, Random(seed)).go()


class _Node:
    """One node's count of the key, and what it was told."""

    __slots__ = ("at", "before", "busy", "cap", "exchange_at", "flying", "index", "limit", "moment", "name", "others",
                 "pending", "phase", "rate", "refused", "told", "told_before", "turn", "urgent", "used")  # fmt: skip

    def __init__(self, number: int, rate: float, rules: Rules, phase: float) -> None:
        self.name = str(number)
        self.rate = rate
        self.limit = Limit(rules)
        self.phase = phase
        self.index = -1
        self.used = self.before = 0
        self.others = self.told_before = 0
        self.cap = self.urgent = 0.0
        self.pending: dict[int, int] = {}
        self.refused = self.busy = False
        self.flying = 0
        self.turn = 0
        self.exchange_at = inf


class _Run:
    def __init__(self, case: Case, random: Random) -> None:
        self.case = case
        self.random = random
        nodes = len(case.rates)
        self.rules = Rules(case.limit, case.window, nodes=nodes if case.shared else 1)
        self.redis = Model(Rules(case.limit, case.window, nodes=nodes))
        self.nodes = [
            _Node(number, rate, self.rules, random.random() * case.interval) for number, rate in enumerate(case.rates)
        ]
        self.outcome = Outcome()
        self.events: list[tuple[float, int, int, _Node, Batch | None, Answer | None]] = []
        self.count = 0
        self.without = sum(rate > 0 for rate in case.rates)

    def go(self) -> Outcome:
        for node in self.nodes:
            self._next_request(node, 0.0)
        end = self.case.windows * self.case.window
        handlers = (self._request, self._exchange, self._at_redis, self._at_node)
        while self.events:
            now, _, kind, node, batch, answer = heapq.heappop(self.events)
            if now >= end:
                break
            if kind >= 2:
                assert batch is not None
                if kind == 2:
                    self._at_redis(node, now, batch)
                else:
                    assert answer is not None
                    self._at_node(node, now, batch, answer)
            elif kind == 1:
                self._exchange(node, now)
            elif batch is None:
                self._request(node, now)
        return self.outcome
