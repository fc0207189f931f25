"""What carries a node's traffic, as the server drives it: listeners of its own, or a crew of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection

    from lb_core.listening import Address
    from lb_core.node import Load


class Traffic(Protocol):
    """What carries the traffic: this process, or its workers."""

    @property
    def urls(self) -> list[str]:
        """Where it can be reached from this machine."""

    @property
    def load(self) -> Load:
        """What it carries now."""

    @property
    def sockets(self) -> dict[Address, list[socket.socket]]:
        """Its listening sockets by address, for a successor."""

    @property
    def matched(self) -> bool:
        """Whether its listeners are those of the configuration."""

    def open(self) -> None:
        """Open the sockets; raises StartError."""

    async def start(self) -> None:
        """Accept connections; raises StartError."""

    async def match(self) -> None:
        """Have the listeners of the configuration that was applied."""

    def hand_over(self, addresses: Collection[Address]) -> None:
        """Stop accepting at these addresses, whose sockets live on in another process."""

    async def drain(self) -> None:
        """Stop accepting, and wait until what is under way has ended."""

    def hurry(self) -> None:
        """End what drains, now."""

    def close(self) -> None:
        """Let go of what is left."""
