"""This node: whether it should be sent traffic, and how much it has.

    starting    not all of its listeners accept yet
    draining    an operator has said so, or its end has begun: it still serves, but nobody should send it more
    no_worker   none of its workers is there
    ready       none of these

The readiness endpoint, `lb nodes` and the other nodes of a cluster tell it to whoever chooses among nodes. What is said
here refuses no connection.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lb_core.events import Event
from lb_core.sharing.cluster import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.events import Notify

Reason = Literal["", "starting", "draining", "no_worker"]

RATE_OVER = 5
"""Seconds over which requests are averaged."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a node carries: `requests` so far, those under way, open connections of clients, workers that are up."""

    requests: int = 0
    in_flight: int = 0
    connections: int = 0
    workers: int = 1


class Workers(Protocol):
    """The workers of this node, where it has some."""

    def figures(self) -> list[dict[str, Any]]:
        """Every worker: seat, pid, state, since, requests, in_flight, connections."""

    def restart(self) -> str:
        """Begin to restart them one after the other; returns what to tell whoever asked. Raises LbError."""

    async def decisions(self, request_id: str) -> dict[str, Any]:
        """What they have recorded of a request."""


class Node:
    """This node. `name` tells it from others; `load` says what it carries; `on_change` are called after a change.

    `version` is that of the program, `config` tells versions of the configuration apart. `run` is 16 hexadecimal digits
    that tell this run from every other; `predecessor` is the run whose place it takes in an upgrade, else empty.
    """

    def __init__(
        self,
        notify: Notify,
        load: Callable[[], Load] = Load,
        *,
        version: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = socket.gethostname()
        self.run = secrets.token_hex(8)
        self.predecessor = ""
        self.version = version
        self.config = ""
        self.since = clock()
        self.load = load
        self.workers: Workers | None = None
        self.on_change: list[Callable[[], None]] = []
        self._notify = notify
        self._clock = clock
        self._accepting = False
        self._workers = True
        self._drained = False
        self._ending = False
        self._samples: deque[tuple[float, int]] = deque(maxlen=RATE_OVER + 1)

    @property
    def reason(self) -> Reason:
        """Why no traffic should be sent to it, in a word; empty when it is ready."""
        if self._ending or self._drained:
            return "draining"
        if not self._accepting:
            return "starting"
        return "" if self._workers else "no_worker"

    @property
    def ready(self) -> bool:
        """Whether traffic should be sent to it."""
        return not self.reason

    @property
    def drained(self) -> bool:
        """Whether an operator has said that it shall not be sent traffic."""
        return self._drained

    @property
    def ending(self) -> bool:
        """Whether its end has begun."""
        return self._ending

    def opened(self) -> None:
        """All listeners accept."""
        self._change(accepting=True)

    def ends(self) -> None:
        """The end has begun."""
        self._change(ending=True)

    def has_workers(self, some: bool) -> None:
        """Whether somebody is there to serve."""
        self._change(workers=some)

    def drain(self, why: str = "") -> bool:
        """Say that it shall not be sent traffic, until `resume`; False where that is said already."""
        if self._drained:
            return False
        self._change(drained=True)
        self._notify(Event("node_draining", f"/ready says 503, connections are still accepted{_because(why)}"))
        return True

    def resume(self, why: str = "") -> bool:
        """Say that it may be sent traffic again; False where nobody had said otherwise."""
        if not self._drained:
            return False
        self._change(drained=False)
        self._notify(Event("node_resumed", f"/ready says {503 if self.reason else 200} again{_because(why)}"))
        return True

    def sample(self) -> None:
        """Note how many requests there have been; called once a second."""
        self._samples.append((self._clock(), self.load().requests))

    @property
    def requests_per_second(self) -> float:
        """Over the last seconds."""
        if len(self._samples) < 2:
            return 0.0
        (begin, before), (end, now) = self._samples[0], self._samples[-1]
        return max(now - before, 0) / (end - begin) if end > begin else 0.0

    def member(self) -> Member:
        """What there is to tell about it."""
        load = self.load()
        return Member(
            self.name,
            self.version,
            "draining" if self.reason == "draining" else "up",
            self.since,
            workers=load.workers,
            requests_per_second=round(self.requests_per_second, 1),
            in_flight=load.in_flight,
            connections=load.connections,
            config=self.config,
            own=True,
        )

    def _change(self, **facts: bool) -> None:
        before = self.reason
        for name, value in facts.items():
            setattr(self, f"_{name}", value)
        if self.reason != before:
            for hear in tuple(self.on_change):
                hear()


def _because(why: str) -> str:
    return f" ({why})" if why else ""
