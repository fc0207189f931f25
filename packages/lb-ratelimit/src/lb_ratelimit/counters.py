"""What a limit remembers of each key: counters, apart from the rules that read them.

Each class has `peek`, which reads, and `add`, which changes by an amount; nothing else changes a count. Additions may
come in any order and from elsewhere, so that whoever shares limits among several processes can pass on what was added
here and add what was added there.
"""

from __future__ import annotations

from lb_ratelimit.recent import Key, Recent

Entry = tuple[int, int, int]
"""A window's number, the count of that window, and the count of the window before it."""


def _moved_on(entry: Entry, index: int) -> Entry:
    """The counts as they are in window `index`; of a later window, for a request that is late."""
    behind = index - entry[0]
    if behind <= 0:
        return entry
    return index, 0, entry[1] if behind == 1 else 0


class WindowCounters(Recent[Entry]):
    """Counts by window: windows are numbered, and a key has the counts of its last window and of the one before."""

    __slots__ = ()

    def peek(self, key: Key, index: int) -> Entry:
        """The counts of window `index` and of the one before, or those of a later window that was counted already."""
        entry = self._young.get(key) or self._older(key)
        return _moved_on(entry, index) if entry is not None else (index, 0, 0)

    def add(self, key: Key, index: int, amount: int = 1) -> Entry:
        """Count in window `index`, or take back what was counted there; returns what `peek` would then."""
        young = self._young
        entry = young.get(key)
        if entry is not None and entry[0] == index:
            entry = young[key] = (index, entry[1] + amount, entry[2])
            return entry
        if entry is None:
            entry = self._old.pop(key, None)
        last, current, previous = _moved_on(entry, index) if entry is not None else (index, 0, 0)
        entry = (last, current + amount, previous)
        self.put(key, entry)
        return entry


class Arrivals(Recent[float]):
    """Theoretical arrival times: when a key has used up nothing any more, in seconds of the caller's clock."""

    __slots__ = ()

    def peek(self, key: Key, now: float) -> float:
        """When the key's debt is paid; `now` where it has none."""
        due = self._young.get(key) or self._older(key)
        return due if due is not None and due > now else now

    def add(self, key: Key, now: float, seconds: float) -> float:
        """Add to what the key has to wait off, or take it back; returns what `peek` would then, give or take `now`."""
        young = self._young
        due = young.get(key)
        if due is not None:
            due = young[key] = (due if due > now else now) + seconds
            return due
        due = self._old.pop(key, now)
        due = (due if due > now else now) + seconds
        self.put(key, due)
        return due


class InFlight:
    """Requests under way by key; a key with none is not kept."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def peek(self, key: Key) -> int:
        """How many are under way."""
        return self._counts.get(key, 0)

    def add(self, key: Key, amount: int = 1) -> int:
        """One has begun, or with -1 ended; returns how many are under way then."""
        count = self._counts.get(key, 0) + amount
        if count > 0:
            self._counts[key] = count
            return count
        self._counts.pop(key, None)
        return 0
