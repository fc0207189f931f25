"""What the control process and a worker say to each other over their link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lb_core.events import Event
    from lb_core.listening import Address
    from lb_core.sharing import Note
    from lb_core.sharing.memory import Place


# to a worker


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: who it is, and everything it needs to serve; its sockets follow."""

    seat: int
    seats: tuple[int, ...]
    config: bytes
    areas: Mapping[str, Place]
    counters: str
    generation: int
    clustered: bool


@dataclass(frozen=True, slots=True)
class Apply:
    """Another configuration, the areas of memory that it needs, and which of them its counters stand in."""

    config: bytes
    areas: Mapping[str, Place]
    counters: str
    generation: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Accept on these sockets of an address and on no others; the descriptors are those of `new`.

    A key has a socket for each family, so `new` names each key once for each of its descriptors.
    """

    address: Address
    keys: tuple[int, ...]
    new: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hear:
    """A note of the shared state."""

    note: Note


@dataclass(frozen=True, slots=True)
class Seats:
    """Which seats are in use."""

    seats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """Stop accepting, drain for at most so many seconds, end.

    `last`: the sockets close for good, so the connections that wait in them are taken too; but at the addresses in
    `kept` they live on in another process.
    """

    grace: float
    last: bool
    kept: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Hurry:
    """Cut what is left."""


@dataclass(frozen=True, slots=True)
class ReopenLogs:
    """Open the log files by their names again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question; the answer has its number."""

    number: int
    what: str
    argument: str


# to the control process


@dataclass(frozen=True, slots=True)
class Accepts:
    """Its plugins have started, and it accepts on the sockets it has been given."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The configuration of this generation is in force."""

    generation: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A configuration could not be applied, or the start failed."""

    generation: int
    error: str


@dataclass(frozen=True, slots=True)
class Told:
    """Something has happened."""

    event: Event


@dataclass(frozen=True, slots=True)
class Answer:
    """To the question of that number."""

    number: int
    value: Any
