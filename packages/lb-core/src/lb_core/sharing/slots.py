"""Numbers that every process of a node has of the same things, side by side: requests under way by backend, open
connections.

                  number 0  number 1  …
    seat 1        [   3   ] [   0   ]        a process writes in its own row only: no lock, no message
    seat 2        [   1   ] [   7   ]        and reads the rows of the others whenever it decides

Who decides writes first and reads then (`slots.mine[i] += 1; if slots.total(i) > limit: slots.mine[i] -= 1`):
so the sum is never more than the limit, and two that decide in the same instant may both give way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core.sharing.sharing import Sharing

SEATS = 64
LINE = 8
"""Numbers in a line of the processor's cache: what two processes write must not stand in the same one."""


class Slots:
    """`size` whole numbers (64 bits, signed), zero at first, in a row for each process of the node.

    `mine` is this process's row: `slots.mine[3] += 1`. Nobody else writes there. `elsewhere` are the rows of the other
    processes that carry traffic. The same name and size is the same memory in every process, and after a reload; `name`
    is unique among all areas (`"in_flight/<pool>"`). Without shared memory (a process alone) everything works, and the
    others have nothing.

    When a worker has ended, its row is cleared by the control process before another worker takes its seat. Call
    `close` when nobody uses the numbers any more; with `release` its memory is given back too.
    """

    __slots__ = ("__weakref__", "_name", "_rows", "_sharing", "elsewhere", "mine", "size")

    def __init__(self, sharing: Sharing, name: str, size: int) -> None:
        self._sharing = sharing
        self._name = name
        self.size = size
        memory = sharing.memory
        stride = -(-max(size, 1) // LINE) * LINE
        if memory is None:
            self._rows = [memoryview(bytearray(8 * stride)).cast("q")]
        else:
            cells = memory.area(name, SEATS * stride * 8)[: SEATS * stride * 8].cast("q")
            self._rows = [cells[seat * stride : (seat + 1) * stride] for seat in range(SEATS)]
        self.mine: memoryview[int] = self._rows[sharing.seat if memory is not None else 0]
        self.elsewhere: tuple[memoryview[int], ...] = ()
        self._follow()
        sharing.on_seats.append(self._follow)
        sharing.on_seat_gone.append(self.seat_gone)

    def others(self, number: int) -> int:
        """The sum of what the other processes have there; in the control process that of all workers."""
        found = 0
        for row in self.elsewhere:
            found += row[number]
        return found

    @property
    def of_control(self) -> memoryview[int]:
        """The row of the control process, which carries no traffic and may say there what the numbers stand for."""
        return self._rows[0]

    def total(self, number: int) -> int:
        """The sum of all processes."""
        return self.mine[number] + self.others(number)

    def totals(self) -> list[int]:
        """The sums of all processes, for every number."""
        rows = (self.mine, *self.elsewhere)
        return [sum(numbers) for numbers in zip(*(row[: self.size].tolist() for row in rows), strict=True)]

    def seat_gone(self, seat: int) -> None:
        """In the control process: the worker of that seat has ended, and what it had is no more."""
        if len(self._rows) > 1:
            row = self._rows[seat]
            row[:] = memoryview(bytes(row.nbytes)).cast("q")

    def close(self, *, release: bool = False) -> None:
        """Follow the other processes no more; with `release` give the memory back."""
        if self._follow in self._sharing.on_seats:
            self._sharing.on_seats.remove(self._follow)
            self._sharing.on_seat_gone.remove(self.seat_gone)
        if release and self._sharing.memory is not None:
            self._sharing.memory.release(self._name)

    def _follow(self) -> None:
        """Other processes take part; the control process itself carries no traffic."""
        if len(self._rows) > 1:
            self.elsewhere = tuple(self._rows[seat] for seat in self._sharing.seats if seat)
