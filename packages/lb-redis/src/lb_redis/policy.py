"""How much of a limit each node may use, and what it tells the others: for limits whose keys are counted in windows.

The clock is passed in, and nothing here waits or sends: a simulation of a thousand nodes uses these very objects.

For each key and window a node knows

    used       what it has let through
    claimed    what Redis counts for it: what it used, and a reservation of what it may use next
    cap        what its processes may let through before the next exchange
    others     what Redis counts for the other nodes

Alone: a key that no other node has in this window or the one before is capped by the whole limit, and what was used is
told about every 50 ms. Where that is less than `QUIET` of the limit, for all nodes together, it waits for more: most
keys of a limit by client come now and then, and to tell each request of theirs would cost more than to count it.

Strict: a key that others have too is capped by what is claimed, `used <= cap <= claimed`. Redis adds up the claims and
grants none beyond the limit, so the sum over the nodes stays within it whatever the order of events. (Without
reservations it would not: a node that has not asked for a while would go by a total of long ago.)

A reservation is twice what was used since the last exchange, or a part of what is left where there is plenty, so that a
burst is not refused; never more than half of what is left, so that others get some, too. What is not used is given
back: the cap is lowered, then what the processes have counted until then is read, then Redis is told.

A node that begins with a key does not know what the others have of it until its first answer, and one that was alone
does not know that another has begun: whoever counts makes it urgent when a hundredth of the limit is not told yet, so
the first answer is there after some milliseconds, and what is too much is what comes in that time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor
from typing import NamedTuple

Key = str | bytes

MOST_AMOUNT = 2**31 - 1

AHEAD, SHORT = 0.1, 0.1
"""Seconds, and windows at most, for which claims are granted ahead. Processes go by the weight of the very moment, so
nothing is let through early; without it each exchange would find only what had come free since the one before.
"""


QUIET = 0.01
"""The share of a limit that all nodes together may have let through of a key without having told it."""


class Told(NamedTuple):
    """What this node's processes must know of a key: the others' counts in this window and the one before, the cap."""

    key: Key
    window: int
    others: int
    before: int
    cap: float


class Answer(NamedTuple):
    """What Redis says to a batch; `known` is False where what this node said before is lost.

    For each key: the total of all claims, what was granted of it, what others had in the window before, and how many
    nodes have the key.
    """

    known: bool
    totals: Sequence[int] = ()
    grants: Sequence[int] = ()
    befores: Sequence[int] = ()
    sharers: Sequence[int] = ()


@dataclass(slots=True)
class Batch:
    """What one node says about a window. It stays as it is until it is answered, however often it is sent.

    For each key: what is added to its claim, its claim then, what it asks for (below 0: only if another node has the
    key), and where it says this key for the first time its claim in the window before, else -1. `weight` is the share
    of the window before that still counts.
    """

    index: int
    bucket: int
    number: int
    weight: float
    keys: list[Key] = field(default_factory=list)
    adds: list[int] = field(default_factory=list)
    claims: list[int] = field(default_factory=list)
    asks: list[int] = field(default_factory=list)
    mine: list[int] = field(default_factory=list)


class Account:
    """One key in one window that other nodes have, too.

    `said` is what was used when it was last told, `told` whether Redis has the key from this node, `lacks` that a
    request was refused since, `idle` that there was neither; `due` when a refusal is a reason to ask again, and `pause`
    how long the next one waits; `quiet` when to look whether a reservation is used, `timed` that this will be done.
    """

    __slots__ = (
        "before",
        "cap",
        "claimed",
        "due",
        "idle",
        "lacks",
        "others",
        "pause",
        "quiet",
        "said",
        "sharers",
        "spent",
        "timed",
        "told",
        "used",
    )

    def __init__(self) -> None:
        self.used = 0
        self.said = 0
        self.spent = 0
        self.claimed = 0
        self.cap = 0
        self.others = 0
        self.before = 0
        self.sharers = 1
        self.told = False
        self.lacks = False
        self.idle = False
        self.due = 0.0
        self.quiet = 0.0
        self.timed = False
        self.pause = 0.0

    def reserve(self, left: float) -> int:
        """What is kept ready while the key is hardly used and so much of its limit is left."""
        return max(1, int(left / (4 * self.sharers))) if left >= self.sharers else 0


class Rules:
    """A limit: `limit` in `window` seconds, of which the window before counts in part where it slides."""

    __slots__ = ("limit", "nodes", "sliding", "window")

    def __init__(self, limit: float, window: float, *, sliding: bool = True, nodes: int = 1) -> None:
        self.window = window
        self.sliding = sliding
        self.nodes = nodes
        self.set_limit(limit)

    def set_limit(self, limit: float) -> None:
        """Another limit from now on."""
        self.limit = min(floor(limit), MOST_AMOUNT)

    def index(self, now: float) -> int:
        """The window of a moment of the cluster's clock."""
        return floor(now / self.window)

    def weight(self, index: int, now: float) -> float:
        """The share of the window before `index` that will count when the next exchange is over."""
        if not self.sliding:
            return 0.0
        return min(1.0, max(0.0, index + 1 - now / self.window - min(AHEAD / self.window, SHORT)))

    @property
    def quiet(self) -> int:
        """What one node may keep to itself of a key that no other node has, but one."""
        return max(1, int(self.limit * QUIET) // max(2, self.nodes))

    @property
    def first(self) -> int:
        """What is asked for when a key turns out to be known from another node."""
        return max(1, self.limit // (4 * max(2, self.nodes)))
