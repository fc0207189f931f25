"""How the processes that have the same circuits stay of one mind: one channel, and the stamp of what is known of each.

What is told twice, late or by somebody who knew less changes nothing.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lb_breaker import said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lb_breaker.circuit import Circuit
    from lb_core import Backend
    from lb_core.sharing import Channel, Sharing

Message = dict[str, Any]


class Accord:
    """What is known of some circuits, and the way to the others that have them; `wall` is the clock they all share."""

    def __init__(
        self, sharing: Sharing | None, topic: str, *, nodes: bool = True, wall: Callable[[], float] = time.time
    ) -> None:
        self._sharing = sharing
        self._topic = topic
        self._nodes = nodes
        self._wall = wall
        self._stamps: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._channel: Channel | None = None

    @property
    def sees_everything(self) -> bool:
        """Whether this process knows the requests of all workers."""
        return self._sharing is None or not self._sharing.seat

    def enter(self, receive: Callable[[Any], None], snapshot: Callable[[], Iterable[Any]]) -> None:
        """Take part; `snapshot` tells somebody new how things stand."""
        if self._sharing is not None:
            self._channel = self._sharing.channel(self._topic, receive, snapshot=snapshot, nodes=self._nodes)

    def leave(self) -> None:
        """Take part no longer."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def take_over(self, old: Accord, of: object, now: object) -> None:
        """What was known under one key is known under another."""
        if of in old._stamps:
            self._stamps[now] = old._stamps[of]

    def stamp(self, of: object) -> int:
        """The stamp of the last thing known; 0 for none."""
        return self._stamps.get(of, 0)

    def decided(self, of: object) -> int:
        """The stamp of what this process has just decided."""
        offset = self._sharing.offset if self._sharing is not None else 0.0
        stamp = self._stamps[of] = said.next_stamp(self._wall() + offset, self.stamp(of))
        return stamp

    def about(self, backends: Iterable[Backend], message: Mapping[str, Any]) -> Message:
        """A message about backends; where their addresses mean something else at other nodes, it is not for those."""
        return {**message, **(self._sharing.locality.mark(*backends) if self._sharing is not None else {})}

    def say(self, message: Mapping[str, Any]) -> None:
        """Tell the others."""
        if self._channel is not None:
            self._channel.send(dict(message))

    def learns(self, of: object, message: Mapping[str, Any], *, is_open: bool) -> bool:
        """Whether a message is news; it is known from then on. `is_open`: what is known is that it is open."""
        if not said.is_news(message, self.stamp(of), is_open):
            return False
        self._stamps[of] = int(message["stamp"])
        return True

    @contextmanager
    def unheard(self, circuit: Circuit) -> Iterator[None]:
        """Tell no events of a circuit that another process has opened: that one does."""
        sharing = self._sharing
        if sharing is None or not circuit.followed:
            yield
            return
        before, sharing.applying = sharing.applying, True
        try:
            yield
        finally:
            sharing.applying = before
