"""Whether a client reads at all: how much of what was written to it has not arrived.

A connection whose write buffer is full says nothing until a good part of it has drained, and the kernel's own buffer,
up to some megabytes, drains first. Looked at from here a client that reads 10 KB a second and one that reads nothing
are the same for minutes. The kernel knows better: it counts the bytes that the client has not acknowledged.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from contextlib import suppress


def unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes written that the other side has not acknowledged; without the kernel's part where it does not tell."""
    waiting = transport.get_write_buffer_size()
    opened = transport.get_extra_info("socket")
    if opened is None or sys.platform == "win32":
        return waiting
    with suppress(OSError):
        import fcntl
        import termios

        waiting += struct.unpack("i", fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    return waiting
