"""Facts that only some nodes are meant to hear: those about backends on loopback and on unix sockets.

They are told to everybody like others, and dropped where the address means something else. But whoever is asked what
there is to know, the leader mostly, has dropped them; so they stand apart, and neighbours tell them to each other:

    here         who has joined says where it is, to everybody
    neighbour    who is in the same place tells that node what is known there, and where it is itself
    state        which tells what only it knows
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lb_core.sharing import Locality
from lb_redis.envelope import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from lb_redis.envelope import Envelope, Fact

    Say = Callable[[str, Mapping[str, Any], str], None]


def for_all(facts: Iterable[Fact]) -> list[Fact]:
    """The facts that are for every node."""
    return [fact for fact in facts if not Locality.is_marked(fact[1])]


class Neighbours:
    """Tells neighbours what is for them; `say(kind, body, boot)` says something to everybody, or to one run alone."""

    def __init__(self, locality: Locality, snapshots: Callable[[], list[Fact]], say: Say) -> None:
        self._locality = locality
        self._snapshots = snapshots
        self._say = say

    async def run(self) -> None:
        """Begin when Redis is there."""
        self._say("here", self._place(), "")
        await asyncio.Event().wait()

    def hear(self, envelope: Envelope) -> None:
        """What another node has said."""
        match envelope.body:
            case {"kind": "here" | "neighbour" as kind, "network": str(network), "files": str(files)}:
                there = Locality(network, files)
                if kind == "here" and self._is_near(there):
                    self._say("neighbour", self._place(), envelope.boot)
                self._tell(there, envelope.boot)

    def _is_near(self, there: Locality) -> bool:
        return there.network == self._locality.network or there.files == self._locality.files

    def _place(self) -> dict[str, str]:
        return {"network": self._locality.network, "files": self._locality.files}

    def _tell(self, there: Locality, boot: str) -> None:
        facts = [fact for fact in self._snapshots() if Locality.is_marked(fact[1]) and there.hears(fact[1])]
        for portion in batches(facts):
            self._say("state", {"to": boot, "facts": portion}, boot)
