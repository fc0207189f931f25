"""Which configuration files have changed, found by looking at them once a second.

A file is its modification time, size and inode, so an editor that writes in place and one that replaces the file by a
rename are both seen. What counts is a state that has stood still:

    seen        the state a configuration was read from, or that was reported
    pending     a different state, met at the last look
    changed     the same different state at two looks in a row: the writer is done

A file that is missing is never a change: editors and configuration tools remove a file for a moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

Stamp = tuple[int, int, int] | None


def stamp(path: str) -> Stamp:
    """What tells two contents of a file apart; None while it cannot be looked at."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class FileWatch:
    """The files a configuration was read from."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._seen: dict[str, Stamp] = {}
        self._pending: dict[str, Stamp] = {}
        self.follow(paths)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files being watched."""
        return tuple(self._seen)

    def follow(self, paths: Iterable[str]) -> None:
        """Watch these files from how they are now on."""
        self._seen = {path: stamp(path) for path in paths}
        self._pending = {}

    def look(self) -> list[str]:
        """The files that changed since they were last reported and have stood still for one look."""
        changed = []
        for path, seen in self._seen.items():
            now = stamp(path)
            if now is None or now == seen:
                self._pending.pop(path, None)
            elif self._pending.get(path) == now:
                del self._pending[path]
                changed.append(path)
                self._seen[path] = now
            else:
                self._pending[path] = now
        return changed
