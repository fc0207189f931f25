"""Unix sockets to listen on: their files, which outlive a process that was killed.

A file whose socket nobody listens on any more is replaced; one that answers is taken. Nothing that is no socket is ever
removed, and at the end only the file that we made: another process may have put its own there by then.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from lb_core.errors import StartError


class SocketFile:
    """The file of a socket that listens."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._made = _identity(path)

    def remove(self) -> None:
        """Remove it, unless another one stands there now."""
        if self._made is not None and _identity(self.path) == self._made:
            with suppress(OSError):
                os.unlink(self.path)
        self._made = None

    def keep(self) -> None:
        """Leave it: it is another process's now."""
        self._made = None


def listen_on_file(name: str, path: str, mode: int, backlog: int) -> socket.socket:
    """A listening socket at `path`, whose file has these rights; raises StartError for the listener `name`.

    The rights are set before it listens: until then a connection is refused.
    """
    place = f"listener {name!r}: "
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_way(place, path)
        opened.bind(path)
        os.chmod(path, mode)
        opened.listen(backlog)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise StartError(place + _explained(error, path)) from error
    except BaseException:
        opened.close()
        raise
    return opened


def _make_way(place: str, path: str) -> None:
    """Remove what a dead process has left at `path`."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StartError(f"{place}{path} is there and is no socket: remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # somebody listens, and is busy
    raise StartError(f"{place}{path} is taken, a process listens there: choose another path, or stop it")


def _explained(error: OSError, path: str) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return f"there is no directory {os.path.dirname(path)} for {path}: make it, or choose another path"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"no right to make {path}: choose a directory that this user may write to"
        case errno.EADDRINUSE:
            return f"{path} is taken, another process came first: choose another path, or stop it"
        case _:
            return f"cannot listen on {path}: {error.strerror or error}"


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
