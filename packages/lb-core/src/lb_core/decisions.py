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
from collections.abc import Sequence
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
LONGEST_ID = 128
SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.05
PAUSES = 300
"""How many times as long as a recording took nothing ordinary is recorded by that route."""

_RECORD = object()

Candidates = tuple["Backend", ...]


class Decision:
    """One choice of a backend, or that there was none. Times are seconds of `time.monotonic`."""

    __slots__ = (
        "at",
        "attempt",
        "choice",
        "client",
        "duration",
        "error",
        "flags",
        "host",
        "in_flight",
        "method",
        "names",
        "notes",
        "others",
        "pool",
        "request_id",
        "route",
        "scores",
        "started",
        "states",
        "status",
        "target",
        "who",
        "why",
    )

    def __init__(self, exchange: Exchange, attempt: int) -> None:
        self.at = monotonic()
        self.started = exchange.started
        self.attempt = attempt
        self.request_id = exchange.raw_request_id[:LONGEST_ID]
        self.client = exchange.client
        self.method = exchange.raw_method
        self.host = exchange.raw_host
        self.target = exchange.raw_target[:LONGEST_TARGET]
        self.route = exchange.route.name
        self.pool = exchange.pool.name
        self.names: tuple[str, ...] = ()
        self.in_flight: tuple[int, ...] = ()
        self.scores: tuple[float, ...] = ()
        self.states: tuple[str, ...] = ()
        self.others = 0
        self.who = self.choice = self.why = self.error = ""
        self.notes: tuple[str, ...] = ()
        self.status = 0
        self.duration = 0.0
        self.flags: tuple[str, ...] = ()

    def survey(self, candidates: Candidates, chosen: Backend | None = None) -> None:
        """Note whom there is to choose from, and how busy each is."""
        shown = candidates
        if len(candidates) > LARGEST:
            shown = candidates[:LARGEST]
            if chosen is not None and chosen not in shown:
                shown = (*shown[:-1], chosen)
        self.others = len(candidates) - len(shown)
        self.names = tuple([backend.name for backend in shown])
        self.in_flight = tuple([backend.in_flight for backend in shown])

    def as_data(self, now: float, wall: float) -> dict[str, Any]:
        """Plain data, for JSON; `now` and `wall` are the same moment by both clocks."""
        scores = self.scores or (None,) * len(self.names)
        states = self.states or ("",) * len(self.names)
        counts = self.in_flight or (0,) * len(self.names)
        return {
            "time": wall - (now - self.at),
            "begun": wall - (now - self.started),
            "request_id": _text(self.request_id),
            "client": self.client,
            "method": _text(self.method),
            "host": _text(self.host),
            "target": _text(self.target),
            "route": self.route,
            "pool": self.pool,
            "attempt": self.attempt,
            "candidates": [
                {"name": name, "in_flight": count, "score": score, "state": state}
                for name, count, score, state in zip(self.names, counts, scores, states, strict=True)
            ],
            "other_candidates": self.others,
            "who": self.who,
            "choice": self.choice,
            "why": "; ".join((self.why, *self.notes)) if self.why else "; ".join(self.notes),
            "error": self.error,
            "status": self.status,
            "duration": self.duration,
            "flags": list(self.flags),
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
        wanted = request_id.encode("latin-1", "replace")[:LONGEST_ID]
        now, wall = monotonic(), time.time()
        return [each.as_data(now, wall) for each in self._ring if each.request_id == wanted]

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
            for name, select, part in route.choosers:
                chosen = select(exchange, candidates)
                if chosen is not None:
                    record.who = name
                    self._reason(record, exchange, candidates, chosen, part)
                    break
        except Exception as error:
            record.who, record.why = name, f"it failed: {error!r}"
            raise
        finally:
            _take_notes(record, exchange)
            took = monotonic() - record.at
            route.due = record.at + took + min(max(SHORTEST_PAUSE, took * PAUSES), LONGEST_PAUSE)
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
            left = route.pool if exchange.pool is route.diverted else exchange.pool
            exchange.note(f"nobody may be chosen in {left.name}: {pool.name} serves")

    def nobody(self, exchange: Exchange, why: str) -> None:
        """There is no candidate."""
        record = self._add(exchange, exchange.attempts + 1)
        record.who, record.why = "nobody", why
        shown = exchange.pool.backends[:LARGEST]
        record.names = tuple(backend.name for backend in shown)
        record.states = tuple(_state(backend) for backend in shown)
        record.others = len(exchange.pool.backends) - len(shown)
        _take_notes(record, exchange)

    def answered(self, exchange: Exchange) -> None:
        """A plugin answered before a backend was chosen."""
        record = self._add(exchange, 0)
        record.who, record.why = "before_request", "a plugin answered before a backend was chosen"

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """The attempt under way failed; another that follows is recorded too."""
        self.made(exchange).error = str(error) or type(error).__name__
        exchange.route.due = 0.0

    def made(self, exchange: Exchange) -> Decision:
        """The record of the attempt under way; without who and why where the choice was not recorded."""
        record = self._of(exchange)
        if record is None or record.attempt != exchange.attempts:
            record = self._add(exchange, exchange.attempts)
            record.choice = exchange.backend.name if exchange.backend is not None else ""
            record.survey(exchange.pool.candidates, exchange.backend)
        _take_notes(record, exchange)
        return record

    def end(self, exchange: Exchange) -> None:
        """The exchange is over: its last record gets the outcome."""
        record = self._of(exchange)
        if record is not None:
            record.status, record.duration, record.flags = exchange.status, exchange.duration, exchange.flags

    def _add(self, exchange: Exchange, attempt: int) -> Decision:
        record = exchange.state[_RECORD] = Decision(exchange, attempt)
        self._ring.append(record)
        exchange.recorded()
        return record

    @staticmethod
    def _of(exchange: Exchange) -> Decision | None:
        record: Decision | None = exchange.state.get(_RECORD)
        return record

    def _current(self, exchange: Exchange, candidates: Candidates) -> Decision:
        """The record of the choice just made; a new one where it was not recorded."""
        record = self._of(exchange)
        if record is None or record.attempt != exchange.attempts + 1 or record.who == "queue":
            record = self._add(exchange, exchange.attempts + 1)
            record.survey(candidates)
            _take_notes(record, exchange)
        return record

    @staticmethod
    def _reason(record: Decision, exchange: Exchange, candidates: Candidates, chosen: Any, part: Any) -> None:
        """Who was chosen and why; what a plugin's own account raises is no reason to fail the request."""
        record.choice = str(getattr(chosen, "name", chosen))
        if record.others and chosen not in candidates[:LARGEST]:
            record.survey(candidates, chosen)
        try:
            if hasattr(part, "why"):
                record.why = str(part.why(exchange, candidates, chosen))
            if hasattr(part, "scores") and not record.others:
                record.scores = _numbers(part.scores(candidates), len(candidates))
        except Exception as error:
            exchange.route.contain(error, "why or scores")


def _take_notes(record: Decision, exchange: Exchange) -> None:
    notes = exchange.state.pop(NOTES, None)
    if notes:
        record.notes = (*record.notes, *notes)


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
