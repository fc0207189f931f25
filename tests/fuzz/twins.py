"""The fast path and the general path must agree: an input's twin is the same message with one more field that takes
it to the general path and never passes.

Requests get `Connection: keep-alive, x-none`, which names a field that is not there; responses get `Keep-Alive: x`.
"""

from __future__ import annotations

from dataclasses import replace

from tests.fuzz.mutate import REQUEST, Input
from tests.fuzz.outcome import Outcome, Violation
from tests.fuzz.reading import Fields, Malformed, read_request, read_response

EVERY = 3
"""Of so many inputs one has a twin."""
REQUEST_FIELD = b"Connection: keep-alive, x-none\r\n"
RESPONSE_FIELD = b"Keep-Alive: x\r\n"
_LIMITED = 700
"""An input near a limit would cross it with one more field."""


def twin_of(given: Input) -> Input | None:
    """The input with the additional field, where that leaves its meaning as it was; else None."""
    data = given.data
    if given.index % EVERY or given.end != "stay" or len(data) > _LIMITED or data.count(b"\n") > 15:
        return None
    lead = len(data) - len(data.lstrip(b"\r\n"))
    line = data.find(b"\r\n", lead)
    if line < 0 or data[line + 2 : line + 3] in (b" ", b"\t") or b"\n" in data[lead:line] or b"\r\n\r\n" not in data:
        return None
    if given.direction == REQUEST:
        if b"HTTP/1.0" in data:  # there the field would keep the connection
            return None
        added = REQUEST_FIELD
    elif b"\nconnection" in data.lower() or given.method == b"WS" or data.startswith(b"HTTP/1.1 1"):
        return None
    else:
        added = RESPONSE_FIELD
    at = line + 2
    cuts = tuple(cut if cut <= at else cut + len(added) for cut in given.cuts)
    return replace(given, data=data[:at] + added + data[at:], cuts=cuts, good=False)


def compare(given: Input, outcome: Outcome, other: Outcome) -> list[Violation]:
    """What the two paths disagree about."""
    mine, theirs = _verdict(given, outcome), _verdict(given, other)
    return [] if mine == theirs else [Violation("twin", f"{mine}, on the general path {theirs}")]


def _verdict(given: Input, outcome: Outcome) -> tuple[object, ...]:
    """What the backend saw and how the client was answered, without what differs from request to request."""
    seen = [(each.message.start, _steady(each.message.fields), each.message.body) for each in outcome.seen]
    return seen, _answers(given, outcome), outcome.ended


def _answers(given: Input, outcome: Outcome) -> list[tuple[int, bytes, bytes]]:
    answers: list[tuple[int, bytes, bytes]] = []
    position = number = 0
    methods = _methods(given)
    while True:
        method = methods[number] if number < len(methods) else b"GET"
        try:
            message = read_response(outcome.received, position, method, ended=outcome.ended == "closed")
        except Malformed:
            return answers
        if message is None or message.end <= position:
            return answers
        body = message.body if message.status < 400 else b""
        if body.startswith(b"for the sentinel"):
            body = b"for the sentinel"
        answers.append((message.status, b"complete" if message.complete else b"cut", body))
        position = message.end
        number += message.status >= 200


def _methods(given: Input) -> list[bytes]:
    if given.direction != REQUEST:
        return [given.method]
    methods, position = [], 0
    try:
        while (message := read_request(given.data, position)) is not None and message.complete:
            methods.append(message.method)
            position = message.end
    except Malformed:
        pass
    return methods


def _steady(fields: Fields) -> Fields:
    """Fields but those that differ by design: our number, and Connection, which may stay."""
    return [(name, value) for name, value in fields if name not in (b"x-request-id", b"connection")]
