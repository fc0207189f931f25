"""What must be true whatever was sent: pure comparisons of an outcome with an independent reading of the input.

The balancer may refuse more than the reading does; what it passes on must be what the reading says, whole:

    backend-malformed   the backend sees well-formed requests only
    backend-requests    those the client sent, in order, none twice, none besides
    backend-fields      the client's fields without those of the hop, plus ours, exactly once
    backend-body        the client's body
    client-stream       well-formed responses to the requests, in order, or a cut
    client-answer       each with the body its own request was answered with
    sentinel            another client of the same pool gets its own answer
    hang                nothing stays behind
    good                a valid request is answered
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.fuzz.lanes import Outcome, Seen
from tests.fuzz.mutate import REQUEST, Input
from tests.fuzz.reading import Fields, Malformed, Message, read_request, read_response

HOP = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings forwarded".split()
)
_OURS = re.compile(rb"x-(forwarded-.*|real-ip|request-id)").fullmatch
_SHADOWED = re.compile(rb"(content|transfer|proxy)-(length|encoding|connection)").fullmatch
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*)(.*)", re.DOTALL).fullmatch
_REQUEST_ID = re.compile(rb"[!-~]{1,200}").fullmatch
OPTIONS = (b"close", b"keep-alive", b"upgrade")
MAX_INTERIM = 16


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and how."""

    invariant: str
    detail: str


def check(given: Input, outcome: Outcome, backend_port: int) -> list[Violation]:
    """Every invariant that this outcome breaks."""
    found = [Violation("backend-malformed", each) for each in outcome.malformed]
    found += [Violation("hang", each) for each in outcome.hangs]
    found += [Violation("sentinel", each) for each in outcome.sentinel]
    if given.direction == REQUEST:
        sent = read_requests(given.data, outcome)
        found += _check_backend(given, outcome, sent, backend_port)
        found += _check_stream(given, outcome, sent)
    else:
        found += _check_response(given, outcome)
    return found


def read_requests(data: bytes, outcome: Outcome) -> list[Message]:
    """The requests in what a client sent, up to where nobody may read on; the last may be incomplete."""
    requests: list[Message] = []
    position = 0
    try:
        while position < len(data):
            message = read_request(data, position)
            if message is None:
                break
            requests.append(message)
            if not message.complete or message.broken:
                break
            position = message.end
            seen = outcome.seen[len(requests) - 1 : len(requests)]
            if message.tunnel and seen and seen[0].message.tunnel and b"/ws" in seen[0].message.start[1]:
                break
    except Malformed:
        pass
    return requests


# what the backend sees


def _check_backend(given: Input, outcome: Outcome, sent: list[Message], port: int) -> list[Violation]:
    if len(outcome.seen) > len(sent):
        lines = [b" ".join(each.message.start) for each in outcome.seen]
        return [Violation("backend-requests", f"{len(sent)} requests were sent, the backend saw {lines}")]
    found = []
    for number, (seen, original) in enumerate(zip(outcome.seen, sent, strict=False)):
        for invariant, detail in _compare(given, seen, original, port):
            found.append(Violation(invariant, f"request {number}: {detail}"))  # noqa: PERF401
    return found


def _compare(given: Input, seen: Seen, original: Message, port: int) -> list[tuple[str, str]]:
    message = seen.message
    rewriting = given.variant == "rewriting"
    target, authority = _origin_form(original)
    stripped = _stripped(target) if rewriting else target
    found = []
    if message.start != (original.method, stripped, b"HTTP/1.1"):
        found.append(("backend-requests", f"{original.start} became {message.start}"))
    if message.complete:
        if not original.complete or original.broken:
            found.append(("backend-body", f"complete at the backend, not as sent ({original.broken or 'incomplete'})"))
        elif message.body != original.body:
            found.append(("backend-body", f"{original.body[:200]!r} became {message.body[:200]!r}"))
    elif not original.body.startswith(message.body):
        found.append(("backend-body", f"{original.body[:200]!r} became {message.body[:200]!r}"))
    if message.trailers:
        found.append(("backend-fields", f"trailers passed: {message.trailers}"))
    if seen.tunnel and not given.data[original.end :].startswith(seen.tunnel):
        found.append(("backend-body", f"the tunnel carried {seen.tunnel[:200]!r}"))
    found += [("backend-fields", each) for each in _framing(given, message)]
    host = authority if authority else (original.all(b"host") or [b""])[0]
    wanted_host = b"127.0.0.1:%d" % port if rewriting or not (original.all(b"host") or authority) else host
    if [value.lower() for value in message.all(b"host")] != [wanted_host.lower()]:
        found.append(("backend-fields", f"Host {message.all(b'host')}, expected {wanted_host!r}"))
    found += [("backend-fields", each) for each in _ours(given, message, original, host, stripped != target)]
    wanted, got = _passing(given, original), _theirs(message)
    if wanted != got:
        found.append(("backend-fields", f"fields {got}, expected {wanted}"))
    return found


def _framing(given: Input, message: Message) -> list[str]:
    """What must not reach a backend in any reading."""
    wrong = []
    names = {name.replace(b"_", b"-") for name, _ in message.fields}
    allowed = {b"transfer-encoding"} | ({b"forwarded"} if given.variant == "trusting" else set())
    if message.tunnel:
        allowed |= {b"connection", b"upgrade"}
    elif set(message.all(b"connection")) == {b"keep-alive"}:  # the commonest field stays, and harms nobody
        allowed |= {b"connection"}
    if left := (names & HOP) - allowed:
        wrong.append(f"fields of the hop passed: {left}")
    if any(b"_" in name and (_OURS(plain) or _SHADOWED(plain)) for name, plain in _plain(message.fields)):
        wrong.append(f"shadowing names passed: {message.fields}")
    raw = [value for name, value in message.fields if name == b"transfer-encoding"]
    if raw and raw[0].lower() != b"chunked":
        wrong.append(f"Transfer-Encoding {raw}")
    if message.tunnel and [each for each in message.all(b"connection") if each != b"keep-alive"] != [b"Upgrade"]:
        wrong.append(f"Connection {message.all(b'connection')}")
    return wrong


def _plain(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name, name.replace(b"_", b"-")) for name, _ in fields]


def _ours(given: Input, message: Message, original: Message, host: bytes, stripped: bool) -> list[str]:
    """The fields we add, each exactly once."""
    wrong = []
    exact = {b"x-forwarded-for": b"127.0.0.1", b"x-real-ip": b"127.0.0.1", b"x-forwarded-proto": b"http"}
    if given.variant == "trusting":
        exact = {}
        for name in (b"x-forwarded-for", b"x-real-ip"):
            if len(message.all(name)) != 1:
                wrong.append(f"{name!r}: {message.all(name)}")
    elif [value.lower() for value in message.all(b"x-forwarded-host")] != [host.lower()]:
        wrong.append(f"X-Forwarded-Host {message.all(b'x-forwarded-host')}, Host {host!r}")
    elif len(message.all(b"x-forwarded-port")) != 1 or message.all(b"forwarded"):
        wrong.append(f"forwarding fields {message.fields}")
    for name, value in exact.items():
        if message.all(name) != [value]:
            wrong.append(f"{name!r}: {message.all(name)}")
    ids = message.all(b"x-request-id")
    if len(ids) != 1 or not _REQUEST_ID(ids[0]):
        wrong.append(f"X-Request-Id {ids}")
    if given.variant == "rewriting" and message.all(b"x-forwarded-prefix") != ([b"/a"] if stripped else []):
        wrong.append(f"X-Forwarded-Prefix {message.all(b'x-forwarded-prefix')}")
    theirs = [] if b"via" in original.tokens(b"connection") else original.all(b"via")
    if message.all(b"via") != [*theirs, b"1.1 lb"]:
        wrong.append(f"Via {message.all(b'via')}, the client sent {theirs}")
    return wrong


def _passing(given: Input, original: Message) -> Fields:
    """The client's own fields that must arrive, in order."""
    named = set(original.tokens(b"connection")) - set(OPTIONS)
    if original.http10:
        named.add(b"expect")
    fields = [
        (name, value)
        for name, value in original.fields
        if not _is_ours(name) and name not in named and name not in (b"host", b"content-length")
    ]
    if given.variant == "plugins":
        fields = [(name, value) for name, value in fields if name != b"x-plugin"]
        fields.append((b"x-plugin", b"request"))
    return fields


def _theirs(message: Message) -> Fields:
    return [(n, v) for n, v in message.fields if not _is_ours(n) and n not in (b"host", b"content-length")]


def _is_ours(name: bytes) -> bool:
    """Whether a name is one of the hop, of framing or of ours, by any spelling."""
    plain = name.replace(b"_", b"-")
    shadow = plain != name and _SHADOWED(plain)
    return name in HOP or plain == b"proxy-connection" or bool(shadow or _OURS(plain)) or name == b"via"


def _origin_form(original: Message) -> tuple[bytes, bytes]:
    """The target as a backend gets it, and the authority where the client named one."""
    target = original.start[1]
    absolute = _ABSOLUTE(target)
    if absolute is None:
        return target, b""
    path = absolute[2] or (b"*" if original.method == b"OPTIONS" else b"/")
    return path if path[:1] in (b"/", b"*") else b"/" + path, absolute[1]


def _stripped(target: bytes) -> bytes:
    rest = target[2:]
    if not target.startswith(b"/a") or rest[:1] not in (b"", b"/", b"?"):
        return target
    return rest if rest[:1] == b"/" else b"/" + rest


# what the client gets


def _check_stream(given: Input, outcome: Outcome, sent: list[Message]) -> list[Violation]:
    """The client's stream: an answer for each request, in order, then at most one of ours, or a cut."""
    data, position, number = outcome.received, 0, 0
    ended = outcome.ended == "closed"
    statuses = []
    while position < len(data):
        method = sent[number].method if number < len(sent) else given.data.lstrip(b"\r\n")[:5].partition(b" ")[0]
        try:
            message = read_response(data, position, method, ended=ended)
        except Malformed as error:
            return [Violation("client-stream", f"answer {number}: {error}: {data[position:position + 300]!r}")]
        if message is None or not message.complete:
            if outcome.ended == "open" and given.end == "stay":
                return [Violation("client-stream", f"answer {number} is incomplete: {data[position:position + 300]!r}")]
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


# what a backend may do to a client


def _check_response(given: Input, outcome: Outcome) -> list[Violation]:
    method = b"GET" if given.method == b"WS" else given.method
    data, position, interim = outcome.received, 0, 0
    got: Message | None = None
    while position < len(data):
        try:
            got = read_response(data, position, method, ended=outcome.ended == "closed")
        except Malformed as error:
            return [Violation("client-stream", f"{error}: {data[position:position + 300]!r}")]
        if got is None or got.status >= 200 or got.status == 101:
            break
        position, interim, got = got.end, interim + 1, None
    if interim > MAX_INTERIM or (interim and given.http10):
        return [Violation("client-stream", f"{interim} interim responses")]
    if got is None:
        return _nothing_came(given, outcome)
    found = _compare_response(given, got, method)
    if outcome.after and not found:
        rest = data[got.end :]
        try:
            second = read_response(rest, 0, b"GET", ended=outcome.ended == "closed")
        except Malformed as error:
            second = None
            found.append(Violation("client-stream", f"the next answer: {error}"))
        if second is None or second.body != outcome.after or second.end != len(rest):
            found.append(Violation("client-answer", f"the next answer on the connection is {rest[:300]!r}"))
    elif got.status != 101 and got.complete and got.end != len(data):
        found.append(Violation("client-stream", f"bytes behind the answer: {data[got.end:][:300]!r}"))
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
    elif got.complete and got.body != original.body:
        found.append(Violation("client-answer", f"body {original.body[:200]!r} became {got.body[:200]!r}"))
    elif not original.body.startswith(got.body):
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
