"""What a case is: bytes, the rule they test, and what must be true at the backend and at the client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

HOST = b"Host: example.com\r\n"
GOOD = b"GET /good HTTP/1.1\r\n" + HOST + b"\r\n"
"""The request that is pipelined before and behind a case."""

Lanes = tuple[str, ...]
BOTH: Lanes = ("plain", "touched")
"""A balancer without traffic hooks, and one with a plugin that changes a field of every request and response."""


@dataclass(frozen=True)
class Seen:
    """One request as the backend must see it; `fields` gives every value of a name, `absent` the names it must lack."""

    method: bytes = b"GET"
    target: bytes = b"/"
    body: bytes = b""
    fields: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class RequestCase:
    """Bytes from a client.

    `seen` are the requests the backend sees, `answers` the statuses the client sees, `methods` what they answer, `kept`
    whether the connection goes on afterwards (None: as the last answer says, which must be true). `partial` allows the
    backend to have been sent the beginning of a request that turns out to be malformed, as long as it never sees its
    end. `marked` allows a field to be put in behind the request line, which sends the request along the general path;
    `followed` a request to be put behind. `asgi` says why an ASGI server treats the case otherwise.
    """

    name: str
    rule: str
    source: str
    cve: str
    raw: bytes
    seen: tuple[Seen, ...] = ()
    answers: tuple[int, ...] = ()
    methods: tuple[bytes, ...] = (b"GET",)
    kept: bool | None = True
    partial: bool = False
    marked: bool = True
    followed: bool = True
    lanes: Lanes = BOTH
    asgi: str = ""

    @property
    def refused(self) -> bool:
        """Whether the balancer itself answers the case."""
        return not self.seen


@dataclass(frozen=True)
class ResponseCase:
    """Bytes from a backend, as the answer to `request`.

    `end` says what the backend does then: keep, close or reset. At the client: `status`, `body`, `fields` and `absent`
    of the answer, `interim` statuses before it, and `cut`, when the connection must break before the answer is whole
    (the body then is a beginning of `body`). `reused` says whether the backend's connection may serve another request.

    `ends`, where it is not 0, is where the response ends and what nobody asked for begins. When that comes in a later
    read, nobody could tell it from the answer to the next request on that connection, if one were under way by then:
    so these runs are made alone, and the connection must be closed while idle.
    """

    name: str
    rule: str
    source: str
    cve: str
    raw: bytes
    status: int = 200
    body: bytes | None = b"hello"
    fields: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    interim: tuple[int, ...] = ()
    cut: bool = False
    reused: bool = True
    kept: bool = True
    end: str = "keep"
    request: bytes = b"GET %b HTTP/1.1\r\n" + HOST + b"\r\n"
    ends: int = 0


class Requests:
    """The request cases of one rule."""

    def __init__(self, rule: str, source: str) -> None:
        self.rule = rule
        self.source = source
        self.cases: list[RequestCase] = []

    def __iter__(self) -> Iterator[RequestCase]:
        return iter(self.cases)

    def refuse(self, name: str, raw: bytes, status: int = 400, *, cve: str = "", **options: object) -> None:
        """The balancer answers with `status` and closes; the backend sees nothing."""
        options.setdefault("kept", False)
        options.setdefault("answers", (status,))
        options.setdefault("methods", (raw.split(b" ", 1)[0],))
        self.cases.append(RequestCase(name, self.rule, self.source, cve, raw, **options))  # type: ignore[arg-type]

    def take(self, name: str, raw: bytes, *seen: Seen, cve: str = "", **options: object) -> None:
        """The backend sees these requests (by default a plain GET of /) and the client gets its answers."""
        seen = seen or (Seen(),)
        options.setdefault("answers", (200,) * len(seen))
        options.setdefault("methods", tuple(each.method for each in seen))
        self.cases.append(
            RequestCase(name, self.rule, self.source, cve, raw, seen=seen, **options)  # type: ignore[arg-type]
        )


class Responses:
    """The response cases of one rule."""

    def __init__(self, rule: str, source: str) -> None:
        self.rule = rule
        self.source = source
        self.cases: list[ResponseCase] = []

    def __iter__(self) -> Iterator[ResponseCase]:
        return iter(self.cases)

    def refuse(self, name: str, raw: bytes, *, cve: str = "", **options: object) -> None:
        """The client is told 502, none of the answer's bytes, and the backend's connection is closed."""
        options = {"status": 502, "body": None, "reused": False, **options}
        self.cases.append(ResponseCase(name, self.rule, self.source, cve, raw, **options))  # type: ignore[arg-type]

    def cut(self, name: str, raw: bytes, *, cve: str = "", **options: object) -> None:
        """The client gets a beginning of the answer, then its connection breaks."""
        options = {"cut": True, "reused": False, "kept": False, **options}
        self.cases.append(ResponseCase(name, self.rule, self.source, cve, raw, **options))  # type: ignore[arg-type]

    def take(self, name: str, raw: bytes, *, cve: str = "", **options: object) -> None:
        """The client gets the answer."""
        self.cases.append(ResponseCase(name, self.rule, self.source, cve, raw, **options))  # type: ignore[arg-type]


def get(lines: bytes = HOST, line: bytes = b"GET / HTTP/1.1") -> bytes:
    """A request without a body."""
    return line + b"\r\n" + lines + b"\r\n"


def line(text: bytes) -> bytes:
    """A request with this request line."""
    return get(line=text)


def field_line(text: bytes) -> bytes:
    """A GET with these further field lines."""
    return get(HOST + text + b"\r\n")


def post(text: bytes, body: bytes = b"") -> bytes:
    """A POST with these further field lines and this body."""
    return get(HOST + text + b"\r\n", b"POST / HTTP/1.1") + body


def host(text: bytes) -> bytes:
    """A GET whose only field lines are these."""
    return get(text + b"\r\n")
