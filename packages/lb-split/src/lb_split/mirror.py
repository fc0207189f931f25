"""The feature `mirror`: a copy of some requests for another pool, whose answers nobody hears.

    before_request   a request that is chosen has a copy of its body kept
    on_response      the original has gone out and is answered: its copy is sent, in a task of its own
    on_complete      the same for a request whose body ended later, or that the backend took and never answered

The original waits for nothing. A copy is left out, and counted, where the body is too long or did not come to its end,
and while `max_in_flight` copies are under way, in all workers together. Not copied at all: what never reached a
backend, WebSockets, and what is a copy already (`X-LB-Mirror`), so that two balancers that mirror to each other do not
do it for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, WithJsonSchema, field_validator

from lb_core import AttemptError, PositiveDuration, Settings, Size, Whole, hookimpl, subrequest
from lb_core.sharing import Figures, Slots
from lb_split.sampling import Sampling

if TYPE_CHECKING:
    from lb_core import Exchange, Pool, Route

MARK = "X-LB-Mirror"
SWITCHED = 101

_NUMBER = {"type": "number", "minimum": 0, "maximum": 100}
_PERCENT = {"anyOf": [_NUMBER, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?%$", "examples": ["10%"]}]}


class MirrorSettings(Settings):
    """A copy of some requests for another pool; its answers are dropped."""

    short = "use"

    use: str
    """The name of a pool under `pools:`."""
    percent: Annotated[float, Field(ge=0, le=100), WithJsonSchema(_PERCENT)]
    """How many of a hundred requests are copied; there is no default."""
    max_body: Size = 64 * 1024
    """Requests with a longer body are not copied."""
    timeout: PositiveDuration = 3.0
    """How long a copy may take from connecting to the end of its answer."""
    max_in_flight: Annotated[Whole, Field(ge=1)] = 50
    """How many copies may be under way; beyond that requests are not copied."""

    @field_validator("percent", mode="before")
    @classmethod
    def _sign(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("write how many of a hundred: percent: 10")
        return value.strip().removesuffix("%") if isinstance(value, str) else value


class Mirror:
    """The feature `mirror` of one route. `copied`, `failed` and `skipped` count copies."""

    def __init__(self, pool: Pool, settings: MirrorSettings, route: Route | None = None) -> None:
        self._pool = pool
        self._route = route
        self._under_way: Slots | None = None
        self._figures: Figures | None = None
        self._settings = settings
        self._chosen = Sampling(settings.percent)
        self._waiting: set[Exchange] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._heir: Mirror | None = None
        self._closed = False
        self.copied = 0
        self.failed = 0
        self.skipped = {"body": 0, "in flight": 0}

    @property
    def in_flight(self) -> int:
        """How many copies are under way."""
        return len(self._tasks)

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        """Choose."""
        if self._chosen() and MARK not in exchange.headers:
            exchange.keep_body(self._settings.max_body)
            self._waiting.add(exchange)

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """The usual moment of a copy."""
        if exchange in self._waiting and (exchange.kept_body is not None or exchange.status == SWITCHED):
            self._waiting.discard(exchange)
            if exchange.status != SWITCHED:
                self._copy(exchange, exchange.kept_body)

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """The last moment."""
        if exchange not in self._waiting:
            return
        self._waiting.discard(exchange)
        unsent = exchange.error is not None and exchange.error.unsent and not exchange.first_byte
        if exchange.attempts and not unsent:
            self._copy(exchange, exchange.kept_body)

    def inherit(self, old: Mirror) -> None:
        """Go on counting; copies under way stay under way, and exchanges under way are still copied by `old`."""
        self.copied, self.failed, self.skipped = old.copied, old.failed, old.skipped
        self._tasks = old._tasks
        old._heir = self

    def start(self) -> None:
        """Count with the other workers, where there are some."""
        route = self._route
        if route is not None and route.sharing.memory is not None:
            self._under_way = Slots(route.sharing, f"mirror/in_flight/{route.name}", 1)
            self._figures = Figures(route.sharing, f"mirror/{route.name}", 4)
            if route.sharing.seat:
                self._under_way.mine[0] = len(self._tasks)
                self._write()

    def close(self) -> None:
        """Give up what is under way, unless somebody else goes on with it."""
        for slots in (self._under_way, self._figures):
            if slots is not None:
                slots.close(release=self._heir is None)
        self._under_way = self._figures = None
        if self._heir is None:
            self._closed = True
            for task in tuple(self._tasks):
                task.cancel()

    def describe(self) -> str:
        """What became of the copies."""
        own = [self.copied, self.failed, *self.skipped.values()]
        copied, failed, bodies, crowded = self._figures.totals() if self._figures is not None else own
        in_flight = self._under_way.total(0) if self._under_way is not None else self.in_flight
        return (
            f"{self._settings.percent:g} % to {self._settings.use}: {copied} copied, {failed} failed, "
            f"{in_flight} in flight; left out: {bodies} for their body, {crowded} over the cap"
        )

    def _copy(self, exchange: Exchange, body: bytes | None) -> None:
        if self._closed:
            return
        if body is None:
            self.skipped["body"] += 1
        elif not self._place():
            self.skipped["in flight"] += 1
        else:
            exchange.flag("mirrored")
            self.copied += 1
            task = asyncio.get_running_loop().create_task(self._send(subrequest.copy_of(exchange), body))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        if self._figures is not None:
            self._write()

    def _place(self) -> bool:
        """Whether fewer copies are under way than may be, in all processes; this one then is among them."""
        most, slots = self._settings.max_in_flight, self._under_way
        if slots is None:
            return len(self._tasks) < most
        slots.mine[0] = len(self._tasks) + 1
        if slots.total(0) <= most:
            return True
        slots.mine[0] = len(self._tasks)
        return False

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        mirror = self
        while mirror._heir is not None:  # who goes on with the copies of a route that was rebuilt
            mirror = mirror._heir
        if mirror._under_way is not None:
            mirror._under_way.mine[0] = len(mirror._tasks)
            mirror._write()

    def _write(self) -> None:
        """Put this process's figures where the control process reads them."""
        if self._figures is not None:
            self._figures.write((self.copied, self.failed, *self.skipped.values()))

    async def _send(self, copied: subrequest.Copied, body: bytes) -> None:
        try:
            await subrequest.send(
                self._pool,
                copied.method,
                copied.target,
                [*copied.headers, (MARK, "1")],
                body,
                timeout=self._settings.timeout,
            )
        except (AttemptError, ValueError):  # nobody waits for the answer; ValueError: an odd request a client may send
            self.failed += 1


def build(route: Route, settings: MirrorSettings) -> Mirror | None:
    """The mirror of a route; None where nothing is to be copied."""
    return Mirror(route.pools[settings.use], settings, route) if settings.percent else None
