"""What the processes and nodes that have a split tell each other: its weights, after a shift or a rollback.

The newest holds, by a stamp in milliseconds of the clock that all share. Who has another section `split` is not meant:
while a fleet takes a new configuration node by node, both are in use.
"""

from __future__ import annotations

import time
from math import isfinite
from typing import TYPE_CHECKING, Any
from zlib import crc32

from lb_split.settings import LARGEST_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lb_core import Route
    from lb_core.sharing import Channel
    from lb_split.settings import SplitSettings

    State = tuple[Mapping[str, float], Iterable[str]]
    Take = Callable[[Mapping[str, float], Iterable[str], Iterable[str]], None]


class Told:
    """The way to the others; `take(weights, rolled_back, cleared)` hears what they did last.

    `cleared` are the pools whose failures of before count no more.
    """

    def __init__(
        self, route: Route, settings: SplitSettings, take: Take, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._sharing = route.sharing
        self._topic = f"split/{route.name}"
        self._section = f"{crc32(settings.model_dump_json().encode()):08x}"
        self._names = {each.use for each in settings.pools}
        self._take = take
        self._wall = wall
        self._stamp = 0
        self._last: Mapping[str, Any] = {}
        self._channel: Channel | None = None

    def enter(self, state: Callable[[], State]) -> None:
        """Take part; `state` gives the weights, and who was rolled back, as they are."""

        def snapshot() -> Iterator[Mapping[str, Any]]:
            if self._stamp:
                yield self._message(*state())

        self._channel = self._sharing.channel(self._topic, self._receive, snapshot=snapshot)

    def leave(self) -> None:
        """Take part no longer."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def carry_on(self, old: Told) -> None:
        """The section is the same as before: what was said of it holds on."""
        self._stamp, self._last = old._stamp, old._last

    def tell(self, weights: Mapping[str, float], rolled_back: Iterable[str], cleared: Iterable[str] = ()) -> None:
        """Tell the others what has been done here."""
        self._stamp = max(int((self._wall() + self._sharing.offset) * 1000), self._stamp + 1)
        self._last = dict(weights)
        if self._channel is not None:
            self._channel.send({**self._message(weights, rolled_back), "cleared": list(cleared)})

    def _message(self, weights: Mapping[str, float], rolled_back: Iterable[str]) -> dict[str, Any]:
        state = {"weights": dict(weights), "rolled_back": list(rolled_back)}
        return {"section": self._section, "stamp": self._stamp, **state}

    def _receive(self, message: Mapping[str, Any]) -> None:
        weights, stamp = message.get("weights", {}), message.get("stamp", 0)
        if message.get("section") != self._section or not self._usable(weights):
            return
        if (stamp, _order(weights)) > (self._stamp, _order(self._last)):
            self._stamp, self._last = stamp, weights
            self._take(weights, message.get("rolled_back", ()), message.get("cleared", ()))

    def _usable(self, weights: Mapping[str, float]) -> bool:
        return (
            weights.keys() == self._names
            and all(isfinite(weight) and 0 <= weight <= LARGEST_WEIGHT for weight in weights.values())
            and any(weights.values())
        )


def _order(weights: Mapping[str, float]) -> list[tuple[str, float]]:
    """Of two things done in the same millisecond all processes take the same for the newer."""
    return sorted(weights.items())
