"""What the script does, in Python: for simulations, without Redis. A test holds the two together."""

from __future__ import annotations

from math import ceil, floor

from lb_redis.policy import Answer, Batch, Key, Rules


class Counts:
    """One window's hash."""

    def __init__(self) -> None:
        self.claims: dict[Key, int] = {}
        self.sharers: dict[Key, int] = {}
        self.nodes: dict[str, tuple[int, list[int]]] = {}


class Model:
    """The hashes of one limit."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.hashes: dict[tuple[int, int], Counts] = {}

    def call(self, node: str, batch: Batch) -> Answer:
        """Apply a batch, and answer it."""
        place = batch.index, batch.bucket
        counts = self.hashes.get(place) or Counts()
        last, granted = counts.nodes.get(node, (0, []))
        if last not in (batch.number, batch.number - 1):
            if node in counts.nodes:
                del self.hashes[place]
            return Answer(False)
        self.hashes[place] = counts
        before = self.hashes.get((batch.index - 1, batch.bucket)) or Counts()
        again = last == batch.number
        rows = [self._key(batch, at, counts, before, granted if again else None) for at in range(len(batch.keys))]
        totals, grants, befores, sharers = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 4
        if not again:
            counts.nodes[node] = batch.number, grants
        return Answer(True, totals, grants, befores, sharers)

    def _key(
        self, batch: Batch, at: int, counts: Counts, before: Counts, granted: list[int] | None
    ) -> tuple[int, int, int, int]:
        key, claim, ask, own = batch.keys[at], batch.claims[at], batch.asks[at], batch.mine[at]
        if granted is None:
            counts.claims[key] = counts.claims.get(key, 0) + batch.adds[at]
            counts.sharers[key] = counts.sharers.get(key, 0) + (own >= 0)
        total, sharers = counts.claims.get(key, 0), counts.sharers.get(key, 0)
        room, previous, grant = self.rules.limit - float(total), 0, 0
        if batch.weight > 0 and (own >= 0 or ask >= 0 or total > claim):
            previous = before.claims.get(key, 0)
            room -= previous * batch.weight
            previous = max(0, previous - max(0, own))
        if granted is not None:
            grant = granted[at]
        elif room >= 1 and (ask > 0 or (ask < 0 and (total > claim or (own >= 0 and previous > 0)))):
            grant = min(abs(ask), ceil(floor(room) / 2))
            counts.claims[key] = total = total + grant
        return total, grant, previous, sharers
