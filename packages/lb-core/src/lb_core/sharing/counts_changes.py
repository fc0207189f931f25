"""What was added in this process and other nodes have not heard of: kept by key, passed on to the control process.

    a worker                        sends it every 20 ms while there is any; at once when it is urgent
    the control process             adds up what workers send, until the exchange takes it
    a process alone                 keeps its own until the exchange takes it

Without a cluster nothing is kept and nothing is sent.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.sharing.counts_node import Key
    from lb_core.sharing.sharing import Channel, Sharing

EVERY = 0.02
SOONEST = 0.002
"""Urgent or not: no worker sends more often than this."""

HUNDREDTH = 100
FEWEST = 4
"""The changes of a key are urgent when they are a hundredth of the limit, but not below this."""


class Changes:
    """The additions of one name that are still to be told."""

    __slots__ = ("_channel", "_due", "_hurried", "_name", "_pending", "_sent", "_sharing", "later")

    def __init__(self, sharing: Sharing, name: str) -> None:
        self._sharing = sharing
        self._name = name
        self._pending: dict[tuple[Key, int], float] = {}
        self._channel: Channel | None = None
        self._due = False
        self._hurried = False
        self._sent = float("-inf")
        self.later: Callable[[float, Callable[[], None]], object] = _later

    def open(self) -> None:
        """Take part in the topic of this name, where there are other nodes."""
        if self._sharing.clustered and self._channel is None:
            self._channel = self._sharing.channel(f"counts/{self._name}", self._hear, nodes=False)

    def close(self) -> None:
        """Tell what is left, and take part no more."""
        if self._channel is not None:
            self._send()
            self._channel.close()
            self._channel = None

    def note(self, key: Key, index: int, amount: float) -> float:
        """Something was added; returns how much of that key and window is still to be told."""
        pending, what = self._pending, (key, index)
        amount = pending[what] = pending.get(what, 0) + amount
        if not self._due and self._sharing.seat:
            self._due = True
            self.later(EVERY, self._send)
        return amount

    def tell(self, key: Key, index: int, amount: float, left: float, limit: float, each: float = 1.0) -> None:
        """Note what was added, which is urgent when it is much of the limit, or as much as there is `left` of it.

        `each` is what one request adds. A request that does not pass leaves less than nothing, and is not urgent.
        """
        untold = self.note(key, index, amount)
        if amount > 0 and left >= 0 and (untold > left or untold >= each * max(FEWEST, limit // HUNDREDTH)):
            self.hurry()

    def ask(self, key: Key, index: int) -> None:
        """Requests of a key are refused only until other nodes are heard of."""
        self.note(key, index, 0)
        self.hurry()

    def hurry(self) -> None:
        """The exchange should come now: so much of a limit is used that the others must know."""
        if self._hurried:
            return
        self._hurried = True
        if self._sharing.seat == 0:
            for hear in tuple(self._sharing.on_urgent):
                hear(self._name)
        else:
            self.later(max(0.0, self._sent + SOONEST - time.monotonic()), self._send)

    def take(self) -> list[tuple[Key, int, float]]:
        """All that is to be told, which is then told."""
        taken, self._pending = self._pending, {}
        self._hurried = False
        return [(key, index, amount) for (key, index), amount in taken.items()]

    def _send(self) -> None:
        urgent, self._due = self._hurried, False
        if self._sharing.seat == 0 or self._channel is None or not (self._pending or urgent):
            return
        self._sent = time.monotonic()
        changes = [[_packed(key), index, amount] for key, index, amount in self.take()]
        self._sharing.send_up(self._channel.topic, [urgent, changes])

    def _hear(self, message: Any) -> None:
        """In the control process: a worker's additions."""
        urgent, changes = message
        pending = self._pending
        for packed, index, amount in changes:
            what = (_unpacked(packed), int(index))
            pending[what] = pending.get(what, 0) + amount
        if urgent:
            self.hurry()


def _later(seconds: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, call)


def _packed(key: Key) -> str:
    """A key as text, which JSON can carry."""
    return f"s{key}" if isinstance(key, str) else f"b{key.decode('latin-1')}"


def _unpacked(packed: str) -> Key:
    return packed[1:] if packed[0] == "s" else packed[1:].encode("latin-1")
