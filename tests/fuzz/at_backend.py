"""What a backend may see: the requests that were sent, in order, less what is of the hop, plus what is ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.fuzz.outcome import Outcome, Seen, Violation

if TYPE_CHECKING:
    from tests.fuzz.mutate import Input
    from tests.fuzz.reading import Fields, Message

HOP = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings forwarded".split()
)
_OURS = re.compile(rb"x-(forwarded-.*|real-ip|request-id)").fullmatch
_SHADOWED = re.compile(rb"(content|transfer|proxy)-(length|encoding|connection)").fullmatch
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*)(.*)", re.DOTALL).fullmatch
_REQUEST_ID = re.compile(rb"[!-~]{1,200}").fullmatch
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-fv:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
).fullmatch
OPTIONS = (b"close", b"keep-alive", b"upgrade")


def check_backend(given: Input, outcome: Outcome, sent: list[Message], port: int) -> list[Violation]:
    if len(outcome.seen) > len(sent):
        lines = [b" ".join(each.message.start) for each in outcome.seen]
        return [Violation("backend-requests", f"{len(sent)} requests were sent, the backend saw {lines}")]
    found = []
    for number, (seen, original) in enumerate(zip(outcome.seen, sent, strict=False)):
        broken = _compare(given, seen, original, port)
        found += [Violation(invariant, f"request {number}: {detail}") for invariant, detail in broken]
    return found


def _compare(given: Input, seen: Seen, original: Message, port: int) -> list[tuple[str, str]]:
    message = seen.message
    rewriting = given.variant == "rewriting"
    target, authority = _origin_form(original)
    stripped = _stripped(target) if rewriting else target
    found = []
    if message.start != (original.method, stripped, b"HTTP/1.1"):
        found.append(("backend-requests", f"{original.start} became {message.start}"))
    if (message.start[1][:1] != b"/" and message.start[1] != b"*") or b"#" in message.start[1]:
        found.append(("backend-requests", f"target {message.start[1]!r}"))
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
    if not all(_HOST(value) for value in message.all(b"host")):
        found.append(("backend-fields", f"Host {message.all(b'host')} breaks its grammar"))
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
        chain = b", ".join([*original.all(b"x-forwarded-for"), b"127.0.0.1"]).lower()
        if b"x-forwarded-for" not in original.tokens(b"connection") and message.all(b"x-forwarded-for") != [chain]:
            wrong.append(f"X-Forwarded-For {message.all(b'x-forwarded-for')}, expected {chain!r}")
        ours = (b"x-forwarded-for", b"x-real-ip")
        wrong += [f"{name!r}: {message.all(name)}" for name in ours if len(message.all(name)) != 1]
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
