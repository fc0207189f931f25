"""Theoretical arrival times (GCRA) that the processes of a node share, as sums.

    an entry's words     when a run of requests began, and how many of it this process has let pass
    in force             the latest run; its arrival time is its begin, plus an interval for each request of all

A time that everybody moves on cannot be kept without a lock: two that move it in the same instant lose one of the
requests. Counts add up, so a run has a begin that all have in common, and each counts its own. A run ends when its
arrival time is past: the bucket is full, nothing of it matters any more, and the next request begins another. Whoever
decides adds first and reads then, as with windows, so the sum is never over the limit.

Two that begin a run in the same instant both look again, and the later begin is the one that holds. Who finds that the
other may not have seen it counts the other's request, too: one may be counted twice then, and none is lost.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, ClassVar

from lb_core.sharing.counts import Kind, Place, SharedCounts
from lb_core.sharing.counts_table import ELSEWHERE, KEPT
from lb_core.sharing.fence import fence

if TYPE_CHECKING:
    from lb_core.sharing.counts_node import Key

ROUNDS = 3
"""How often a process that begins a run follows others who began one later."""


class ArrivalCounts(SharedCounts):
    """When each key has used up nothing any more, in seconds of `time.monotonic`: `limit` requests in `window`."""

    kind: ClassVar[Kind] = "arrivals"
    interval: float
    burst = 0.0
    """How many may come at once, as the limit that counts here says; 0 for `limit`. For the exchange between nodes."""

    def peek(self, key: Key, now: float) -> float:
        """When the key's debt is paid; `now` where it has none."""
        place = self._place(key)
        begin, count = self._run(place)
        return max(now, begin + count * self.interval)

    def take(self, key: Key, now: float, tolerance: float) -> float:
        """Count a request and return the arrival time then; 0.0 where that is more than `tolerance` away before."""
        place = self._young.get(key)
        if place is None:
            place = self._find(key)
        cells, own = self._cells, place.own
        if cells[own] != place.fingerprint:
            place = self._again(key)
            own = place.own
        begin = cells[own + 1]
        count = cells[own + 2] = cells[own + 2] + 1.0
        for generation, known, at in place.others:
            if cells[generation] != known:
                cells[own + 2] -= 1.0
                self._look(place)
                return ArrivalCounts.take(self, key, now, tolerance)
            if at:
                its = cells[at + 1]
                if its == begin:
                    count += cells[at + 2]
                elif its > begin:
                    return self._join(place, now, tolerance)
        ahead = begin + (count - 1.0) * self.interval - now
        if ahead < 0.0:
            return self._open(place, begin, now, tolerance)
        if ahead + len(place.others) * self.interval > tolerance:
            fence()
            latest, count = self._run(place)
            if latest != begin:
                return self._join(place, now, tolerance)
            if begin + (count - 1.0) * self.interval - now > tolerance:
                cells[own + 2] -= 1.0
                return 0.0
        return begin + count * self.interval

    def add(self, key: Key, now: float, seconds: float) -> float:
        """Count a request whatever the arrival time is, or take one back; returns the arrival time then."""
        if seconds > 0:
            self.take(key, now, inf)
            return self.peek(key, now)
        place = self._place(key)
        own = place.own + 2
        if self._cells[own] >= 1.0:
            self._cells[own] -= 1.0
        return self.peek(key, now)

    def set_elsewhere(self, key: Key, index: int, amount: float, previous: float, cap: float) -> None:
        """The cluster's arrival time of a key, and the one up to which this node may go, by the cluster's clock."""
        del index, previous
        phase, cells, table = self.node.phase(), self._cells, self._table
        at = table.claim(table.section(ELSEWHERE), self._place(key).fingerprint)
        cells[at + 1] = max(0.0, amount - phase)
        cells[at + 1 + self._caps] = max(0.0, cap - phase) if cap < inf else 0.0

    def node_total(self, key: Key, index: int) -> float:
        """The arrival time that this node's processes know, by the cluster's clock; 0.0 for none."""
        del index
        begin, count = self._run(self._place(key))
        return begin + count * self.interval + self.node.phase() if begin else 0.0

    def _open(self, place: Place, before: float, now: float, tolerance: float, at_least: float = 0.0) -> float:
        """The run `before` is over: begin another, now or at a later time that is given."""
        cells, own, begin = self._cells, place.own, max(now, at_least)
        self._enter(own, begin, 1.0)
        if place.others:
            fence()
            for generation, known, at in place.others:
                if cells[generation] != known or (at and cells[at + 1] > before):
                    return self._agree(place, before, now, tolerance)
        return begin + self.interval

    def _join(self, place: Place, now: float, tolerance: float) -> float:
        """A run later than ours is in force: the request belongs there."""
        self._cells[place.own + 2] -= 1.0
        begin, count = self._run(place)
        due = begin + count * self.interval
        if due - now > tolerance:
            return 0.0
        if due < now:
            return self._open(place, begin, now, tolerance)
        self._enter(place.own, begin, 1.0)
        fence()
        return self._agree(place, begin, now, tolerance)

    def _agree(self, place: Place, before: float, now: float, tolerance: float) -> float:
        """Others begin runs in the same instant: follow the latest, and decide in that one."""
        cells, own = self._cells, place.own
        for _ in range(ROUNDS):
            latest, _ = self._run(place)
            if latest == cells[own + 1]:
                break
            self._enter(own, latest, 1.0)
            fence()
        begin = cells[own + 1]
        cells[own + 2] += self._missed(place, before, begin, now)
        _, count = self._run(place)
        if begin + (count - 1.0) * self.interval - now > tolerance:
            cells[own + 2] -= 1.0
            return 0.0
        return begin + count * self.interval

    def _enter(self, own: int, begin: float, count: float) -> None:
        """Count in another run; who reads in between finds less in a run that is no longer in force."""
        cells = self._cells
        if cells[own + 1] != begin:
            cells[own + 2] = 0.0
            cells[own + 1] = begin
        cells[own + 2] = count

    def _run(self, place: Place) -> tuple[float, float]:
        """The begin of the run that is in force, and how many requests all processes have counted in it."""
        cells = self._cells
        self._look(place)
        spots = (place.own, *(at for _, _, at in place.others if at))
        begin = max(cells[at + 1] for at in spots)
        return begin, sum(cells[at + 2] for at in spots if cells[at + 1] == begin)

    def _missed(self, place: Place, before: float, begin: float, now: float) -> float:
        """Requests in runs that others began just now, but earlier than ours: they may not have seen ours."""
        cells, missed = self._cells, 0.0
        for _, _, at in place.others:
            if at and before < cells[at + 1] < begin and cells[at + 1] + cells[at + 2] * self.interval > now:
                missed += cells[at + 2]
        return missed

    def _place(self, key: Key) -> Place:
        place = self._young.get(key)
        if place is None:
            place = self._find(key)
        return place if self._cells[place.own] == place.fingerprint else self._again(key)

    def _follow(self) -> None:
        super()._follow()
        self.interval = self.window / self.allowed

    def _counts_now(self, first: float, second: float) -> bool:
        return first + second * self.interval > self.clock()

    def _keep(self, at: int, fingerprint: float) -> None:
        """A worker's part of a run; of two runs the later is in force."""
        cells = self._cells
        kept = self._table.claim(self._table.section(KEPT), fingerprint)
        begin, count = cells[at + 1], cells[at + 2]
        if begin == cells[kept + 1]:
            cells[kept + 2] += count
        elif begin > cells[kept + 1]:
            self._enter(kept, begin, count)
