"""A simulated exchange: a real one whose times are simulated, with what the engine knows beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.exchange import Exchange
from lb_core.testing.fakes import Connection

if TYPE_CHECKING:
    from lb_core.testing.arrivals import Request
    from lb_core.testing.flow import Flow

_CLIENT = Connection()
_HOST = b"example.com"


class SimulatedExchange(Exchange):
    """A request of a simulation; `work` is what it asks of a backend, `unusual` holds the flags of the retry rules."""

    __slots__ = ("flow", "trying", "unusual", "work")

    payload = b""
    """The request is always kept, so that it may be sent again."""

    def __init__(self, flow: Flow, request: Request) -> None:
        _, work, client, target, method = request
        super().__init__(flow.route, _CLIENT, client, method, target, _HOST, b"")
        self.started = flow.agenda.now
        self.flow = flow
        self.work = work
        self.unusual = 0
        self.trying = False

    @property
    def elapsed(self) -> float:
        """Simulated seconds since it came."""
        return self.flow.agenda.now - self.started

    def take_turn(self) -> None:
        """The queue's turn has come."""
        self.flow.take_turn(self)
