"""Response: an answer made without a backend."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from lb_core.headers import Headers, check_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NO_BODY = (204, 205, 304)


class Response:
    """An answer made without a backend: `Response(429, "slow down", headers={"Retry-After": "5"})`.

    `body` is text (sent as UTF-8) or bytes; `headers` a mapping, or pairs where a name occurs several times. Serialised
    once, so an instance that is kept costs nothing to send again.
    Raises ValueError for a status outside 200-599 and for fields that must not go on the wire.
    """

    __slots__ = ("_head", "body", "status")

    def __init__(
        self,
        status: int,
        body: str | bytes = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        if not 200 <= status <= 599:
            raise ValueError(f"status {status} is not a final status (200-599)")
        self.status = status
        self.body = body.encode() if isinstance(body, str) else bytes(body)
        if self.body and status in _NO_BODY:
            raise ValueError(f"a {status} answer carries no body (RFC 9110 section 6.4.1)")
        fields = [*_pairs(headers or ())]
        for name, value in fields:
            check_field(name, value)
        if self.body and "content-type" not in {name.lower() for name, _ in fields}:
            fields.append(("Content-Type", "text/plain; charset=utf-8"))
        if status not in (204, 304):  # a 304's length would be that of the 200 it stands for
            fields.append(("Content-Length", str(len(self.body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self._head = f"HTTP/1.1 {status} {_reason(status)}\r\n{lines}".encode("latin-1")

    @classmethod
    def problem(
        cls, status: int, word: str, detail: str, *, as_json: bool = False, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Our own errors: `{"error": word, "detail": detail}` for those who accept JSON, else a line of text."""
        if not as_json:
            return cls(status, f"{detail}\n", headers)
        fields = {name: value for name, value in (headers or {}).items() if name.lower() != "content-type"}
        fields["Content-Type"] = "application/json"
        return cls(status, json.dumps({"error": word, "detail": detail}), fields)

    def encode(self, *, connection: bytes = b"", without_body: bool = False) -> bytes:
        """The whole answer as it goes on the wire; `connection` is a Connection field line or nothing."""
        return b"%b%b\r\n%b" % (self._head, connection, b"" if without_body else self.body)


def _pairs(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    if isinstance(headers, Headers):
        return headers.fields()  # one by one, which its items are not
    return headers if not hasattr(headers, "items") else headers.items()


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
