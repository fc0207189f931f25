"""Where control sockets are, and who may have put them there.

    $XDG_RUNTIME_DIR/lb/PID.sock      the user's own directory, which the system makes
    /run/lb/PID.sock                  root without one
    $TMPDIR/lb-UID/PID.sock           everybody else; anybody may make directories there, so its owner is looked at

The directory belongs to the user, is closed to all others and is no symbolic link: both sides check that, since whoever
owns it could pass for a balancer. A socket that a dead process has left is removed by the next one.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lb_core.errors import LbError

_SOCKET = re.compile(r"(\d{1,10})(?:-\d+)?\.sock").fullmatch


def directories(environ: Mapping[str, str], uid: int) -> list[Path]:
    """Where a balancer of this user may have its socket, the directory for a new one first."""
    own = environ.get("XDG_RUNTIME_DIR", "")
    found = [Path(own, "lb")] if os.path.isabs(own) else []
    if uid == 0:
        found.append(Path("/run/lb"))
    return [*found, Path(environ.get("TMPDIR") or "/tmp", f"lb-{uid}")]


def make_directory(path: Path, uid: int) -> None:
    """Make a directory that only this user may enter, or make sure that it is one; raises LbError."""
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if fault := _fault(path, uid):
            raise LbError(f"{path} {fault}: remove it, or name another place with `control: PATH`")
        path.chmod(0o700)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LbError(f"cannot make {path}: {reason}; name another place with `control: PATH`") from error


def new_socket(directory: Path, pid: int) -> Path:
    """The path for a socket of this process; what dead ones have left is removed."""
    for left in directory.iterdir():
        if _is_left_over(left, pid):
            with suppress(OSError):
                left.unlink()
    path, number = directory / f"{pid}.sock", 2
    while path.exists():
        path, number = directory / f"{pid}-{number}.sock", number + 1
    return path


def sockets(environ: Mapping[str, str], uid: int) -> list[Path]:
    """The sockets at which somebody listens."""
    found: list[Path] = []
    for directory in directories(environ, uid):
        if not _fault(directory, uid):
            found += [path for path in sorted(directory.iterdir()) if _SOCKET(path.name) and _listens(path)]
    return found


def _fault(directory: Path, uid: int) -> str:
    """Why a directory cannot be trusted; empty where it can."""
    try:
        there = directory.lstat()
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(there.st_mode):
        return "is no directory"
    if there.st_uid != uid:
        return f"belongs to user {there.st_uid}, not to user {uid}"
    return ""


def _is_left_over(path: Path, own: int) -> bool:
    """Whether it is a socket of a dead process: nobody of that number lives but us, and nobody listens.

    Both are asked: the process may be in another container that shares the directory, and a socket refuses connections
    for a moment while it is being made. In a container a new process often has the number of the one before.
    """
    named = _SOCKET(path.name)
    return named is not None and (int(named[1]) == own or not _lives(int(named[1]))) and not _listens(path)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's
    return pid > 0


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(path))
        except BlockingIOError:
            return True  # somebody listens, and is busy
        except OSError:
            return False
    return True
