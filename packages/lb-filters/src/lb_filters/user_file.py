"""A htpasswd file: `name:hash` a line, read again when it has changed.

It is looked at once a second at most, when a request asks. A file that cannot be used any more (gone, half written, a
hash of another kind) leaves the users as they were, and that is logged once; the next look tries again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lb_filters.hashes import check_hash

log = logging.getLogger("lb.filters")

PERIOD = 1.0

Users = Mapping[str, str]
Stamp = tuple[int, int, int] | None


def check_user(name: str, hashed: str) -> None:
    """Raise ValueError unless a user of that name can log in with that hash."""
    if not name or ":" in name or not name.isprintable():
        raise ValueError(f'"{name}" cannot be the name of a user: it is empty, or holds a colon or control characters')
    check_hash(name, hashed)


def read_users(path: str) -> Users:
    """The users of a file. Raises ValueError with its place for a line that cannot be used, OSError for the file."""
    users: dict[str, str] = {}
    text = Path(path).read_text(encoding="utf-8")  # a UnicodeDecodeError is a ValueError
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, hashed = line.partition(":")
        try:
            if not colon:
                raise ValueError("a line is NAME:HASH")
            if name in users:
                raise ValueError(f'"{name}" stands there twice')
            check_user(name, hashed)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        users[name] = hashed
    return users


class UserFile:
    """The users of a file, as they are now."""

    def __init__(self, path: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._seen = _stamp(path)
        self._failed: object = None
        self.users = read_users(path)
        self._next = clock() + PERIOD

    def due(self) -> bool:
        """Whether it is time to look, and the file is another than the one that was read."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + PERIOD
        return _stamp(self._path) != self._seen

    def read_again(self) -> None:
        """Take the users that stand there now; keep those of before where they cannot be read."""
        stamp = _stamp(self._path)
        try:
            self.users = read_users(self._path)
        except (OSError, ValueError) as error:
            if self._failed != (stamp, str(error)):
                self._failed = stamp, str(error)
                log.error("basic_auth: the users stay as they were: %s", error)
            return
        self._seen = stamp
        self._failed = None


def _stamp(path: str) -> Stamp:
    """What tells two contents of a file apart; None while it cannot be looked at."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
