"""Counts of this node's processes together with what other nodes have told.

What others have counted is as old as the last exchange. `cap` bounds what this node may do until the next: where it is
reached, requests are refused although the limit is not, and the exchange is asked to come.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from lb_core.sharing.counts_arrivals import ArrivalCounts
from lb_core.sharing.counts_changes import FEWEST, HUNDREDTH
from lb_core.sharing.counts_gauge import GaugeCounts
from lb_core.sharing.counts_windows import ROOM, WindowCounts

if TYPE_CHECKING:
    from lb_core.sharing.counts import Place
    from lb_core.sharing.counts_node import Key
    from lb_core.sharing.counts_windows import Counts

ROUNDING = 1e-9


class ClusterArrivalCounts(ArrivalCounts):
    """Arrival times of all nodes. What others have told is one, too: where it is the latest, it begins a run."""

    clustered = True

    def peek(self, key: Key, now: float) -> float:
        """When the key's debt is paid; `now` where it has none."""
        return max(ArrivalCounts.peek(self, key, now), self._told(self._place(key))[0])

    def take(self, key: Key, now: float, tolerance: float) -> float:
        """Count a request and return the arrival time then; 0.0 where that is more than `tolerance` away before, or
        later than this node may reach before it hears from the others.
        """
        due = ArrivalCounts.take(self, key, now, tolerance)
        if due == 0.0:
            return 0.0
        if self.sharing.share < 1.0:
            self.changes.note(key, 0, self.interval)
            return due
        place, interval = self._place(key), self.interval
        told, cap = self._told(place)
        if told > due - interval + ROUNDING:
            self._cells[place.own + 2] -= 1.0
            if told - now > tolerance:
                return 0.0
            due = self._open(place, self._run(place)[0], now, tolerance, told)
            if due == 0.0:
                return 0.0
        if due > cap:
            ArrivalCounts.add(self, key, now, -interval)
            self.changes.ask(key, 0)
            return 0.0
        self.changes.tell(key, 0, interval, min(cap, now + tolerance) - due, self.limit, interval)
        return due

    def add(self, key: Key, now: float, seconds: float) -> float:
        """Count a request whatever the arrival time is, or take one back; returns the arrival time then."""
        if seconds <= 0:
            self.changes.note(key, 0, -self.interval)
        return ArrivalCounts.add(self, key, now, seconds)

    def _told(self, place: Place) -> tuple[float, float]:
        """The time that other nodes have told, and the one up to which this node may go."""
        at = self._spot_elsewhere(place)
        return (self._cells[at + 1], self._cells[at + 1 + self._caps] or inf) if at else (0.0, inf)


class ClusterWindowCounts(WindowCounts):
    """Counts of all nodes by windows."""

    clustered = True

    def add(self, key: Key, index: int, amount: int = 1) -> Counts:
        """Count in window `index`, or take back; returns the sums of all nodes, beyond any limit where this node has
        reached what it may before it hears from the others.
        """
        _, node, before = WindowCounts.add(self, key, index, amount)
        if self.sharing.share < 1.0:  # nobody knows of the others: the node has its share of the limit to itself
            self.changes.note(key, index, amount)
            return index, node, before
        generation, known, at = (self._young.get(key) or self._find(key)).elsewhere[0]
        if not at and amount > 0 and self._cells[generation] == known:  # as most keys are: no other node has it
            untold, left = self.changes.note(key, index, amount), self.limit - node
            if left >= 0 and (untold > left or (untold >= FEWEST and untold >= self.limit // HUNDREDTH)):
                self.changes.hurry()
            return index, node, before
        elsewhere, previous, cap = self._told(key)
        if amount > 0 and node + self.slack > cap:
            _, node, before = WindowCounts.settled(self, key, index)
        left = min(cap, self.limit - elsewhere) - node
        if amount:
            self.changes.tell(key, index, amount, left, self.limit)
        if amount > 0 and node > cap and node + elsewhere <= self.limit:
            self.changes.ask(key, index)
        return index, ROOM if node > cap else node + elsewhere, previous + before

    def settled(self, key: Key, index: int) -> Counts:
        """The sums of all nodes, with everything that other processes of this one have added."""
        _, node, before = WindowCounts.settled(self, key, index)
        if self.sharing.share < 1.0:
            return index, node, before
        elsewhere, previous, cap = self._told(key)
        return index, ROOM if node > cap else node + elsewhere, previous + before

    def peek(self, key: Key, index: int) -> tuple[int, int, int]:
        """The counts of window `index` and of the one before, whatever this node may do."""
        _, node, before = WindowCounts.settled(self, key, index)
        elsewhere, previous, _ = self._told(key) if self.sharing.share == 1.0 else (0.0, 0.0, 0.0)
        return index, int(node + elsewhere), int(before + previous)

    def _told(self, key: Key) -> tuple[float, float, float]:
        """What other nodes have counted in the current window and in the one before, and this node's cap."""
        cells, at = self._cells, self._spot_elsewhere(self._young.get(key) or self._find(key))
        if not at:
            return 0.0, 0.0, inf
        base = self._base
        current = cells[at + self._here] - base
        previous = cells[at + self._there] - self._before
        cap = cells[at + self._caps + self._here] - base
        return (
            current if 0.0 < current < ROOM else 0.0,
            previous if 0.0 < previous < ROOM else 0.0,
            cap if 0.0 <= cap < ROOM else inf,
        )


class ClusterGaugeCounts(GaugeCounts):
    """Requests under way in all nodes."""

    clustered = True

    def add(self, key: Key, amount: int = 1) -> float:
        """One has begun, or with -1 ended; returns how many are under way in all nodes then, or more than any limit
        where this node has as many as it may before it hears from the others.
        """
        node = GaugeCounts.add(self, key, amount)
        if self.sharing.share < 1.0:
            self.changes.note(key, 0, amount)
            return node
        place = self._young.get(key) or self._find(key)
        at = self._spot_elsewhere(place)
        elsewhere = self._cells[at + 1] if at else 0.0
        cap = (self._cells[at + 1 + self._caps] if at else 0.0) - 1.0
        left = self.limit - elsewhere - node if cap < 0.0 else min(cap, self.limit - elsewhere) - node
        if amount:
            self.changes.tell(key, 0, amount, left, self.limit)
        if 0.0 <= cap < node and amount > 0 and node + elsewhere <= self.limit:
            self.changes.ask(key, 0)
            return ROOM
        return node + elsewhere
