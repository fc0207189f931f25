"""Memory that the processes of a node share: named areas of one file that exists in memory only.

    control     Memory()               makes areas, and tells their places (`areas`) together with a configuration
    worker      Memory(fd, areas)      finds an area by its name

An area is zeroed and begins on a page. The file is sparse: a page takes memory when it is first written. What is
written at one place by one process only may be read by all without a lock: a store of 8 aligned bytes is whole.
"""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("lb.sharing")

Place = tuple[int, int]
"""Where an area begins in the file, and its size in bytes."""

PUNCH_HOLE_AND_KEEP_SIZE = 3


class Memory:
    """Named areas; with the descriptor of another process's memory, its areas.

    Views that `area` returns stay valid for as long as somebody holds them.
    """

    SEATS = 64
    """How many processes of a node may count, the control process included."""

    def __init__(self, descriptor: int | None = None, areas: Mapping[str, Place] | None = None) -> None:
        self.owner = descriptor is None
        self.descriptor = _make() if descriptor is None else descriptor
        self.areas: dict[str, Place] = dict(areas or {})
        self._maps: dict[str, memoryview] = {}
        self._free: list[Place] = []
        self._left: list[Place] = []
        self.shared = False
        """Whether workers may still use what was released, until `settle`."""

    def area(self, name: str, size: int) -> memoryview:
        """The area of that name, of at least `size` bytes; the control process makes it where there is none.

        A worker that asks for one the control process has not made gets memory of its own, and a warning is logged:
        what it counts there nobody else sees.
        """
        wanted = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        place = self.areas.get(name)
        if place is not None and place[1] != wanted and self.owner:
            self.release(name)
            place = None
        if place is None and self.owner:
            place = self.areas[name] = self._place(wanted)
        if place is None or place[1] < wanted:
            log.warning(
                "the control process knows no shared memory %r of %d bytes: this worker counts alone", name, size
            )
            return memoryview(mmap.mmap(-1, wanted))
        view = self._maps.get(name)
        if view is None:
            view = self._maps[name] = memoryview(mmap.mmap(self.descriptor, place[1], offset=place[0]))
        return view

    def release(self, name: str) -> None:
        """Nobody uses the area any more: its pages are given back, its place may be another's.

        Where there are workers, that waits until all of them have the configuration that does without it (`settle`).
        """
        self._maps.pop(name, None)
        place = self.areas.pop(name, None)
        if place is not None and self.owner:
            self._left.append(place)
            if not self.shared:
                self.settle()

    def settle(self) -> None:
        """Give back what was released: no process has it mapped any more."""
        while self._left:
            place = self._left.pop()
            _give_back(self.descriptor, place)
            self._free.append(place)

    def follow(self, areas: Mapping[str, Place]) -> None:
        """In a worker: the areas as the control process has them now."""
        for name in [name for name, place in self.areas.items() if areas.get(name) != place]:
            self._maps.pop(name, None)
        self.areas = dict(areas)

    def close(self) -> None:
        """Let go of the file; what others have mapped stays."""
        self._maps.clear()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            self.close()

    def _place(self, size: int) -> Place:
        for place in self._free:
            if place[1] == size:
                self._free.remove(place)
                return place
        begin = max((begin + length for begin, length in (*self.areas.values(), *self._free, *self._left)), default=0)
        os.ftruncate(self.descriptor, begin + size)
        return begin, size


def _make() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("lb", os.MFD_CLOEXEC)
    descriptor, path = tempfile.mkstemp(prefix="lb-")
    os.unlink(path)
    return descriptor


def _give_back(descriptor: int, place: Place) -> None:
    """Zero an area's pages: by a hole where the system can make one, else by writing."""
    begin, size = place
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        offset = ctypes.c_int64
        if libc.fallocate(descriptor, PUNCH_HOLE_AND_KEEP_SIZE, offset(begin), offset(size)) == 0:
            return
    except (AttributeError, OSError):
        pass
    step = bytes(min(size, 1 << 20))
    for at in range(begin, begin + size, len(step)):
        os.pwrite(descriptor, step[: begin + size - at], at)
