"""The secret that the cookies' values are computed with: from the settings, or from a file that outlives restarts.

The file is made by the first process that gives out a cookie. It is written under another name and then linked to its
own, which fails where there is one already: of two that start at once both read what the first has linked, and nobody
ever reads half a secret. Where no file can be had, all routes share a secret that ends with the process.

Where several processes need the same one (agreed.py) the oldest counts, by the time of its file.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_sessions.settings import StickySettings

log = logging.getLogger("lb.sessions")

SIZE = 32
LARGEST = 4096


class Secret:
    """The secret of one route; `since` is the time of its making, in seconds since the epoch.

    One that is not `heard` does not say that it cannot be kept: another process does.
    """

    __slots__ = ("_found", "_heard", "path", "since")

    def __init__(self, settings: StickySettings, *, heard: bool = True) -> None:
        self.path = Path(settings.secret_file)
        self._found = settings.secret.get_secret_value().encode()
        self._heard = heard
        self.since = 0.0

    def existing(self) -> bytes:
        """The secret; nothing where there is none yet, and then nobody can have a cookie made with it."""
        if not self._found:
            with suppress(OSError, ValueError):
                self._take(read(self.path), _time_of(self.path))
        return self._found

    def made(self) -> bytes:
        """The secret, made where there is none."""
        if not self._found:
            try:
                self._take(read_or_create(self.path), _time_of(self.path))
            except (OSError, ValueError) as error:
                if self._heard:
                    _warn(self.path, getattr(error, "strerror", None) or str(error))
                self._take(*_of_this_process())
        return self._found

    def yields_to(self, other: bytes, since: float) -> bool:
        """Whether another secret is older than this one, or there is none here."""
        mine = self.existing()
        return not mine or (since, sha256(other).digest()) < (self.since, sha256(mine).digest())

    def adopt(self, other: bytes, since: float, *, keep: bool) -> None:
        """Use another from now on; with `keep` also after a restart, where its file can be written."""
        self._take(other, since)
        if keep:
            with suppress(OSError):
                _replace(self.path, other, since)

    def _take(self, found: bytes, since: float) -> None:
        self._found, self.since = found, since


def read(path: Path) -> bytes:
    """The secret in a file. Raises OSError, and ValueError where it is too short to be one."""
    with path.open("rb") as file:
        found = file.read(LARGEST)
    if len(found) < SIZE:
        raise ValueError(f"it holds {len(found)} bytes, and a secret has {SIZE} at least")
    return found


def read_or_create(path: Path) -> bytes:
    """The secret in a file, which is made where there is none. Raises OSError and ValueError."""
    with suppress(FileNotFoundError):
        return read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{token_hex(8)}")
    try:
        _write(new, token_bytes(SIZE))
        _publish(new, path)
    finally:
        new.unlink(missing_ok=True)
    return read(path)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _publish(new: Path, path: Path) -> None:
    """Give the file its name, unless another has it."""
    try:
        os.link(new, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            os.rename(new, path)


def _replace(path: Path, data: bytes, since: float) -> None:
    """Put another secret in the place of the one that was kept, with the time of its making."""
    with suppress(OSError, ValueError):
        if read(path) == data:
            return
    new = path.with_name(f".{path.name}.{token_hex(8)}")
    try:
        _write(new, data)
        os.utime(new, (since, since))
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed since it was read
        return time.time()


@cache
def _of_this_process() -> tuple[bytes, float]:
    return token_bytes(SIZE), time.time()


@cache  # once, however many routes share the file
def _warn(path: Path, why: str) -> None:
    log.warning(
        "%s cannot keep the secret of sticky cookies: %s; they will not survive a restart: make it a file that can be "
        "read and written, or set secret_file or secret in sticky_sessions",
        path,
        why,
    )
