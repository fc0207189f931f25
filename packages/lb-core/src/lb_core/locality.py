"""Where a backend's address means what it means here.

    10.0.0.1, a name             everywhere: what one node learns about it, all may know
    127.0.0.1, ::1, localhost    in one network namespace of one boot: elsewhere another process answers there
    unix:/run/app.sock           in one mount namespace of one boot

What is learnt about an address of the second or third kind is told with a mark, and reaches only nodes that the mark
is for: nodes on the same machine that see the same network, or the same files.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core.backend import Backend

PROC = Path("/proc")
MARK = "locality"
"""The key of a message that says whom it is for."""


@dataclass(frozen=True, slots=True)
class Locality:
    """One process's surroundings: a word for its network namespace, and one for its mount namespace."""

    network: str
    files: str

    @staticmethod
    def here() -> Locality:
        """That of this process."""
        return found(PROC)

    def mark(self, *backends: Backend) -> dict[str, str]:
        """What a message about these backends carries beside the rest; nothing where all nodes may hear it."""
        words = {self._word(backend) for backend in backends} - {""}
        return {MARK: " ".join(sorted(words))} if words else {}

    def hears(self, message: object) -> bool:
        """Whether a message is for this process, too."""
        mark = message.get(MARK, "") if isinstance(message, dict) else ""
        return isinstance(mark, str) and {*mark.split()} <= {self.network, self.files}

    @staticmethod
    def is_marked(message: object) -> bool:
        """Whether a message is for some only."""
        return isinstance(message, dict) and MARK in message

    def _word(self, backend: Backend) -> str:
        if backend.path:
            return self.files
        known = backend.lookup.addresses if backend.lookup is not None else ()
        return self.network if any(is_own(each) for each in (backend.host, *known)) else ""


def is_own(host: str) -> bool:
    """Whether an address, or a name, leads every machine to itself (RFC 1122 section 3.2.1.3, RFC 6761 section 6.3)."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower().rstrip(".").rpartition(".")[2] == "localhost"
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified  # Linux takes 0.0.0.0 for itself


@cache
def found(proc: Path) -> Locality:
    """What /proc says of this process."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        spaces = [os.stat(proc / "self/ns" / kind) for kind in ("net", "mnt")]
    except OSError:  # no Linux: there are no namespaces, and a machine is known by its name
        return locality_of(platform.node(), 0, 0)
    return locality_of(boot, spaces[0].st_ino, spaces[1].st_ino)


def locality_of(boot: str, network: int, files: int) -> Locality:
    """The words for namespaces of one boot, which do not tell what they are made from."""
    words = (f"{kind} {boot} {number}" for kind, number in (("net", network), ("mnt", files)))
    return Locality(*(blake2b(word.encode(), digest_size=8).hexdigest() for word in words))
