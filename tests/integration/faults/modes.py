"""What a backend can do wrong, and what must come of it: a row a fault, a column a method and a number of backends.

An outcome is the status that the client gets, or CUT where its connection must break off so that it can tell. `times`
is how often the faulty backend may be sent the request: a GET that was reset once is tried again, a POST never is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.backends import CLOSE, RESET, Steps, bytewise
from tests.support.wire import response

CUT = 0
"""The outcome of a request whose answer breaks off."""

REFUSES = "refuses connections"
SILENT = "neither accepts nor refuses connections"

CONNECT, HEADER, IDLE = 0.6, 0.4, 0.4
TIMEOUTS = {"connect": f"{CONNECT}s", "response_header": f"{HEADER}s", "idle": f"{IDLE}s"}

AT_ONCE = 0.0, 0.2
NEVER: Steps = (20.0,)

WHOLE = response(b"x" * 1000)
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
SLOW_HEAD: Steps = [part for at in range(0, 40, 4) for part in (WHOLE[at : at + 4], 0.025)]


@dataclass(frozen=True)
class Outcome:
    """What a client gets, how often the faulty backend sees the request, and the last word in the access log."""

    status: int
    times: int = 1
    flag: str = ""


@dataclass(frozen=True)
class Fault:
    """A row. `alone` and `of_two` are the outcomes of a GET and of a POST; `takes` bounds the seconds."""

    name: str
    does: Steps | str
    alone: tuple[Outcome, Outcome]
    of_two: tuple[Outcome, Outcome]
    takes: tuple[float, float] = AT_ONCE
    lets_go: bool = True
    """Whether the faulty backend's connection must be closed afterwards."""
    options: dict[str, Any] = field(default_factory=dict)


def _same(outcome: Outcome) -> tuple[Outcome, Outcome]:
    return outcome, outcome


def _always(name: str, does: Steps, outcome: Outcome, takes: tuple[float, float] = AT_ONCE, **more: Any) -> Fault:
    """A fault that neither method nor number of backends makes a difference to."""
    return Fault(name, does, _same(outcome), _same(outcome), takes, **more)


def _dies(name: str, does: Steps) -> Fault:
    """A connection that ends without an answer: a GET is sent once more, a POST is never sent again."""
    post = Outcome(502, 1, "reset")
    return Fault(name, does, (Outcome(502, 2, "reset"), post), (Outcome(200, 1, "retried"), post))


def _after(seconds: float) -> tuple[float, float]:
    return seconds, seconds + 0.2


_INVALID = Outcome(502, 1, "invalid_response")
_BROKEN = Outcome(CUT, 1, "reset")
_STALLED = Outcome(CUT, 1, "read_timeout")


def _cuts(name: str, start: bytes, ends: Sequence[Any] = (CLOSE, RESET)) -> list[Fault]:
    return [
        _always(f"{'closes' if end is CLOSE else 'resets'} within a body {name}", (start, 0.05, end), _BROKEN)
        for end in ends
    ]


FAULTS = [
    Fault(
        "refuses connections",
        REFUSES,
        _same(Outcome(502, 0, "connect_failed")),
        _same(Outcome(200, 0, "retried")),
    ),
    Fault(
        "queue of connections full",
        SILENT,
        _same(Outcome(504, 0, "connect_timeout")),
        _same(Outcome(200, 0, "retried")),
        _after(CONNECT),
    ),
    _dies("resets after the request", (RESET,)),
    _dies("closes after the request", (CLOSE,)),
    _always("never answers", NEVER, Outcome(504, 1, "header_timeout"), _after(HEADER)),
    *_cuts("with a length", LENGTH + b"part"),
    *_cuts("in chunks, between two", CHUNKED + b"4\r\npart\r\n"),
    *_cuts("in chunks, within one", CHUNKED + b"8\r\npart"),
    *_cuts("in chunks, before the last line", CHUNKED + b"4\r\npart\r\n0\r\n"),
    *_cuts("until the end", UNTIL_CLOSE + b"part", (RESET,)),
    _always("malformed chunk", (CHUNKED + b"4\r\npart\r\nxyz\r\n", *NEVER), _BROKEN),
    _always("stalls within a body with a length", (LENGTH + b"part", *NEVER), _STALLED, _after(IDLE)),
    _always("stalls within a chunk", (CHUNKED + b"8\r\npart", *NEVER), _STALLED, _after(IDLE)),
    _always("stalls within a body until the end", (UNTIL_CLOSE + b"part", *NEVER), _STALLED, _after(IDLE)),
    _always("head byte by byte", [*bytewise(WHOLE[:60]), WHOLE[60:]], Outcome(200), lets_go=False),
    _always("slow head", [*SLOW_HEAD, WHOLE[40:]], Outcome(200), (0.25, 0.4), lets_go=False),
    _always("half a head, then closes", (LENGTH[:20], 0.02, CLOSE), _INVALID),
    _always("half a head, then resets", (LENGTH[:20], 0.02, RESET), _INVALID),
    _always("half a head, then nothing", (LENGTH[:20], *NEVER), Outcome(504, 1, "header_timeout"), _after(HEADER)),
    _always("head of 2 MB", (LENGTH[:-2] + b"X-Long: " + b"x" * (2 << 20) + b"\r\n\r\n",), _INVALID, (0.0, 0.5)),
    _always("2 MB of fields", (LENGTH[:-2] + b"X-Many: x\r\n" * (200 << 10),), _INVALID, (0.0, 0.5)),
    _always("another protocol", (b"SSH-2.0-OpenSSH_9.2p1\r\n", *NEVER), _INVALID),
    _always("bytes without a line", (b"\x15\x03\x01\x00\x02\x02\x16", *NEVER), _INVALID),
    _always("endless interim responses", (b"HTTP/1.1 102 Processing\r\n\r\n" * 100, *NEVER), _INVALID),
    _always("switches protocols unasked", (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", *NEVER), _INVALID),
    _always("a byte too many", (WHOLE + b"x",), Outcome(200)),
    _always("answers twice", (WHOLE + WHOLE,), Outcome(200)),
]
