"""Counts by numbered windows: how often in a window, and in the one before it.

    word                 the window's number (23 bits), how often (30 bits)
    an entry's words     that of the window when its number is even, and when it is odd

So what was the current window becomes the previous one without being written: a process that is in the next window
already and one that is not read the same two words.

Whoever decides adds first and reads then, where it is close with a barrier in between, and takes back what was too
much: so the sum is never over a limit. Two that decide in the same instant about the last request may both be refused.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, ClassVar

from lb_core.sharing.counts import Kind, Place, SharedCounts
from lb_core.sharing.counts_table import ELSEWHERE, KEPT
from lb_core.sharing.fence import fence

if TYPE_CHECKING:
    from lb_core.sharing.counts_node import Key
    from lb_core.sharing.sharing import Sharing

ROOM = float(1 << 30)
"""How many a word can count: more than any limit."""
NUMBERS = 1 << 23
"""How many windows there are until their numbers begin again."""

Counts = tuple[int, float, float]
"""A window's number, the count of that window, and the count of the window before it."""


class WindowCounts(SharedCounts):
    """Counts of the processes of one node."""

    kind: ClassVar[Kind] = "windows"
    sliding = True
    """Whether the window before counts in part, with the limit that counts here; for the exchange between nodes."""

    def __init__(self, sharing: Sharing, name: str, *, most: int, limit: float, window: float) -> None:
        self._index = -1
        self._base = self._before = 0.0
        self._here, self._there = 1, 2
        self.slack = 0.0
        super().__init__(sharing, name, most=most, limit=limit, window=window)

    def peek(self, key: Key, index: int) -> tuple[int, int, int]:
        """The counts of window `index` and of the one before."""
        _, current, previous = self.settled(key, index)
        return index, int(current), int(previous)

    def add(self, key: Key, index: int, amount: int = 1) -> Counts:
        """Count in window `index`, or take back what was counted there; returns the sums of all processes.

        Each other process may have added one that is not seen yet: where the sum is within `slack` of a limit, or
        beyond it, `settled` tells what holds.
        """
        place = self._young.get(key)
        if place is None:
            place = self._find(key)
        if index != self._index:
            self._turn_to(index)
        cells, here, there = self._cells, self._here, self._there
        base, before = self._base, self._before
        if cells[place.own] != place.fingerprint:
            place = self._again(key)
        own = place.own
        word = cells[own + here]
        if amount <= 0:
            word = max(word + amount, base)
        elif word > base:
            word += amount
        else:
            word = base + amount
        cells[own + here] = word
        current = word - base
        word = cells[own + there]
        previous = word - before if word > before else 0.0
        for generation, known, at in place.others:
            if cells[generation] != known:
                current, previous = self._sums(place)
                break
            if at:
                word = cells[at + here]
                if word > base:
                    current += word - base
                word = cells[at + there]
                if word > before:
                    previous += word - before
        return index, current, previous

    def settled(self, key: Key, index: int) -> Counts:
        """The sums, with everything that other processes have added before they read what was added here."""
        fence()
        if index != self._index:
            self._turn_to(index)
        return index, *self._sums(self._young.get(key) or self._find(key))

    def set_elsewhere(self, key: Key, index: int, amount: float, previous: float, cap: float) -> None:
        """What other nodes have counted, and how far this node may go."""
        self._turn_to(index)
        table, cells = self._table, self._cells
        at = table.claim(table.section(ELSEWHERE), (self._young.get(key) or self._find(key)).fingerprint)
        cells[at + self._caps + self._here] = self._base + _whole(cap) if cap < ROOM else 0.0
        cells[at + self._here] = self._base + _whole(amount)
        cells[at + self._there] = self._before + _whole(previous)

    def node_total(self, key: Key, index: int) -> float:
        """What this node's processes have counted in window `index`."""
        return WindowCounts.settled(self, key, index)[1]

    def _follow(self) -> None:
        super()._follow()
        self.slack = float(len(self._sections))

    def _turn_to(self, index: int) -> None:
        """Another window; its number is kept with one added, so that no word is zero for a while."""
        self._index = index
        self._base = (index + 1) % NUMBERS * ROOM
        self._before = index % NUMBERS * ROOM
        self._here, self._there = (2, 1) if index & 1 else (1, 2)

    def _sums(self, place: Place) -> tuple[float, float]:
        """The counts of all processes, where it matters: words of a window two ahead, or of ages ago, are left out."""
        cells = self._cells
        self._look(place)
        spots = (place.own, *(at for _, _, at in place.others if at))
        current = sum(_within(cells[at + self._here] - self._base) for at in spots)
        previous = sum(_within(cells[at + self._there] - self._before) for at in spots)
        return current, previous

    def _counts_now(self, first: float, second: float) -> bool:
        last = floor((self.clock() + self.node.phase()) / self.window) % NUMBERS
        return max(first, second) // ROOM in (last, last + 1, last + 2)

    def _keep(self, at: int, fingerprint: float) -> None:
        cells, table = self._cells, self._table
        kept = table.claim(table.section(KEPT), fingerprint)
        for word in (1, 2):
            its, mine = cells[at + word], cells[kept + word]
            if its // ROOM == mine // ROOM:
                cells[kept + word] = mine + its % ROOM
            elif its > mine:
                cells[kept + word] = its


def _whole(count: float) -> float:
    return float(min(ROOM - 1, max(0, floor(count))))


def _within(count: float) -> float:
    return count if 0.0 < count < ROOM else 0.0
