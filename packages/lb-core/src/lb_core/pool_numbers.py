"""Where the workers of a node count the requests in flight of a pool's backends.

number 0    since when the first request of a queue waits, in nanoseconds of the monotonic clock; 0 while none does
number 1    when that worker last looked whether there is room
number 2…   the backends, in the order in which the control process has come to know them
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from lb_core.pool import Pool
from lb_core.sharing.numbers import REST, Numbers
from lb_core.sharing.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lb_core.backend import Backend
    from lb_core.events import Notify
    from lb_core.sharing import Sharing

FIRST, LOOKED, BACKENDS = 0, 1, 2
SMALLEST = 128


class Table:
    """The numbers of one pool in shared memory."""

    __slots__ = ("area", "numbers", "size", "slots")

    def __init__(self, sharing: Sharing, pool: str, size: int) -> None:
        self.size = size
        self.area = f"in_flight/{pool}/{size}"
        self.slots = Slots(sharing, self.area, size)
        self.numbers = Numbers(self.slots.of_control[:size], first=BACKENDS)

    def close(self) -> None:
        """Follow the other processes no more."""
        self.slots.close()


def size_for(backends: int) -> int:
    """How many numbers a pool has: twice as many as it needs, so that those of replaced backends can rest."""
    return max(SMALLEST, 1 << (2 * backends + BACKENDS - 1).bit_length())


class NumberedPool(Pool):
    """A pool of the control process: it gives each backend its number before the workers hear of it.

    `in_use` are the areas of all pools of the process.
    """

    __slots__ = ("_in_use", "_sharing", "_table")

    def __init__(self, name: str, sharing: Sharing, in_use: set[str], *, notify: Notify) -> None:
        self._sharing = sharing
        self._in_use = in_use
        self._table: Table | None = None
        super().__init__(name, (), notify=notify)

    def replace(self, backends: Iterable[Backend]) -> None:
        """Take new backends, and number them."""
        found = tuple(backends)
        table, size = self._table, size_for(len(found))
        if table is None or table.size != size:
            self.close()
            table = self._table = Table(self._sharing, self.name, size)
            self._in_use.add(table.area)
        table.numbers.keep(each.id for each in found)
        super().replace(found)

    def close(self) -> None:
        """Give the memory back, in a while: workers count there until they have the new configuration."""
        table, in_use, memory = self._table, self._in_use, self._sharing.memory
        if table is None:
            return
        self._table = None
        table.close()
        in_use.discard(table.area)

        def give_back() -> None:
            if memory is not None and table.area not in in_use:
                memory.release(table.area)

        with suppress(RuntimeError):  # without a loop nobody counts yet
            asyncio.get_running_loop().call_later(REST, give_back)
