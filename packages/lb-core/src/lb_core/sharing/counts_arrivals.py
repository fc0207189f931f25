"""Theoretical arrival times (GCRA) that the processes of a node share: the latest of all processes is in force.

    in force     the latest time that stands anywhere, or now
    to take      read what is in force; write it, plus the interval, in one's own place; look again

A time cannot be added up as counts can, so two that take in the same instant would both move the same time on, and one
token would be lost. Therefore who has written looks again: for each process that has written a later time meanwhile
another interval is added. The last writer sees all the others, so no token is lost. One may be charged that was not
taken: when the other had seen ours already, or when ours is taken back because the bucket is empty after all; both take
two processes that decide about one key within half a microsecond.

With a cluster, the latest time that other nodes have told is one more of these.
"""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, ClassVar

from lb_core.sharing.counts import Kind, Place, SharedCounts
from lb_core.sharing.counts_table import ELSEWHERE, KEPT
from lb_core.sharing.fence import fence

if TYPE_CHECKING:
    from lb_core.sharing.counts_node import Key


class ArrivalCounts(SharedCounts):
    """When each key has used up nothing any more, in seconds of `time.monotonic`."""

    kind: ClassVar[Kind] = "arrivals"

    def peek(self, key: Key, now: float) -> float:
        """When the key's debt is paid; `now` where it has none."""
        place = self._place(key)
        return max(now, self._cells[place[1] + 1], self._others(place), self._told(place)[0])

    def take(self, key: Key, now: float, seconds: float, tolerance: float) -> bool:
        """Add to what the key has to wait off, unless that is more than `tolerance` already; whether it was added."""
        place = self._place(key)
        cells, own = self._cells, place[1] + 1
        mine = due = cells[own]
        if now > due:
            due = now
        told, cap = self._told(place) if self.clustered else (0.0, inf)
        due = max(due, self._others(place), told)
        if due - now > tolerance:
            return False
        if due + seconds > cap:
            self.changes.ask(key, 0)
            return False
        cells[own] = due + seconds
        if self._sections:
            fence()
            latest, later = self._later(place, due)
            if later:
                due = max(latest, due + later * seconds)
                if due - now > tolerance:
                    cells[own] = mine
                    return False
                cells[own] = due + seconds
        if self.clustered:
            self.changes.tell(key, 0, seconds, min(cap, now + tolerance) - due, self.limit, seconds)
        return True

    def add(self, key: Key, now: float, seconds: float) -> float:
        """Add to what the key has to wait off whatever it is, or take back what was added; returns the time then.

        It is taken back only where ours is the latest time: another's is not ours to change.
        """
        if seconds >= 0:
            self.take(key, now, seconds, inf)
            return self.peek(key, now)
        place = self._place(key)
        own = place[1] + 1
        if self._cells[own] >= max(self._others(place), self._told(place)[0]):
            self._cells[own] = max(0.0, self._cells[own] + seconds)
            if self.clustered:
                self.changes.note(key, 0, seconds)
        return self.peek(key, now)

    def set_elsewhere(self, key: Key, index: int, amount: float, previous: float, cap: float) -> None:
        """The cluster's arrival time of a key, and the one up to which this node may go, by the cluster's clock."""
        del index, previous
        phase, cells, table = self.node.phase(), self._cells, self._table
        at = table.claim(table.section(ELSEWHERE), self._place(key)[0])
        cells[at + 1] = max(0.0, amount - phase)
        cells[at + 1 + self._caps] = max(0.0, cap - phase) if cap < inf else 0.0

    def node_total(self, key: Key, index: int) -> float:
        """The latest arrival time of this node's processes, by the cluster's clock; 0.0 for none."""
        del index
        place = self._place(key)
        latest = max(self._cells[place[1] + 1], self._others(place))
        return latest + self.node.phase() if latest else 0.0

    def _place(self, key: Key) -> Place:
        place = self._young.get(key)
        if place is None:
            place = self._find(key)
        return place if self._cells[place[1]] == place[0] else self._again(key)

    def _others(self, place: Place) -> float:
        """The latest time of other processes."""
        cells, latest = self._cells, 0.0
        for generation, known, at in place[2]:
            if cells[generation] != known:
                self._look(place)
                return self._others(place)
            if at and cells[at + 1] > latest:
                latest = cells[at + 1]
        return latest

    def _later(self, place: Place, due: float) -> tuple[float, int]:
        """The latest time of other processes, and how many of them have one later than `due`."""
        if self._others(place) <= due:
            return due, 0
        times = [self._cells[at + 1] for _, _, at in place[2] if at]
        return max(times), sum(each > due for each in times)

    def _told(self, place: Place) -> tuple[float, float]:
        """The time that other nodes have told, and the one up to which this node may go."""
        if not place[3] or self.sharing.share < 1.0:
            return 0.0, inf
        at = self._spot_elsewhere(place)
        return (self._cells[at + 1], self._cells[at + 1 + self._caps] or inf) if at else (0.0, inf)

    def _counts_now(self, first: float, second: float) -> bool:
        del second
        return first > time.monotonic()

    def _keep(self, at: int, fingerprint: float) -> None:
        kept = self._table.claim(self._table.section(KEPT), fingerprint) + 1
        self._cells[kept] = max(self._cells[kept], self._cells[at + 1])
