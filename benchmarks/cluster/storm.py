"""Redis comes back empty, and all nodes come back to it at once.

Each tries again in its own time (lb_redis.link), then connects, beats, and says all counts of its two last windows
again, a thousand keys a batch (lb_redis.policy_window.MOST), the next when the last is answered and its turn has come.
Redis does one thing after another; all nodes get the same part of it. Time goes in steps of 5 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from lb_redis.link import FIRST_PAUSE, LONGEST_PAUSE
from lb_redis.policy_window import MOST

if TYPE_CHECKING:
    from benchmarks.cluster.costs import Costs

STEP = 0.005
CONNECTIONS = 3
"""Of a node: for beats and edits, for facts, for the exchange."""
LONGEST = 120.0


@dataclass(frozen=True)
class Storm:
    """Seconds after Redis is back, and of its CPU; `queue` is the longest time that an answer waited."""

    connected: float
    said_again: float
    queue: float
    cpu: float


def storm(random: Random, nodes: int, keys: float, costs: Costs, *, down: float = 2.0, steady: float = 0.0) -> Storm:
    """Redis was away for `down` seconds; each node has `keys` to say again, and `steady` is Redis' usual load."""
    arrivals = sorted(_comes_back(random, down) for _ in range(nodes))
    joining = CONNECTIONS * costs.join + costs.beat
    every, each = MOST / 0.05 * STEP, costs.key + (costs.pipeline + costs.call) / MOST
    left: list[float] = []
    backlog = cpu = longest = now = 0.0
    connected = 0.0
    arrived = 0
    while now < LONGEST:
        while arrived < nodes and arrivals[arrived] <= now:
            backlog += joining
            left.append(keys)
            arrived += 1
        if backlog < STEP:  # answers come in time, so the nodes go on
            said = min(every, (STEP - backlog) / each / max(1, len(left)))
            left = [rest - said for rest in left if rest > said]
            backlog += said * each * len(left)
        longest = max(longest, backlog)
        done = min(backlog, max(0.0, 1 - steady) * STEP)
        backlog -= done
        cpu += done
        now += STEP
        if arrived == nodes and backlog < STEP and not connected:
            connected = now
        if arrived == nodes and not left and backlog <= 0:
            break
    return Storm(connected, now, longest, cpu)


def _comes_back(random: Random, down: float) -> float:
    """The first try after Redis is there again, in seconds after that."""
    now, failures = 0.0, 0
    while now < down:
        failures += 1
        now += min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE) * (0.5 + random.random() / 2)
    return now - down
