"""One exchange: a request and its answer, as plugins see them."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from lb_core.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.backend import Backend
    from lb_core.errors import AttemptError
    from lb_core.pool import Pool
    from lb_core.route import Route

monotonic = time.monotonic

_TARGET = re.compile(r"/[!-\"$-~]*").fullmatch
_REWRITTEN = object()
_TRANSFORM = object()
NOTES = object()
"""The key in an exchange's state of what plugins have noted for the decision record."""


class Connection(Protocol):
    """What an exchange knows about the client's connection."""

    peer: str
    """The address at the other end of the socket; empty for a unix socket."""
    scheme: str
    """`http` or `https`, as the client used it with us."""
    port: int
    """The listener's port."""


class Transform(Protocol):
    """What a response's body passes through on its way to the client."""

    def feed(self, data: bytes) -> bytes:
        """The next part of the backend's body, without its framing; what goes to the client now, perhaps nothing."""

    def finish(self) -> bytes:
        """The body has ended: what is left for the client."""


class _Chain:
    """Two transforms, one after the other."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Transform, second: Transform) -> None:
        self._first = first
        self._second = second

    def feed(self, data: bytes) -> bytes:
        data = self._first.feed(data)
        return self._second.feed(data) if data else b""

    def finish(self) -> bytes:
        data = self._first.finish()
        return (self._second.feed(data) if data else b"") + self._second.finish()


class Exchange:
    """A request and its answer.

    Text is decoded and headers are parsed when first asked for, so a plugin pays for what it uses. Times are seconds of
    `time.monotonic`; `started` is when the request head was complete, `first_byte` when the backend's head came (0.0
    while there is none), `ended` when the last byte went out; `asked` when the backend was sent the request or the last
    byte of its body (0.0 where that was at once). `bytes_in` and `bytes_out` count body bytes as framed on the wire.
    `flags` are the words of the access log; `error` is the error of the last failed attempt.

    `pool` is where its backend is chosen; `before_request` may set another.
    """

    __slots__ = (
        "_headers",
        "_response_headers",
        "_state",
        "asked",
        "attempts",
        "backend",
        "bytes_in",
        "bytes_out",
        "client",
        "connection",
        "ended",
        "error",
        "first_byte",
        "flags",
        "pool",
        "raw_host",
        "raw_request_id",
        "request",
        "response_head",
        "route",
        "started",
        "status",
    )

    def __init__(
        self,
        route: Route,
        connection: Connection,
        client: str,
        method: bytes,
        target: bytes,
        host: bytes,
        head: bytes,
    ) -> None:
        self.route = route
        self.pool: Pool = route.serving
        self.connection = connection
        self.client = client
        self.request: tuple[bytes, bytes, bytes | None, bytes, Any, int] = (method, target, None, head, None, 0)
        self.raw_host = host
        self.raw_request_id = b""
        self._headers: Headers | None = None
        self._response_headers: Headers | None = None
        self._state: dict[object, Any] | None = None
        self.response_head = b""
        self.backend: Backend | None = None
        self.attempts = 0
        self.status = 0
        self.started = monotonic()
        self.first_byte = 0.0
        self.asked = 0.0
        self.ended = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.error: AttemptError | None = None
        self.flags: tuple[str, ...] = ()

    @property
    def raw_method(self) -> bytes:
        """The request method as sent."""
        return self.request[0]

    @property
    def raw_target(self) -> bytes:
        """Path and query as sent; of an absolute target too."""
        return self.request[1]

    @property
    def head(self) -> bytes:
        """The request's head as sent, up to its blank line."""
        return self.request[3]

    @property
    def method(self) -> str:
        """The request method, in the client's case (methods are case-sensitive)."""
        return self.raw_method.decode("latin-1")

    @property
    def target(self) -> str:
        """Path and query exactly as sent, percent-encoding included."""
        return self.raw_target.decode("latin-1")

    @property
    def path(self) -> str:
        """The target up to `?`, not decoded."""
        return self.raw_target.partition(b"?")[0].decode("latin-1")

    @property
    def query(self) -> str:
        """The target after `?`, not decoded; empty without one."""
        return self.raw_target.partition(b"?")[2].decode("latin-1")

    @property
    def host(self) -> str:
        """The host the client asked for: lower case, without port and trailing dot."""
        return self.raw_host.decode("latin-1")

    @property
    def scheme(self) -> str:
        """`http` or `https`, as the client used it with us."""
        return self.connection.scheme

    @property
    def client_scheme(self) -> str:
        """The same; behind a trusted proxy, what the client used with that proxy."""
        return self.scheme

    @property
    def request_id(self) -> str:
        """The X-Request-Id: the client's, or ours."""
        return self.raw_request_id.decode("latin-1")

    @property
    def headers(self) -> Headers:
        """The request's fields as the client sent them; changes made in `before_request` go to the backend."""
        if self._headers is None:
            self._headers = Headers.parse(self.head)
        return self._headers

    def cookie(self, name: str) -> str:
        """The value of the first cookie of that name, which is case-sensitive; empty without one.

        The pairs of RFC 6265 section 5.4; several Cookie fields are read one after the other.
        """
        cookies = self.headers.get("cookie")
        found = _cookie(name)(cookies) if cookies else None
        return found[1].rstrip(" \t") if found else ""

    @property
    def response_headers(self) -> Headers:
        """The backend's fields, none before its head came; changes made in `on_response` go to the client."""
        if self._response_headers is None:
            self._response_headers = Headers.parse(self.response_head)
        return self._response_headers

    @property
    def state(self) -> dict[object, Any]:
        """Room for plugins to remember something until `on_complete`; use an object of your own as the key."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def rewritten(self) -> str:
        """The target a backend is asked for instead, as `rewrite` set it; empty where it was not."""
        return str(self._state.get(_REWRITTEN, "")) if self._state else ""

    def rewrite(self, target: str) -> None:
        """Ask the backend for another path and query; `target` stays what the client asked for.

        For `before_request`. Raises ValueError unless it is an origin-form target (RFC 9112 section 3.2.1).
        """
        if not _TARGET(target):
            raise ValueError(f"{target!r} is no target: write a path with its query, percent-encoded, beginning with /")
        self.state[_REWRITTEN] = target

    @property
    def transform(self) -> Transform | None:
        """What the response's body passes through; None where nobody assigned anything.

        For `on_response`. A further one assigned takes what comes of those before it. The engine frames the end result
        anew, with a length or in chunks. Answers without a body (HEAD, 204, 304) and tunnels pass as they are.
        """
        return self._state.get(_TRANSFORM) if self._state else None

    @transform.setter
    def transform(self, transform: Transform) -> None:
        before = self.transform
        self.state[_TRANSFORM] = transform if before is None else _Chain(before, transform)
        self.response_headers.changed = True  # what makes the engine look

    def keep_body(self, limit: int) -> None:
        """Keep a copy of the request's body as it passes, for `kept_body`, unless it is longer than `limit` bytes.

        For `before_request`. What nobody asks for is not kept.
        """

    @property
    def kept_body(self) -> bytes | None:
        """The copy, without chunks; None where none is kept, while it is not complete, and where it is too long."""
        return None

    def note(self, why: str) -> None:
        """Say why a backend is or is not chosen, for the decision record, which then holds this choice in any case.

        For `before_request` and `select_backend`, and for what is unusual: it costs more than an ordinary choice.
        """
        self.state[NOTES] = (*self.state.get(NOTES, ()), why)

    @property
    def elapsed(self) -> float:
        """Seconds since the request head was complete."""
        return monotonic() - self.started

    @property
    def backend_seconds(self) -> float:
        """Seconds the backend took to its response head once it had the request: without queues, earlier attempts and
        slow uploads; 0.0 while there is none."""
        return self.first_byte - (self.asked or self.started) if self.first_byte else 0.0

    @property
    def duration(self) -> float:
        """Seconds from the request head to the last byte of the answer; 0.0 until the exchange has ended."""
        return self.ended - self.started if self.ended else 0.0

    def flag(self, word: str) -> None:
        """Add a word to the access log's flags, once."""
        if word not in self.flags:
            self.flags = (*self.flags, word)

    def __repr__(self) -> str:
        return f"<Exchange {self.method} {self.host}{self.target} {self.status or 'open'}>"


@lru_cache(maxsize=256)
def _cookie(name: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(rf"(?:^|[;,])[ \t]*{re.escape(name)}=([^;,]*)").search  # fields are joined by ", "
