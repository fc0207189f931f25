"""Back-pressure: who reads no further because somebody else cannot keep up.

One side of an exchange stops reading while any of these holds, and reads again when none does:

    PEER       the other side's write buffer is above its mark (64 KiB): it reads more slowly than we are sent
    CONNECTING there is no backend to hand the body to yet
    PIPELINED  a further request waits for the answer to this one

Without it ten stalled downloads of 100 MB held 1 GB; with it, 0.2 MB each.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct

PEER = 1
CONNECTING = 2
PIPELINED = 4

HIGH_WATER = 64 * 1024


def unread(transport: asyncio.Transport) -> bool:
    """Whether bytes, or the end, have come that the loop has not read yet.

    A connection looks idle to us until then. Closed now, a request on it would be lost that was there in time.
    """
    opened = transport.get_extra_info("socket")
    if opened is None or opened.fileno() < 0 or not hasattr(select, "poll"):  # Windows has none
        return False
    poll = select.poll()
    poll.register(opened.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def reset(transport: asyncio.Transport) -> None:
    """Cut a connection with a reset, for a message that only the end of its connection ends: it must not look whole."""
    opened = transport.get_extra_info("socket")
    if opened is not None and opened.fileno() >= 0 and opened.family != getattr(socket, "AF_UNIX", None):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def end_writing(transport: asyncio.Transport) -> None:
    """Say that nothing more comes; a connection that its peer has reset by now is given up."""
    try:
        transport.write_eof()
    except OSError:  # asyncio passes on what shutdown(2) says of such a connection
        transport.abort()


class Reader(asyncio.Protocol):
    """A connection that stops reading for reasons, and reads again when the last of them is gone."""

    __slots__ = ("held", "transport")

    transport: asyncio.Transport
    held: int

    def __init__(self) -> None:
        self.held = 0

    def hold(self, reason: int) -> None:
        """Stop reading for a reason."""
        if not self.held and not self.transport.is_closing():
            self.transport.pause_reading()
        self.held |= reason

    def release(self, reason: int) -> None:
        """Drop a reason; read again when it was the last."""
        if self.held:
            self.held &= ~reason
            if not self.held and not self.transport.is_closing():
                self.transport.resume_reading()
