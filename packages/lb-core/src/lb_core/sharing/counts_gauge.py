"""How many requests of a key are under way, in the sum of a node's processes.

An entry with none under way may be another key's next; one with some is never given up. A key that finds its bucket
full of such is counted in this process alone: with room for 100,000 that takes tens of thousands of keys with a request
under way at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lb_core.sharing.counts import Kind, SharedCounts
from lb_core.sharing.counts_table import ELSEWHERE
from lb_core.sharing.fence import fence

if TYPE_CHECKING:
    from lb_core.sharing.counts import Place
    from lb_core.sharing.counts_node import Key
    from lb_core.sharing.sharing import Sharing

MOST_CAP = 1e9


class GaugeCounts(SharedCounts):
    """Requests under way by key, of the processes of one node."""

    kind: ClassVar[Kind] = "gauge"

    def __init__(self, sharing: Sharing, name: str, *, most: int, limit: float, window: float) -> None:
        self._alone: dict[float, float] = {}
        self._near = 0
        super().__init__(sharing, name, most=most, limit=limit, window=window)

    def peek(self, key: Key) -> int:
        """How many are under way."""
        return int(self.add(key, 0))

    def add(self, key: Key, amount: int = 1) -> float:
        """One has begun, or with -1 ended; returns how many are under way in all processes then."""
        place = self._young.get(key)
        if place is None:
            place = self._find(key)
        cells, own = self._cells, place.own
        if not own or cells[own] != place.fingerprint:
            place = self._again(key)
            own = place.own
            if not own:
                return self._add_alone(place.fingerprint, amount)
        count = cells[own + 1] + amount
        if count < 0.0:
            count = 0.0
        cells[own + 1] = count
        for generation, known, at in place.others:
            if cells[generation] != known:
                count = self._sum(place)
                break
            if at:
                count += cells[at + 1]
        if count > self._near and amount > 0:
            fence()
            count = self._sum(place)
        return count

    def set_elsewhere(self, key: Key, index: int, amount: float, previous: float, cap: float) -> None:
        """How many are under way in other nodes, and how many may be here."""
        del index, previous
        cells, table = self._cells, self._table
        fingerprint = (self._young.get(key) or self._find(key)).fingerprint
        at = table.claim(table.section(ELSEWHERE), fingerprint)
        cells[at + 1] = max(0.0, amount)
        # with one added, for zero is no cap
        cells[at + 1 + self._caps] = 1.0 + max(0.0, cap) if cap < MOST_CAP else 0.0

    def node_total(self, key: Key, index: int) -> float:
        """How many are under way in this node."""
        del index
        return GaugeCounts.add(self, key, 0)

    def _follow(self) -> None:
        super()._follow()
        self._near = self.allowed - len(self._sections)

    def _sum(self, place: Place) -> float:
        self._look(place)
        return sum((self._cells[at + 1] for _, _, at in place.others if at), self._cells[place.own + 1])

    def _add_alone(self, fingerprint: float, amount: int) -> float:
        count = self._alone.pop(fingerprint, 0.0) + amount
        if count > 0.0:
            self._alone[fingerprint] = count
        return max(0.0, count)

    def _claim(self, fingerprint: float) -> int:
        at = self._table.claim(self._own, fingerprint, idle_only=True)
        if at:
            self._cells[at + 1] += self._alone.pop(fingerprint, 0.0)
        return at

    def _counts_now(self, first: float, second: float) -> bool:
        del second
        return first > 0.0

    def _keep(self, at: int, fingerprint: float) -> None:  # noqa: ARG002 (nothing is kept)
        """What a worker had under way ended with it."""
        self._cells[at + 1] = 0.0
