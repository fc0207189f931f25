"""Sockets to listen on, and errors a person can act upon when the machine refuses one."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from glob import iglob
from typing import TYPE_CHECKING, Any

from lb_core.errors import StartError
from lb_core.socket_files import listen_on_file

if TYPE_CHECKING:
    from lb_core.config import ListenerConfig

BACKLOG = 4096
"""The kernel cuts it to net.core.somaxconn; connections wait here while the loop is busy."""

BARE: dict[str, Any] = {
    "ws": "none",
    "loop": "none",
    "interface": "asgi3",
    "lifespan": "off",
    "log_config": None,
    "log_level": "critical",
    "access_log": False,
    "proxy_headers": False,
    "server_header": False,
    "date_header": False,
}
"""Settings of uvicorn in which it accepts connections and does nothing else: no logs, no fields, no loop of its own."""

TCP_NOTSENT_LOWAT = 25
UNSENT = 64 * 1024
"""Bytes of an answer that the kernel takes ahead of what it has sent to a client. By itself it takes 4 MB and more, and
then a few hundred clients that do not read hold all the memory the machine has for TCP."""

Family = tuple[socket.AddressFamily, str]

Address = tuple[str, int, str]
"""What makes two listeners one: host, port, path of a unix socket."""


def address_of(listener: ListenerConfig) -> Address:
    """Where it listens, as configured."""
    return listener.host, listener.port, listener.path


def listen(listener: ListenerConfig) -> list[socket.socket]:
    """Open the listener's sockets, already listening; raises StartError.

    An address without host (`:8080`) gives one socket for IPv4 and one for IPv6, rather than one for both: then no
    client appears as `::ffff:192.0.2.1`.
    """
    if listener.path:
        return [listen_on_file(listener.name, listener.path, listener.mode, BACKLOG)]
    sockets: list[socket.socket] = []
    port = listener.port
    try:
        for family, address in _families(listener):
            try:
                sockets.append(_open(family, address, port))
            except OSError as error:
                if family == socket.AF_INET6 and not listener.host and sockets and _no_ipv6(error):
                    continue
                raise StartError(_explain(error, listener, address, port)) from error
            port = sockets[0].getsockname()[1]
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def listen_beside(sockets: Iterable[socket.socket]) -> list[socket.socket]:
    """Another listening socket for each of these, at the same addresses; raises OSError.

    The kernel spreads connections over all of them. The first ones were opened alone, which shows that the port is
    nobody else's; only then they allow company, and only that of this user.
    """
    opened: list[socket.socket] = []
    try:
        for first in sockets:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            address, port = first.getsockname()[:2]
            opened.append(_open(first.family, address, port, beside=True))
    except BaseException:
        for each in opened:
            each.close()
        raise
    return opened


def accept_waiting(sockets: Iterable[socket.socket]) -> list[socket.socket]:
    """Take every connection that the kernel has made and nobody has accepted.

    Closing a listening socket resets them, though as far as their clients can tell they are connected.
    """
    accepted = []
    for listening in sockets:
        with suppress(OSError):  # BlockingIOError after the last, anything else for a socket that is closed already
            while True:
                accepted.append(listening.accept()[0])
    return accepted


def url(bound: socket.socket, scheme: str = "http") -> str:
    """Where a browser on this machine finds the socket; of a unix socket its address."""
    if bound.family == socket.AF_UNIX:
        return f"unix:{bound.getsockname()}"
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _families(listener: ListenerConfig) -> list[Family]:
    if not listener.host:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    try:
        found = socket.getaddrinfo(listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise StartError(
            f"listener {listener.name!r}: {listener.host!r} is no address of this machine ({error}): "
            "write an IP address, or leave the host out to listen on all"
        ) from error
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _open(family: int, address: str, port: int, *, beside: bool = False) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if beside:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":
            opened.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT)  # accepted connections inherit it
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened


def _no_ipv6(error: OSError) -> bool:
    return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def _explain(error: OSError, listener: ListenerConfig, address: str, port: int) -> str:
    place = f"listener {listener.name!r}: "
    match error.errno:
        case errno.EADDRINUSE:
            holder = port_holder(port)
            who = f" (by {holder})" if holder else ""
            return f"{place}port {port} on {address} is taken{who}: choose another with --listen, or stop it"
        case errno.EACCES | errno.EPERM:
            return (
                f"{place}no right to listen on port {port} of {address}: use a port from 1024 up, "
                "or give the right with `setcap cap_net_bind_service=+ep` on the Python executable"
            )
        case errno.EADDRNOTAVAIL:
            return f"{place}{address} is no address of this machine: `ip address` lists those it has"
        case _:
            return f"{place}cannot listen on {address} port {port}: {error.strerror or error}"


def port_holder(port: int) -> str:
    """`nginx, pid 123` for who listens on a port; empty where the kernel does not tell us."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for link in iglob("/proc/[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(link) in wanted:
                pid = link.split("/")[2]
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                    return f"{comm.read().strip()}, pid {pid}"
    return ""


def _listening_inodes(port: int) -> Iterator[str]:
    """Read the kernel's socket tables: column 1 is address:port in hex, 3 the state (0A listens), 9 the inode."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError), open(table, encoding="ascii") as lines:
            next(lines, None)
            for line in lines:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]
