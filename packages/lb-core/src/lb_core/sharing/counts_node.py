"""What all counts of a node have in common: the secret that fingerprints are made with, and where windows begin."""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core.sharing.sharing import Sharing

AREA = "counts"
SECRET = 32
FINGERPRINT = (1 << 53) - 1

Key = str | bytes


class CountsNode:
    """The same in every process of the node, through one small area; the control process makes it.

    `phase` leads from `time.monotonic` to the cluster's clock, or to the time of day. It is read from the memory each
    time, for two processes that had found it at different times would disagree about when a window begins.
    """

    __slots__ = ("_bytes", "_numbers", "_secret", "_sharing")

    def __init__(self, sharing: Sharing) -> None:
        assert sharing.memory is not None
        area = sharing.memory.area(AREA, SECRET + 8)
        self._sharing = sharing
        self._bytes = area[:SECRET]
        self._numbers: memoryview[float] = area[SECRET : SECRET + 8].cast("d")
        if not any(self._bytes):
            self._bytes[:] = os.urandom(SECRET)
            self.align()
        self._secret = bytes(self._bytes)

    def fingerprint(self, key: Key) -> float:
        """53 bits that stand for a key in memory, never 0; without the secret nobody finds two keys with the same."""
        data = b"s" + key.encode("utf-8", "surrogatepass") if isinstance(key, str) else b"b" + key
        digest = blake2b(data, digest_size=8, key=self._secret).digest()
        return float((int.from_bytes(digest, "little") & FINGERPRINT) or 1)

    def phase(self) -> float:
        """What to add to `time.monotonic` for the clock by which windows are aligned."""
        return self._numbers[0]

    def align(self) -> None:
        """In the control process: find the phase anew, for another offset of the cluster's clock."""
        if self._sharing.seat == 0:
            self._numbers[0] = time.time() - time.monotonic() + self._sharing.offset
