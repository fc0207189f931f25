"""The decision record: the last choices of backends, each with whom there was to choose from, who chose, and why.

What is unusual is always recorded: a further attempt, a backend that was full, a wait in the queue, nobody to choose,
another pool, and whatever a plugin has noted (`Exchange.note`). So is every request that brings an X-Request-Id of its
own. Of the ordinary ones a route records one whenever `Route.due` has passed, which is about a millisecond after the
last: recording may take a three-hundredth of the time.

A record holds names and numbers; exchanges, heads and backends are not kept alive by it. The strategies and features of
a route may offer two plain methods, which are called for what is recorded only:

    scores(candidates)                 a number for each, the better the lower, by which the choice was made
    why(exchange, candidates, backend) a sentence about the choice just made
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from lb_core.exchange import NOTES

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.engine.forwarding import Forwarding as Exchange
    from lb_core.pool import Pool

KEPT = 1000
LARGEST = 32
"""Candidates of which a record holds name and numbers; the chosen one is always among them."""
LONGEST_TARGET = 256
"""Bytes of a target that are kept."""
RECORDED = 1
"""The flag of an exchange that a record is about, and that must tell how it ends."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.25
PAUSES = 300
"""How many times as long as a recording took nothing ordinary is recorded by that route."""


Candidates = tuple["Backend", ...]
Why = Callable[[Any, Any, Any], Any]
Scores = Callable[[Any], Any]
Chooser = tuple[str, Callable[[Any, Any], Any], Why | None, Scores | None]
"""Who takes part in a choice: the name of the plugin, its `select_backend`, and what it may offer beside that."""


class Decision:
    """One choice of a backend, or that there was none. Times are seconds of `time.monotonic`.

    `asked` is what is known of the request: id, client, method, host, target, route, pool; `outcome` its status,
    duration and flags once it is over; `more` what few choices have: error, notes, scores, states, others.
    """

    __slots__ = ("asked", "at", "attempt", "choice", "in_flight", "more", "names", "outcome", "started", "who", "why")

    in_flight: Sequence[int]
    names: Sequence[str]
    asked: tuple[bytes, str, bytes, bytes, bytes, str, str]
    outcome: tuple[int, float, Sequence[str]] | None
    more: dict[str, Any] | None

    def __init__(self, exchange: Exchange, attempt: int) -> None:
        self.at = monotonic()
        self.started = exchange.started
        self.attempt = attempt
        request = exchange.request
        self.asked = (
            exchange.raw_request_id,
            exchange.client,
            request[0],
            exchange.raw_host,
            request[1] if len(request[1]) <= LONGEST_TARGET else request[1][:LONGEST_TARGET],
            exchange.route.name,
            exchange.pool.name,
        )
        self.names = self.in_flight = ()
        self.who = self.choice = self.why = ""
        self.more = self.outcome = None

    def add(self, name: str, value: object) -> None:
        """Note what few choices have."""
        if self.more is None:
            self.more = {}
        self.more[name] = value

    def survey(self, candidates: Candidates, chosen: Backend | None = None) -> None:
        """Note whom there is to choose from, and how busy each is."""
        shown = candidates
        if len(candidates) > LARGEST:
            shown = candidates[:LARGEST]
            if chosen is not None and chosen not in shown:
                shown = (*shown[:-1], chosen)
            self.add("others", len(candidates) - LARGEST)
        self.names = [backend.name for backend in shown]
        self.in_flight = [backend.in_flight for backend in shown]

    def show(self, pool: Pool) -> None:
        """Note why nobody in a pool is a candidate."""
        shown = pool.backends[:LARGEST]
        self.names = [backend.name for backend in shown]
        self.in_flight = [backend.in_flight for backend in shown]
        self.add("states", [_state(backend) for backend in shown])
        self.add("others", len(pool.backends) - len(shown))

    def as_data(self, now: float, wall: float) -> dict[str, Any]:
        """Plain data, for JSON; `now` and `wall` are the same moment by both clocks."""
        more = self.more or {}
        none = (None,) * len(self.names)
        request_id, client, method, host, target, route, pool = self.asked
        status, duration, flags = self.outcome or (0, 0.0, ())
        return {
            "time": wall - (now - self.at),
            "begun": wall - (now - self.started),
            "request_id": _text(request_id),
            "client": client,
            "method": _text(method),
            "host": _text(host),
            "target": _text(target),
            "route": route,
            "pool": more.get("pool", pool),
            "attempt": self.attempt,
            "candidates": [
                {"name": name, "in_flight": count, "score": score, "state": state}
                for name, count, score, state in zip(
                    self.names, self.in_flight, more.get("scores", none), more.get("states", none), strict=True
                )
            ],
            "other_candidates": more.get("others", 0),
            "who": self.who,
            "choice": self.choice,
            "why": "; ".join(filter(None, (self.why, *more.get("notes", ())))),
            "error": more.get("error", ""),
            "status": status,
            "duration": duration,
            "flags": list(flags),
        }


class Decisions:
    """The last decisions of one balancer, oldest first."""

    def __init__(self, kept: int = KEPT) -> None:
        self.since = monotonic()
        self._ring: deque[Decision] = deque(maxlen=kept)

    def __len__(self) -> int:
        return len(self._ring)

    def find(self, request_id: str) -> list[dict[str, Any]]:
        """The decisions about a request, as plain data and in order."""
        wanted = request_id.encode("latin-1", "replace")
        now, wall = monotonic(), time.time()
        return [each.as_data(now, wall) for each in self._ring if each.asked[0] == wanted]

    @property
    def reach(self) -> float:
        """For how many seconds back everything recorded is still here."""
        full = len(self._ring) == self._ring.maxlen
        return monotonic() - (self._ring[0].at if full else self.since)

    def choose(self, exchange: Exchange, candidates: Candidates) -> Any:
        """Let the route's plugins choose, as its chain does, and record it; raises what a plugin raises."""
        route = exchange.route
        record = self._add(exchange, exchange.attempts + 1)
        record.survey(candidates)
        chosen: Any = None
        try:
            for name, select, why, scores in route.choosers:
                chosen = select(exchange, candidates)
                if chosen is not None:
                    record.who = name
                    record.choice = getattr(chosen, "name", "")
                    if record.more is not None or why is not None or scores is not None:
                        _account(record, exchange, candidates, chosen, why, scores)
                    break
        except Exception as error:
            record.who, record.why = name, f"it failed: {error!r}"
            raise
        finally:
            if exchange._state is not None:
                _take_notes(record, exchange)
            now = monotonic()
            pause = (now - record.at) * PAUSES
            if pause > SHORTEST_PAUSE:
                route.due = now + (pause if pause < LONGEST_PAUSE else LONGEST_PAUSE)
            else:
                route.due = now + SHORTEST_PAUSE
        return chosen

    def room(self, exchange: Exchange, candidates: Candidates, full: Backend, room: Backend) -> None:
        """The chosen backend is full, and the least busy one with room takes its place."""
        record = self._current(exchange, candidates)
        by = f", chosen by {record.who}," if record.who else ", which was chosen,"
        record.who, record.choice = "room", room.name
        record.why = f"{full.name}{by} is full ({full.in_flight} of {full.limit}): the least busy one with room"

    def waits(self, exchange: Exchange, why: str) -> None:
        """Nobody can take it now: it waits, or is refused, for the reason given."""
        record = self._current(exchange, exchange.pool.candidates)
        record.who, record.choice, record.why = "queue", "", why
        if not record.names:
            record.show(exchange.pool)

    def turn(self, exchange: Exchange) -> None:
        """It has waited, and chooses again."""
        exchange.route.due = 0.0
        exchange.note(f"waited {(monotonic() - exchange.started) * 1000:.0f} ms in the queue")

    def moves(self, exchange: Exchange, pool: Pool) -> None:
        """Its pool has nobody for it, and another serves; or the pool of its route after all, behind a gate."""
        route = exchange.route
        exchange.route.due = 0.0
        if pool is route.pool and route.gate is not None:
            exchange.note(f"{route.gate.word}: let through as a probe")
        else:
            exchange.note(f"nobody may be chosen in {_left(exchange).name}: {pool.name} serves")

    def nobody(self, exchange: Exchange, why: str) -> None:
        """There is no candidate."""
        record = self._add(exchange, exchange.attempts + 1)
        pool = _left(exchange)
        record.who, record.why = "nobody", why
        record.show(pool)
        record.add("pool", pool.name)
        _take_notes(record, exchange)

    def answered(self, exchange: Exchange) -> None:
        """A plugin answered before a backend was chosen."""
        record = self._add(exchange, 0)
        record.who, record.why = "before_request", "a plugin answered before a backend was chosen"

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """The attempt under way failed; another that follows is recorded too."""
        self.made(exchange).add("error", str(error) or type(error).__name__)
        exchange.route.due = 0.0

    def made(self, exchange: Exchange) -> Decision:
        """The record of the attempt under way; without who and why where the choice was not recorded."""
        record = exchange.decision
        if record is None or record.attempt != exchange.attempts:
            record = self._add(exchange, exchange.attempts)
            record.choice = exchange.backend.name if exchange.backend is not None else ""
            record.survey(exchange.pool.candidates, exchange.backend)
        _take_notes(record, exchange)
        return record

    def end(self, exchange: Exchange) -> None:
        """The exchange is over: its last record gets the outcome."""
        if exchange.decision is not None:
            exchange.decision.outcome = (exchange.status, exchange.ended - exchange.started, exchange.flags)

    def _add(self, exchange: Exchange, attempt: int) -> Decision:
        record = exchange.decision = Decision(exchange, attempt)
        exchange.unusual |= RECORDED
        self._ring.append(record)
        return record

    def _current(self, exchange: Exchange, candidates: Candidates) -> Decision:
        """The record of the choice just made; a new one where it was not recorded."""
        record = exchange.decision
        if record is None or record.attempt != exchange.attempts + 1 or record.who == "queue":
            record = self._add(exchange, exchange.attempts + 1)
            record.survey(candidates)
            _take_notes(record, exchange)
        return record


def _account(
    record: Decision, exchange: Exchange, candidates: Candidates, chosen: Any, why: Why | None, scores: Scores | None
) -> None:
    """What whoever chose says of it; what that raises is no reason to fail the request."""
    others = len(candidates) > LARGEST
    if others and chosen not in candidates[:LARGEST]:
        record.survey(candidates, chosen)
    try:
        if why is not None:
            record.why = str(why(exchange, candidates, chosen))
        if scores is not None and not others:
            record.add("scores", _numbers(scores(candidates), len(candidates)))
    except Exception as error:
        exchange.route.contain(error, "why or scores")


def _left(exchange: Exchange) -> Pool:
    """The pool that has nobody for it: its route's own, where that is closed to it."""
    route = exchange.route
    return route.pool if exchange.pool is route.diverted else exchange.pool


def _take_notes(record: Decision, exchange: Exchange) -> None:
    notes = exchange.state.pop(NOTES, None)
    if notes:
        record.add("notes", (*(record.more or {}).get("notes", ()), *notes))


def _numbers(scores: Sequence[float], count: int) -> tuple[float, ...]:
    found = tuple(map(float, scores))
    if len(found) != count:
        raise ValueError(f"{len(found)} scores for {count} candidates")
    return found


def _state(backend: Backend) -> str:
    return f"{backend.state}: {backend.reason}" if backend.reason else backend.state


def _text(data: bytes) -> str:
    """Text for a person's terminal: signs beyond ASCII, which may be control characters there, are spelt out."""
    return data.decode("ascii", "backslashreplace")
