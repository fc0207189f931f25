"""Counts by key that the processes of a node share, and nodes with each other: what all kinds have in common.

    windows     how often, by numbered window              `WindowCounts`
    arrivals    theoretical arrival times (GCRA)           `ArrivalCounts`
    gauge       how many are under way                     `GaugeCounts`

Among the processes of a node nothing is sent: each adds in its own section of a table in shared memory, and reads
those of the others (counts_table.py). A worker that ends leaves what it had counted to the section of those that are
gone, and what it had under way is cleared. What other nodes have counted stands in a section that the control process
writes:

    worker     add  --changes-->  control process  --take_changes-->  exchange  ==>  the other nodes
    worker     reads its table  <--set_elsewhere--  control process   <--  exchange  <==

A process knows where its keys are: a bounded number of places, of which the least recently used are forgotten; that
costs no more than looking for them again, for the counts are in the table.
"""

from __future__ import annotations

import mmap
import time
from abc import ABC, abstractmethod
from math import floor
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from lb_core.sharing.counts_changes import Changes
from lb_core.sharing.counts_node import CountsNode, Key
from lb_core.sharing.counts_table import (
    CAPS,
    ELSEWHERE,
    FOLDED,
    KEPT,
    REFUSED,
    REFUSED_LAST,
    USED,
    Table,
    buckets_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.sharing.sharing import Sharing

Kind = Literal["windows", "arrivals", "gauge"]
Spot = tuple[int, float, int]
"""In another's section: the cell of the bucket's generation, what that was, and where the key is, or 0."""
Spots = tuple[Spot, ...]
PLACES = 65_536
"""How many places are kept at most, at 500 bytes with one other worker; to find a key's again takes 5 us."""


class Place:
    """Where a key is: in the own section, in those of other processes, and in that of other nodes."""

    __slots__ = ("elsewhere", "fingerprint", "others", "own")

    def __init__(self, fingerprint: float, own: int, others: Spots, elsewhere: Spots) -> None:
        self.fingerprint = fingerprint
        self.own = own
        self.others = others
        self.elsewhere = elsewhere


class SharedCounts(ABC):
    """Counts of one name. `limit` is that of the whole cluster, `window` its seconds (0 for a gauge).

    Made by `of`, registered in `sharing.counts`. Whoever uses them calls `hold` when it begins and `drop` when it ends;
    after the last `drop` they are gone, and their memory with them. Two of the same name and size are the same.
    """

    kind: ClassVar[Kind]
    clustered: ClassVar[bool] = False
    """Whether they are read together with what other nodes have counted."""

    def __init__(self, sharing: Sharing, name: str, *, most: int, limit: float, window: float) -> None:
        assert sharing.memory is not None
        self._memory = sharing.memory
        buckets = buckets_for(most)
        self.sharing = sharing
        self.name = name
        self.limit = limit
        self.window = window
        self.clock: Callable[[], float] = time.monotonic
        self.node = CountsNode(sharing)
        self.changes = Changes(sharing, name)
        self._area = f"counts/{name}/{buckets}"
        self._buckets = buckets
        self._half = min(most, PLACES) // 2
        self._holders = 0
        self._young: dict[Key, Place] = {}
        self._old: dict[Key, Place] = {}
        self._retired: dict[Key, Place] = {}
        self._use(Table(self._memory.area(self._area, Table.size(buckets)), buckets))
        if sharing.seat and (self._cells[self._own + USED] or self._cells[self._own + FOLDED]):
            self._table.clear(self._own)  # somebody had this seat before, and its counts are kept already
        self._hears = (
            (sharing.on_seats, self._follow),
            (sharing.on_gone, self._follow),
            (sharing.on_share, self._follow),
            (sharing.on_offset, self.node.align),
        )
        for hooks, hear in self._hears:
            hooks.append(hear)
        sharing.on_seat_gone.append(self.seat_gone)
        sharing.counts[name] = self

    @classmethod
    def of(cls, sharing: Sharing, name: str, *, most: int, limit: float, window: float = 0.0) -> Self:
        """The counts of this name with room for at least `most` keys: those there are, or new ones."""
        found = sharing.counts.get(name)
        if type(found) is cls and found._buckets == buckets_for(most) and found.window == window:
            return found
        return cls(sharing, name, most=most, limit=limit, window=window)

    # of whoever limits

    @property
    def allowed(self) -> int:
        """What of the limit this node may use: all of it, or its share while it cannot ask the others."""
        share = self.sharing.share
        return max(1, floor(self.limit * share)) if share < 1.0 else int(self.limit)

    def set_limit(self, limit: float) -> None:
        """Another limit from now on."""
        self.limit = limit
        self._follow()

    def hold(self) -> None:
        """Somebody uses them."""
        self._holders += 1
        if self._holders == 1:
            self.changes.open()

    def drop(self) -> None:
        """Somebody uses them no more; who was the last takes them away."""
        self._holders -= 1
        if self._holders == 0:
            self.close()

    def close(self) -> None:
        """Share no more: what is still given back goes to memory of its own, and nowhere."""
        sharing = self.sharing
        self.changes.close()
        for hooks, hear in self._hears:
            hooks.remove(hear)
        sharing.on_seat_gone.remove(self.seat_gone)
        if sharing.counts.get(self.name) is self:
            del sharing.counts[self.name]
        self._memory.release(self._area)
        self._use(Table(memoryview(mmap.mmap(-1, Table.size(1))), 1))

    def turn(self) -> None:
        """Forget the places of keys that were not used since the last turn."""
        self._retired = self._old
        self._old = self._young
        self._young = {}

    def resize(self, most: int) -> None:  # noqa: B027 (nothing to be done for any kind)
        """The size is part of what they are: others are made for another."""

    def adopt(self, old: SharedCounts) -> None:
        """Take over what this process has counted in others of another size."""
        table, its, cells = self._table, old._table, self._cells
        for number in (0, KEPT, ELSEWHERE) if self.sharing.seat == 0 else (self.sharing.seat,):
            section = table.section(number)
            for _, fingerprint, first, second in its.entries(its.section(number)):
                at = table.claim(section, fingerprint)
                cells[at + 1], cells[at + 2] = first, second
            for cell in (REFUSED, REFUSED_LAST):
                cells[section + cell] = its.cells[its.section(number) + cell]
        self._follow()

    def note_refused(self, now: float) -> float:
        """Count a refusal; returns when the last one before it was in this node, by the same clock as `now`."""
        cells = self._cells
        last = max(cells[section + REFUSED_LAST] for section in self._everywhere())
        cells[self._own + REFUSED] += 1
        cells[self._own + REFUSED_LAST] = now
        return last

    @property
    def refused(self) -> int:
        """How many were refused in this node."""
        return int(sum(self._cells[section + REFUSED] for section in self._everywhere()))

    def __len__(self) -> int:
        """How many keys count now, in this node."""
        entries = (entry for section in self._everywhere() for entry in self._table.entries(section))
        return len({fingerprint for _, fingerprint, first, second in entries if self._counts_now(first, second)})

    # of the exchange between nodes

    def take_changes(self) -> list[tuple[Key, int, float]]:
        """In the control process, or a process alone: what this node has added since the last call.

        Key, index of the window (0 where there are none), and amount; for arrivals in seconds. An amount of 0 says that
        requests are refused only because of a `cap`.
        """
        return self.changes.take()

    @abstractmethod
    def set_elsewhere(self, key: Key, index: int, amount: float, previous: float, cap: float) -> None:
        """In the control process, or a process alone: what other nodes have added for a key.

        `amount` in window `index`, `previous` in the one before; `cap` is what this node's own total in that window may
        reach before the next exchange (infinite for no such bound). A gauge has no windows: `amount` is how many are
        under way elsewhere, and `cap` how many may be here. For arrivals `amount` is the theoretical arrival time of
        the whole cluster, and `cap` the one that this node may reach, both in seconds of the cluster's clock.
        """

    @abstractmethod
    def node_total(self, key: Key, index: int) -> float:
        """What this node's processes have added in window `index`; for arrivals their latest arrival time."""

    # of the control process

    def seat_gone(self, seat: int) -> None:
        """The worker of that seat has ended: keep what it has counted."""
        cells, table = self._cells, self._table
        gone, kept = table.section(seat), table.section(KEPT)
        if cells[gone + FOLDED]:
            return  # nobody has counted there since
        for at, fingerprint, first, second in table.entries(gone):
            if self._counts_now(first, second):
                self._keep(at, fingerprint)
        cells[kept + REFUSED] += cells[gone + REFUSED]
        cells[kept + REFUSED_LAST] = max(cells[kept + REFUSED_LAST], cells[gone + REFUSED_LAST])
        cells[gone + REFUSED], cells[gone + FOLDED] = 0.0, 1.0

    # what the kinds are made of

    @abstractmethod
    def _counts_now(self, first: float, second: float) -> bool:
        """Whether the words of an entry still mean something."""

    @abstractmethod
    def _keep(self, at: int, fingerprint: float) -> None:
        """Add the entry of a worker that is gone to what is kept."""

    def _use(self, table: Table) -> None:
        self._table = table
        self._cells = table.cells
        self._own = table.section(self.sharing.seat)
        self._elsewhere = table.section(ELSEWHERE)
        self._caps = table.section(CAPS) - self._elsewhere
        self._sections: tuple[int, ...] = ()
        self._forget()
        self._follow()

    def _follow(self) -> None:
        """Other processes count, or another part of the limit holds."""
        sharing, table = self.sharing, self._table
        sections = [table.section(seat) for seat in sharing.seats if seat and seat != sharing.seat]
        kept = table.section(KEPT)
        if self._cells[kept + USED]:
            sections.append(kept)
        if tuple(sections) != self._sections:
            self._sections = tuple(sections)
            self._forget()

    def _forget(self) -> None:
        """Every place must be found anew."""
        self.turn()
        self.turn()

    def _everywhere(self) -> tuple[int, ...]:
        return (self._own, *self._sections)

    def _find(self, key: Key) -> Place:
        """The place of a key that is not among the young ones."""
        place = self._old.pop(key, None)
        if place is None:
            place = self._meet(key)
        young = self._young
        young[key] = place
        if len(young) >= self._half:
            self.turn()
        retired = self._retired
        if retired:
            retired.popitem()
            if retired:
                retired.popitem()
        return place

    def _meet(self, key: Key) -> Place:
        """The place of a key, which gets one in the own section if it had none."""
        fingerprint = self.node.fingerprint(key)
        bucket = self._table.bucket(fingerprint)
        own = self._claim(fingerprint)
        others = tuple([self._spot(section + bucket, fingerprint) for section in self._sections])
        elsewhere = (self._spot(self._elsewhere + bucket, fingerprint),) if self.clustered else ()
        return Place(fingerprint, own, others, elsewhere)

    def _claim(self, fingerprint: float) -> int:
        return self._table.claim(self._own, fingerprint)

    def _again(self, key: Key) -> Place:
        """Another key was given this one's entry in the own section: find it another."""
        place = self._young[key] = self._meet(key)
        return place

    def _look(self, place: Place) -> None:
        """Other keys have come into this one's bucket of another section: see where it is there now."""
        place.others = self._fresh(place.others, place.fingerprint)
        place.elsewhere = self._fresh(place.elsewhere, place.fingerprint)

    def _fresh(self, spots: Spots, fingerprint: float) -> Spots:
        cells = self._cells
        return tuple(spot if cells[spot[0]] == spot[1] else self._spot(spot[0], fingerprint) for spot in spots)

    def _spot_elsewhere(self, place: Place) -> int:
        """Where other nodes' counts of a key are, or 0."""
        generation, known, at = place.elsewhere[0]
        if self._cells[generation] != known:
            self._look(place)
            at = place.elsewhere[0][2]
        return at

    def _spot(self, bucket: int, fingerprint: float) -> Spot:
        """Where a key is in a bucket, with the generation that it had before one looked."""
        known = self._cells[bucket]
        return bucket, known, self._table.find_in(bucket, fingerprint)
