"""The answers the engine makes by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.response import Response

if TYPE_CHECKING:
    from lb_core.exchange import Exchange

SAID = {
    502: "the backend could not be reached or did not answer properly",
    503: "no connection to a backend can be opened at the moment",
    504: "the backend did not answer in time",
}
"""What a client is told when the last attempt failed; the details are for the log."""


def problem(exchange: Exchange, status: int, word: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An error of our own for this exchange, as JSON for those who accept it; the word goes into the log's flags."""
    exchange.flag(word)
    as_json = "json" in exchange.headers.get("accept", "")
    return Response.problem(status, word, detail, as_json=as_json, headers=headers)
