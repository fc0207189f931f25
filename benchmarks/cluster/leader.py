"""How long nobody leads: one node holds a lease in Redis and renews it at every third of its length; the others ask for
it at the same intervals, each in a phase of its own.

    stopped    the leader gives the lease back as it ends
    killed     it does not, so the lease runs out first
    lost       Redis forgets the lease (restarted empty) and the leader is killed at that moment as well
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

Ending = Literal["stopped", "killed", "lost"]


@dataclass(frozen=True)
class Leaderless:
    """Seconds without a leader, sorted."""

    seconds: tuple[float, ...]

    def quantile(self, part: float) -> float:
        """The time that this part of the changes did not pass."""
        return self.seconds[min(len(self.seconds) - 1, int(part * len(self.seconds)))]


def changes(
    random: Random, nodes: int, ending: Ending, *, lease: float = 10.0, latency: float = 0.0005, times: int = 2000
) -> Leaderless:
    """So many changes of the leader among so many nodes."""
    return Leaderless(tuple(sorted(_change(random, nodes, ending, lease, latency) for _ in range(times))))


def _change(random: Random, nodes: int, ending: Ending, lease: float, latency: float) -> float:
    """The leader renewed at time 0 and ends somewhere before it would renew again."""
    step = lease / 3
    ended = random.random() * step
    free = {"stopped": ended + latency, "killed": lease, "lost": ended}[ending]
    # The others ask all the time: of each only the first time that comes after the lease is free counts.
    first = min(random.random() for _ in range(nodes - 1)) * step
    return free + first + 2 * latency - ended
