"""The nodes of the cluster as this one knows them.

Redis is asked for all of them about once a second, less often where there are more than 50; how old a word of a node
is, Redis itself says, because the nodes' clocks differ. From then on this machine's clock counts. When Redis was away,
or has lost its list, no node could be heard of: then the others have some seconds to be there again before it is told
that they have left, and for so long they count as there where limits are shared.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from lb_core import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

GONE_AFTER = 3.0
FORGET_AFTER = 60.0
"""Seconds for which a node that is gone is still listed."""
PER_SECOND = 50
"""Of how many nodes one node asks Redis in a second, at most."""
LARGEST = 4096
"""Bytes of what one node tells about itself."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a node tells about itself, and which run of it."""

    member: Member
    boot: str


class Change(NamedTuple):
    """What is new: nodes that came, nodes that went and whether each said so before."""

    joined: tuple[str, ...] = ()
    left: tuple[tuple[str, bool], ...] = ()


class Roster:
    """Every node that is known, by name; Redis is asked for all of them every `every` seconds, or less often."""

    def __init__(self, boot: str, clock: Callable[[], float] = time.monotonic, *, every: float = 1.0) -> None:
        self.boot = boot
        self._every = every
        self._clock = clock
        self._told: dict[str, Told] = {}
        self._at = clock()
        self._asked = float("-inf")
        self._alive: dict[str, str] = {}
        self._patient_until = float("-inf")

    @property
    def interval(self) -> float:
        """How often all nodes are asked for."""
        return max(self._every, len(self._told) / PER_SECOND)

    @property
    def others(self) -> int:
        """How many other nodes there are, or are given time to be there again."""
        return sum(boot != self.boot for boot in self._alive.values())

    @property
    def patient(self) -> bool:
        """Whether they are given time."""
        return self._clock() < self._patient_until

    def be_patient(self) -> None:
        """Redis was away, or has lost its list: what is missing now may only not have been heard of yet."""
        self._patient_until = self._clock() + GONE_AFTER

    def due(self) -> bool:
        """Whether it is time to ask for all nodes."""
        return self._clock() - self._asked >= self.interval - self._every / 2

    def take(self, told: Iterable[Told]) -> Change:
        """What Redis lists; returns what is new since the last call."""
        self._at = self._asked = self._clock()
        before = self._told
        self._told = {each.member.name: each for each in told}
        said_so = {name for name in before if name not in self._told}
        return self._compare(said_so)

    def look(self) -> Change:
        """What is new because time has passed."""
        return self._compare(set())

    def members(self, leader: str = "") -> list[Member]:
        """All nodes, by name; `leader` is the run that leads."""
        passed = self._clock() - self._at
        return [self._as_seen(self._told[name], passed, leader) for name in sorted(self._told)]

    def boot_of(self, name: str) -> str:
        """The run of this name; empty where there is none."""
        found = self._told.get(name)
        return found.boot if found is not None else ""

    def is_alive(self, name: str) -> bool:
        """Whether a node was heard of lately."""
        found = self._told.get(name)
        return found is not None and self._as_seen(found, self._clock() - self._at, "").state != "gone"

    def _as_seen(self, told: Told, passed: float, leader: str) -> Member:
        member = told.member
        own = told.boot == self.boot
        seen = 0.0 if own else member.seen + passed
        gone = not own and seen > GONE_AFTER + self.interval - self._every
        state = "gone" if gone else member.state
        return replace(member, seen=round(seen, 1), state=state, leader=told.boot == leader and not gone, own=own)

    def _compare(self, said_so: set[str]) -> Change:
        now = {each.name: self._told[each.name].boot for each in self.members() if each.state != "gone"}
        if self.patient:
            now = {name: boot for name, boot in self._alive.items() if boot not in now.values()} | now
        before, self._alive = self._alive, now
        joined = tuple(sorted(name for name, boot in now.items() if before.get(name) != boot and boot != self.boot))
        free = {name for name in before if now.get(name, self.boot) == self.boot}  # nobody's, or this node's by now
        left = sorted(name for name in free if before[name] != self.boot)
        return Change(joined, tuple((name, name in said_so) for name in left))


def tell(member: Member, after: str = "") -> str:
    """What a node says about itself, as JSON; `after` is the run whose place it takes in an upgrade."""
    facts: dict[str, Any] = {
        "version": member.version,
        "state": member.state,
        "since": round(member.since, 3),
        "workers": member.workers,
        "rps": member.requests_per_second,
        "in_flight": member.in_flight,
        "connections": member.connections,
        "config": member.config,
    }
    if after:
        facts["after"] = after
    return json.dumps(facts, separators=(",", ":"))


def listen(name: str, text: str, seen: float) -> Told | None:
    """What Redis keeps about a node, its run and then what it says; None for what cannot be understood."""
    boot, _, data = text.partition(" ")
    if len(text) > LARGEST or not name or len(name) > 128:
        return None
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    state = facts.get("state")
    return Told(
        Member(
            name,
            _text(facts, "version"),
            "draining" if state == "draining" else "up",
            _number(facts, "since"),
            seen=max(seen, 0.0),
            workers=int(_number(facts, "workers")),
            requests_per_second=_number(facts, "rps"),
            in_flight=int(_number(facts, "in_flight")),
            connections=int(_number(facts, "connections")),
            config=_text(facts, "config"),
        ),
        boot,
    )


def _number(facts: Mapping[str, Any], key: str) -> float:
    value = facts.get(key, 0)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15
    return float(value) if good else 0.0


def _text(facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key, "")
    return value[:64] if isinstance(value, str) and value.isprintable() else ""
