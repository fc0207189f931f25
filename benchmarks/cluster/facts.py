"""A fact told to all nodes by publish and subscribe, and what that costs Redis, which has one thread.

In each turn of its loop Redis takes the messages that have arrived, puts a copy of each into every subscriber's buffer,
then writes the buffers out, one call a subscriber. So the first message costs most, and those that come while it is
being written go out together:

    a turn with m messages to n nodes     n * (write + m * copy)

A backend that fails is noticed by every node by itself, unless it has heard of it before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.cluster.costs import Costs


@dataclass(frozen=True)
class Told:
    """How one fact became known: who told it, when the last node knew, seconds of Redis' CPU, and bytes it sent."""

    publishers: int
    everywhere: float
    redis_seconds: float
    bytes: float


def spread(noticed: Sequence[float], costs: Costs, latency: float) -> Told:
    """Nodes notice the same at these times (seconds), each unless it has heard of it; `latency` is one way."""
    nodes = len(noticed)
    order = sorted(range(nodes), key=noticed.__getitem__)
    heard = [float("inf")] * nodes
    now = busy = 0.0
    sent = 0
    waiting: list[int] = []
    next_one = 0
    while True:
        while next_one < nodes and (not waiting or noticed[order[next_one]] + latency <= now):
            node = order[next_one]
            next_one += 1
            if heard[node] > noticed[node]:
                waiting.append(node)
                now = max(now, noticed[node] + latency)
        if not waiting:
            break
        began = now
        now += len(waiting) * (costs.publish + nodes * costs.copy)
        for node in range(nodes):
            now += costs.write
            heard[node] = min(heard[node], now + latency)
        sent += len(waiting)
        busy += now - began
        waiting = []
    known = max(min(times) for times in zip(heard, noticed, strict=True))
    return Told(sent, known - noticed[order[0]], busy, sent * nodes * costs.fact_bytes)


def failures(random: Random, nodes: int, requests: float, needed: int = 5) -> list[float]:
    """When each node has seen so many failures of a backend that gets `requests` a second from each."""
    return [random.gammavariate(needed, 1 / requests) for _ in range(nodes)]


def most_facts(nodes: int, costs: Costs) -> float:
    """Facts a second of all nodes together that keep Redis' thread busy, when they go out together."""
    return 1 / (costs.publish + nodes * costs.copy)


def facts_at_half(nodes: int, costs: Costs) -> float:
    """Facts a second, each by itself, that keep Redis' thread half busy."""
    return 0.5 / (costs.publish + nodes * (costs.write + costs.copy))
