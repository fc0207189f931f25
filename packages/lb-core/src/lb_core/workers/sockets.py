"""The listening sockets of a node with workers: opened and kept by the control process, shared out among workers.

    key         0 to K-1: one of an address's sockets for each family; K is the greatest number of workers there was
    share       the keys that a place accepts on: key modulo the number of places; those of a place without worker go to
                the next one that has one

A socket that is closed takes its part of new connections with it, so none is closed while its listener lives. A unix
socket has one key, which everybody shares.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from lb_core.errors import StartError
from lb_core.listening import Address, address_of, listen, listen_beside, url
from lb_core.socket_files import SocketFile

if TYPE_CHECKING:
    import socket

    from lb_core.config import ListenerConfig


def share(keys: int, places: int, filled: Collection[int]) -> dict[int, tuple[int, ...]]:
    """The keys of each place that has a worker."""
    shares: dict[int, list[int]] = {place: [] for place in sorted(filled)}
    there = list(shares)
    for key in range(keys if there else 0):
        place = key % places
        shares[next((each for each in there if each >= place), there[0])].append(key)
    return {place: tuple(found) for place, found in shares.items()}


class Bound:
    """The sockets of one listener, by key. Raises StartError."""

    def __init__(self, listener: ListenerConfig, count: int, inherited: Iterable[socket.socket] | None = None) -> None:
        self.listener = listener
        self.keys = [listen(listener)] if inherited is None else _by_key(inherited)
        self._file = SocketFile(listener.path) if listener.path else None
        self.use(listener)
        try:
            self.widen(count)
        except BaseException:
            self.close()
            raise

    def use(self, listener: ListenerConfig) -> None:
        """Take new settings."""
        self.listener = listener
        if self._file is not None:
            os.chmod(listener.path, listener.mode)

    @property
    def urls(self) -> list[str]:
        """Where it can be reached from this machine."""
        return [url(each) for each in self.keys[0]]

    @property
    def sockets(self) -> list[socket.socket]:
        """All of them."""
        return [each for sockets in self.keys for each in sockets]

    def share(self, places: int, filled: Collection[int]) -> dict[int, tuple[int, ...]]:
        """The keys of each place that has a worker."""
        return dict.fromkeys(filled, (0,)) if self.listener.path else share(len(self.keys), places, filled)

    def widen(self, count: int) -> None:
        """Have a key for each of so many workers."""
        while len(self.keys) < count and not self.listener.path:
            try:
                self.keys.append(listen_beside(self.keys[0]))
            except OSError as error:
                raise StartError(
                    f"listener {self.listener.name!r}: no socket for another worker at {self.urls[0]}: "
                    f"{error.strerror or error}"
                ) from error

    def keep_file(self) -> None:
        """The file of a unix socket is another process's now."""
        if self._file is not None:
            self._file.keep()

    def close(self) -> None:
        """Close our copies, and remove the file."""
        for each in self.sockets:
            each.close()
        if self._file is not None:
            self._file.remove()


class Sockets:
    """Those of every listener, by address."""

    def __init__(self, inherited: dict[Address, Iterable[socket.socket]] | None = None) -> None:
        self.bound: dict[Address, Bound] = {}
        self._inherited = dict(inherited or {})

    @property
    def urls(self) -> list[str]:
        """Where the node can be reached from this machine."""
        return [found for bound in self.bound.values() for found in bound.urls]

    def open(self, listener: ListenerConfig, count: int) -> Bound:
        """Open a listener for so many workers; raises StartError."""
        address = address_of(listener)
        bound = self.bound[address] = Bound(listener, count, self._inherited.pop(address, None))
        return bound

    def close(self, *addresses: Address) -> None:
        """Close our copies of these, or of all."""
        for address in addresses or tuple(self.bound):
            self.bound.pop(address).close()


def _by_key(sockets: Iterable[socket.socket]) -> list[list[socket.socket]]:
    """Sockets of a predecessor in groups with one for each address."""
    keys: list[list[socket.socket]] = []
    for each in sockets:
        place = each.family, each.getsockname()
        group = next((key for key in keys if place not in [(of.family, of.getsockname()) for of in key]), None)
        if group is None:
            keys.append([each])
        else:
            group.append(each)
    return keys
