"""Counts by numbered windows: how often in a window, and in the one before it.

    word                 the window's number (30 bits), how often (30 bits)
    an entry's words     that of the window when its number is even, and when it is odd

So what was the current window becomes the previous one without being written: a process that is in the next window
already and one that is not read the same two words.

Whoever decides adds first and reads then, and takes back what was too much: the sum is never over a limit. Two that
decide in the same instant about the last request may both be refused.
"""

from __future__ import annotations

import time
from math import floor, inf, isfinite
from typing import TYPE_CHECKING, ClassVar, Literal

from lb_core.sharing.counts import BUCKET, FINGERPRINT, OTHERS, OWN, Place, SharedCounts
from lb_core.sharing.counts_table import CAPS, ELSEWHERE, KEPT
from lb_core.sharing.fence import fence

if TYPE_CHECKING:
    from lb_core.sharing.counts_node import Key
    from lb_core.sharing.counts_table import Table
    from lb_core.sharing.sharing import Sharing

BITS = 30
ROOM = 1 << BITS
"""More than any limit: how often, and how many windows until their numbers begin again."""
LAST = ROOM - 1

Counts = tuple[int, int, int]
"""A window's number, the count of that window, and the count of the window before it."""

HUNDREDTH = 100
FEWEST = 4
"""Changes of a key are urgent when they are a hundredth of the limit, but not below this."""


class WindowCounts(SharedCounts):
    """Counts of the processes of one node."""

    kind: ClassVar[Literal["windows", "arrivals", "gauge"]] = "windows"

    def __init__(self, sharing: Sharing, name: str, *, most: int, limit: float, window: float) -> None:
        self._index = -1
        self._base = self._before = 0
        self._here, self._there = 1, 2
        self._near = inf
        super().__init__(sharing, name, most=most, limit=limit, window=window)

    def peek(self, key: Key, index: int) -> Counts:
        """The counts of window `index` and of the one before."""
        return self.add(key, index, 0)

    def add(self, key: Key, index: int, amount: int = 1) -> Counts:
        """Count in window `index`, or take back what was counted there; returns the sums of all processes."""
        place = self._young.get(key)
        if place is None:
            place = self._find(key)
        if index != self._index:
            self._turn_to(index)
        cells, here, there = self._cells, self._here, self._there
        base, before = self._base, self._before
        own = place[OWN]
        if cells[own] != place[FINGERPRINT]:
            own = self._again(place)
        current = cells[own + here] - base
        if not 0 <= current < ROOM:
            current = 0
        if amount:
            current = current + amount if current + amount > 0 else 0
            cells[own + here] = base + current
        previous = cells[own + there] - before
        if not 0 <= previous < ROOM:
            previous = 0
        number, bucket = OTHERS, place[BUCKET]
        for section in self._sections:
            if cells[section + bucket] != place[number]:
                self._look(place, number, section)
            at = place[number + 1]
            if at:
                count = cells[at + here] - base
                if 0 < count < ROOM:
                    current += count
                count = cells[at + there] - before
                if 0 < count < ROOM:
                    previous += count
            number += 2
        if current + previous > self._near and amount > 0:
            fence()
            return self.add(key, index, 0)
        return index, current, previous

    def set_elsewhere(self, key: Key, index: int, amount: float, previous: float, cap: float) -> None:
        """What other nodes have counted, and how far this node may go."""
        self._turn_to(index)
        table, cells = self._table, self._cells
        fingerprint = (self._young.get(key) or self._find(key))[FINGERPRINT]
        at = table.claim(table.section(ELSEWHERE), fingerprint)
        caps = at + table.section(CAPS) - table.section(ELSEWHERE)
        cells[caps + self._here] = self._base + min(LAST, max(0, floor(cap))) if isfinite(cap) else 0
        cells[at + self._here] = self._base + min(LAST, max(0, round(amount)))
        cells[at + self._there] = self._before + min(LAST, max(0, round(previous)))

    def node_total(self, key: Key, index: int) -> float:
        """What this node's processes have counted in window `index`."""
        return WindowCounts.add(self, key, index, 0)[1]

    def _follow(self) -> None:
        super()._follow()
        # each other process may have added one that is not seen yet: until so near to the limit, that does not matter
        self._near = self.allowed - 1 - len(self._sections) if self._sections else inf

    def _turn_to(self, index: int) -> None:
        """Another window: its number is kept with one added, so that no word of a window is zero."""
        self._index = index
        self._base = (index + 1 & LAST) << BITS
        self._before = (index & LAST) << BITS
        self._here, self._there = (2, 1) if index & 1 else (1, 2)

    def _now(self) -> int:
        return floor((time.monotonic() + self.node.phase()) / self.window)

    def _counts_now(self, first: int, second: int) -> bool:
        last = self._now() & LAST
        return max(first, second) >> BITS in (last, last + 1, last + 2)

    def _keep(self, at: int, fingerprint: int) -> None:
        cells, table = self._cells, self._table
        kept = table.claim(table.section(KEPT), fingerprint)
        for word in (1, 2):
            its, mine = cells[at + word], cells[kept + word]
            if its >> BITS == mine >> BITS:
                cells[kept + word] = mine + (its & LAST)
            elif its > mine:
                cells[kept + word] = its


class ClusterWindowCounts(WindowCounts):
    """Counts of the processes of one node, and of what other nodes have told."""

    def add(self, key: Key, index: int, amount: int = 1) -> Counts:
        """Count in window `index`, or take back; returns the sums of all nodes, beyond any limit where this node has
        reached what it may before it hears from the others.
        """
        _, node, node_previous = WindowCounts.add(self, key, index, amount)
        place = self._young.get(key) or self._find(key)
        elsewhere, previous, cap = self._told(place)
        if amount > 0 and node + len(self._sections) > min(cap, self.limit - elsewhere - previous - node_previous):
            fence()
            node = WindowCounts.add(self, key, index, 0)[1]
            elsewhere, previous, cap = self._told(place)
        if amount:
            self._tell(key, index, amount, min(cap, self.limit - elsewhere) - node)
        if node > cap and amount > 0:
            self.changes.note(key, index, 0)
            self.changes.hurry()
            return index, ROOM, previous + node_previous
        return index, node + elsewhere, previous + node_previous

    def _tell(self, key: Key, index: int, amount: int, left: float) -> None:
        """Note what is to be told to other nodes; it is urgent when it is much of the limit, or of what is left."""
        untold = self.changes.note(key, index, amount)
        if amount > 0 and left >= 0 and (untold > left or untold >= max(FEWEST, self.limit // HUNDREDTH)):
            self.changes.hurry()

    def _told(self, place: Place) -> tuple[int, int, float]:
        """What other nodes have counted in the current window and in the one before, and this node's cap."""
        if self.sharing.share < 1.0:
            return 0, 0, inf  # nobody knows: the node has its share of the limit to itself
        cells, number, section = self._cells, len(place) - 2, self._elsewhere
        if cells[section + place[BUCKET]] != place[number]:
            self._look(place, number, section)
        at = place[number + 1]
        if not at:
            return 0, 0, inf
        current = cells[at + self._here] - self._base
        previous = cells[at + self._there] - self._before
        cap = cells[at + self._caps + self._here] - self._base
        return (
            current if 0 < current < ROOM else 0,
            previous if 0 < previous < ROOM else 0,
            cap if 0 <= cap < ROOM else inf,
        )

    def _use(self, table: Table) -> None:
        self._caps = table.section(CAPS) - table.section(ELSEWHERE)
        super()._use(table)
