"""Who is at the other end of a unix socket, as the kernel says."""

from __future__ import annotations

import os
import socket
import struct

_CREDENTIALS = struct.Struct("3i")


def user_at(connection: socket.socket) -> int | None:
    """The user id of the process at the other end; None where this system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def is_trusted(uid: int | None, own: int | None = None) -> bool:
    """Whether this user may command us, or tell us something: ourselves and root.

    Where the system does not tell, the rights of the socket's file and its directory decide.
    """
    return uid is None or uid in (0, os.geteuid() if own is None else own)
