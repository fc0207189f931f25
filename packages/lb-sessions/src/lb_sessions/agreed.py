"""One secret for all processes and nodes that serve a route, where the configuration gives none.

    a worker        reads the file as the control process does; where there is none, it asks for the secret
    another node    has a file of its own at first. The older of two secrets is used by all from then on, and kept

So it travels between the processes of a node, and in a cluster through Redis too. Who must not let it pass there writes
`secret:` into the configuration; then nothing is sent.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from lb_sessions.secret import LARGEST, SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lb_core import Route
    from lb_core.sharing import Channel
    from lb_sessions.secret import Secret

log = logging.getLogger("lb.sessions")


class Agreed:
    """The secret of one route as all who share the route have it; `changed` is called after it became another."""

    def __init__(self, route: Route, secret: Secret, changed: Callable[[], None]) -> None:
        self._route = route.name
        self._sharing = route.sharing
        self._secret = secret
        self._changed = changed
        self._channel: Channel | None = None

    def enter(self) -> None:
        """Take part."""
        topic = f"sticky_sessions/{self._route}"
        self._channel = self._sharing.channel(topic, self._receive, snapshot=self._state)
        if self._sharing.seat:
            if not self._secret.existing():
                self._channel.send({"ask": True})
        elif _in_a_loop():
            self.tell()

    def leave(self) -> None:
        """Take part no longer."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def tell(self) -> None:
        """Tell the others the secret, made where there was none; only the control process does."""
        if self._channel is not None and not self._sharing.seat:
            self._channel.send(self._message(self._secret.made()))

    def _message(self, secret: bytes) -> dict[str, Any]:
        return {"secret": secret.hex(), "since": self._secret.since}

    def _state(self) -> Iterator[dict[str, Any]]:
        found = self._secret.existing()
        if found:
            yield self._message(found)

    def _receive(self, message: Mapping[str, Any]) -> None:
        controls = not self._sharing.seat
        if "secret" not in message:
            if controls:
                asyncio.get_running_loop().call_soon(self.tell)  # while a message is applied nothing is sent
            return
        other, since = bytes.fromhex(str(message["secret"])), float(message["since"])
        if not SIZE <= len(other) <= LARGEST:
            return
        before = self._secret.existing()
        if self._secret.yields_to(other, since):
            self._secret.adopt(other, since, keep=controls)
            self._changed()
            if before and controls:
                log.warning(
                    "route %r: another node's secret for sticky cookies is older and used from now on: clients whose "
                    "cookies are of this node are moved once; write the same secret in sticky_sessions on all nodes "
                    "to choose it yourself",
                    self._route,
                )
        elif other != before and controls:
            asyncio.get_running_loop().call_soon(self.tell)


def _in_a_loop() -> bool:
    """Whether this process serves; one that only checks a configuration makes no secret."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
