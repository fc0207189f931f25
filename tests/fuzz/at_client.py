"""What a client may get: well-formed answers to its own requests, in order, or a cut that it can tell from an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.at_backend import HOP, OPTIONS
from tests.fuzz.outcome import Outcome, Seen, Violation
from tests.fuzz.reading import Fields, Malformed, Message, read_response

if TYPE_CHECKING:
    from tests.fuzz.mutate import Input

MAX_INTERIM = 16


def check_stream(given: Input, outcome: Outcome, sent: list[Message]) -> list[Violation]:
    """The client's stream: an answer for each request, in order, then at most one of ours, or a cut."""
    data, position, number = outcome.received, 0, 0
    ended = outcome.ended == "closed"
    statuses = []
    while position < len(data):
        method = sent[number].method if number < len(sent) else given.data.lstrip(b"\r\n")[:5].partition(b" ")[0]
        try:
            message = read_response(data, position, method, ended=ended)
        except Malformed as error:
            return [Violation("client-stream", f"answer {number}: {error}: {data[position : position + 300]!r}")]
        if message is None or not message.complete:
            if outcome.ended == "open" and given.end == "stay":
                return [
                    Violation("client-stream", f"answer {number} is incomplete: {data[position : position + 300]!r}")
                ]
            if number >= len(sent) and message is not None and message.status >= 400:
                break  # an error answered to a HEAD that cannot be read
            break
        if message.status == 101:
            if number >= len(sent) or not sent[number].tunnel:
                return [Violation("client-stream", f"answer {number} is a 101 that nobody asked for")]
            statuses.append(101)
            break
        position = message.end
        if message.status < 200:
            continue
        statuses.append(message.status)
        if message.status == 200:
            wrong = _own_answer(message, method, outcome.seen[number : number + 1])
            if wrong:
                return [Violation("client-answer", f"answer {number}: {wrong}")]
        number += 1
    if len(statuses) > len(sent) + 1:
        return [Violation("client-stream", f"{len(statuses)} answers to {len(sent)} requests: {statuses}")]
    if given.good and (len(statuses) != len(sent) or any(status not in (200, 101) for status in statuses)):
        return [Violation("good", f"{len(sent)} valid requests were answered {statuses}: {data[:300]!r}")]
    return []


def _own_answer(message: Message, method: bytes, seen: list[Seen]) -> str:
    if not seen:
        return "200, and the backend saw no request"
    wanted = b"" if method == b"HEAD" else seen[0].answer
    return "" if message.body == wanted else f"body {message.body[:200]!r}, expected {wanted!r}"


def check_response(given: Input, outcome: Outcome) -> list[Violation]:
    """What a backend's bytes may do: the client's stream, and what becomes of the backend's connection."""
    found = _check_answer(given, outcome) + _check_reuse(given, outcome)
    most = 1 if given.method == b"POST" else 3  # a free attempt behind a connection that had gone stale, and a retry
    if len(outcome.seen) > most:
        found.append(Violation("backend-requests", f"one {given.method.decode()} was sent {len(outcome.seen)} times"))
    return found


def _check_reuse(given: Input, outcome: Outcome) -> list[Violation]:
    """A connection is used again only when its answer ended exactly where its framing said, and all went well."""
    original = read_answer(given)
    if original is not None and original.complete and not original.broken and original.end == len(given.data):
        return []
    again = outcome.reused & {seen.connection for seen in outcome.seen}
    return [Violation("backend-reuse", f"connection {again} was used again behind a bad answer")] if again else []


def _framed(message: Message) -> bool:
    return bool(message.all(b"content-length") or message.all(b"transfer-encoding"))


def _check_answer(given: Input, outcome: Outcome) -> list[Violation]:
    method = b"GET" if given.method == b"WS" else given.method
    data, position, interim = outcome.received, 0, 0
    got: Message | None = None
    while position < len(data):
        try:
            got = read_response(data, position, method, ended=outcome.ended == "closed")
        except Malformed as error:
            return [Violation("client-stream", f"{error}: {data[position : position + 300]!r}")]
        if got is not None and (got.status < 200 or got.status == 204) and _framed(got):
            return [Violation("client-stream", f"a {got.status} with framing: {got.fields}")]
        if got is None or got.status >= 200 or got.status == 101:
            break
        position, interim, got = got.end, interim + 1, None
    if interim > MAX_INTERIM or (interim and given.http10):
        return [Violation("client-stream", f"{interim} interim responses")]
    if got is None:
        return _nothing_came(given, outcome)
    found = _compare_response(given, got, method)
    rest = data[got.end :]
    if given.pipelined and (not got.complete or (not rest and outcome.ended != "open")):
        return found  # closed behind its answer, or still at it: the further request waits in vain, and is not lost
    if outcome.after and not found:
        try:
            second = read_response(rest, 0, b"GET", ended=outcome.ended == "closed")
        except Malformed as error:
            second = None
            found.append(Violation("client-stream", f"the next answer: {error}"))
        if second is None or second.body != outcome.after or second.end != len(rest):
            found.append(Violation("client-answer", f"the next answer on the connection is {rest[:300]!r}"))
    elif got.status != 101 and got.complete and got.end != len(data):
        found.append(Violation("client-stream", f"bytes behind the answer: {data[got.end :][:300]!r}"))
    return found


def _nothing_came(given: Input, outcome: Outcome) -> list[Violation]:
    """Silence is right only while the backend may still complete its head, which then is no malformed one."""
    if given.end == "stay" and outcome.ended == "open":
        return []
    return [Violation("client-stream", f"no answer at all ({outcome.ended}): {outcome.received[:200]!r}")]


def _compare_response(given: Input, got: Message, method: bytes) -> list[Violation]:
    original = read_answer(given)
    if got.status in (502, 504) and got.complete and (original is None or original.status != got.status):
        return []
    if original is None:
        return [Violation("client-answer", f"a malformed response passed as {got.start} {got.body[:200]!r}")]
    if got.status != original.status:
        return [Violation("client-answer", f"status {original.status} became {got.status}")]
    if got.status == 101:
        return [] if given.method == b"WS" else [Violation("client-stream", "a 101 that nobody asked for")]
    found = []
    if got.complete and (not original.complete or original.broken):
        why = original.broken or "incomplete"
        found.append(Violation("client-answer", f"complete at the client, not as sent ({why}): {got.body[:200]!r}"))
    elif got.body != original.body if got.complete else not original.body.startswith(got.body):
        found.append(Violation("client-answer", f"body {original.body[:200]!r} became {got.body[:200]!r}"))
    elif not got.complete and original.complete and not original.broken and given.end != "reset":
        found.append(Violation("client-answer", f"cut, though the backend sent it whole: {got.body[:200]!r}"))
    wanted, had = _passing_back(given, original), _stripped_back(got)
    if wanted != had:
        found.append(Violation("client-answer", f"fields {had}, expected {wanted}"))
    return found


def read_answer(given: Input) -> Message | None:
    """The final response in what the backend sent, None where there is none that may be trusted."""
    method = b"GET" if given.method == b"WS" else given.method
    position = interim = 0
    try:
        while True:
            message = read_response(given.data, position, method, ended=given.end == "close")
            if message is None or message.status == 101 or message.status >= 200:
                return message
            position, interim = message.end, interim + 1
            if interim > MAX_INTERIM:
                return None
    except Malformed:
        return None


def _passing_back(given: Input, original: Message) -> Fields:
    named = set(original.tokens(b"connection")) - set(OPTIONS)
    fields = [
        (n, v) for n, v in original.fields if n not in HOP and n not in named and n not in (b"content-length", b"")
    ]
    if given.variant == "plugins":
        fields = [(name, value) for name, value in fields if name != b"x-plugin"] + [(b"x-plugin", b"response")]
    return fields


def _stripped_back(got: Message) -> Fields:
    return [(n, v) for n, v in got.fields if n not in HOP and n != b"content-length"]
