"""The feature `compression`: text that a backend left as it is goes out compressed to clients that can read it.

    compression: true
    compression: {min_size: 4KiB, level: 6, encodings: [gzip]}

Compressed is an answer

    of a type in `types`, of `min_size` or more where its length is known,
    whose client accepts one of `encodings` (qualities count; of equal ones the first),
    that has no Content-Encoding, no Content-Range, no digest of its content and no `Cache-Control: no-transform`,
    to a method other than HEAD, with a status other than 204, 205, 206 and 304.

It then has Content-Encoding, a weak ETag for a strong one and no Accept-Ranges; Vary says Accept-Encoding, also where
this client gets it as it is. The backend's Accept-Encoding stays: one that compresses does it better.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le, MinLen

from lb_core import Feature, Settings, Size, Whole, hookimpl
from lb_filters.accepted import chosen
from lb_filters.compressors import Compressed, Gzip, Zstd

if TYPE_CHECKING:
    from lb_core import Exchange, Route

STREAMS_MOST = 256
"""Bodies of one route that are compressed piece by piece at a time, each of which takes about a megabyte; further ones
go out as they are."""
LONGEST_ACCEPT = 256

_WITHOUT_BODY = frozenset((204, 205, 206, 304))
_UNTOUCHED = frozenset(
    (b"content-encoding", b"content-range", b"content-digest", b"repr-digest", b"digest", b"content-md5")
)
_VARIES = frozenset((b"accept-encoding", b"*"))
_LINES = re.compile(
    rb"\n(content-(?:length|encoding|range|digest|md5)|cache-control|vary|etag|accept-ranges|(?:repr-)?digest):([^\r]*)",
    re.IGNORECASE,
).findall

TYPES = (
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/x-ndjson",
    "application/wasm",
    "image/svg+xml",
)


class CompressionSettings(Settings):
    """What is compressed, and how; `true` for all of the defaults."""

    min_size: Size = 1024
    """Bytes below which a body of known length stays as it is."""
    types: Annotated[tuple[str, ...], MinLen(1)] = TYPES
    """Content types; `*` stands for the rest of a part: `text/*`, `application/*+json`."""
    encodings: Annotated[tuple[Literal["zstd", "gzip"], ...], MinLen(1)] = ("zstd", "gzip")
    """Codings, the preferred one first."""
    level: Annotated[Whole, Ge(1), Le(9)] = 3
    """1 is fast, 9 is small."""


class Compression:
    """Compresses the answers of one route."""

    def __init__(self, settings: CompressionSettings) -> None:
        self._least = settings.min_size
        self._types = settings.types
        self._offered = settings.encodings
        makers: dict[str, type[Gzip] | type[Zstd]] = {"gzip": Gzip, "zstd": Zstd}
        self._makers: dict[str, Gzip | Zstd] = {name: makers[name](settings.level) for name in settings.encodings}
        self._compressible: dict[str, bool] = {}
        self._streams: set[Compressed | None] = set()

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Have the body compressed, where that is wanted and allowed."""
        headers = exchange.response_headers
        if not self._is_text(headers.get("content-type", "")) or exchange.status in _WITHOUT_BODY:
            return
        said = _said(exchange)
        size = int(said.get(b"content-length", -1))
        if 0 <= size < self._least or not _may_be_changed(said):
            return
        if not {each.strip(b" \t").lower() for each in said.get(b"vary", b"").split(b",")} & _VARIES:
            headers.add("Vary", "Accept-Encoding")
        accept = exchange.headers.get("accept-encoding", "")
        coding = chosen(accept, self._offered) if accept and len(accept) <= LONGEST_ACCEPT else ""
        if not coding or exchange.raw_method == b"HEAD" or len(self._streams) >= STREAMS_MOST:
            return
        headers.add("Content-Encoding", coding)
        etag = said.get(b"etag", b"W/").decode("latin-1")
        if not etag.startswith("W/"):
            headers["ETag"] = f"W/{etag}"
        if b"accept-ranges" in said:
            del headers["accept-ranges"]
        body = self._makers[coding].begin(size if exchange.transform is None else -1)
        self._streams.add(body)
        exchange.state[self] = exchange.transform = body

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """A body has ended, however."""
        if self._streams and exchange.transform is not None:
            self._streams.discard(exchange.state.pop(self, None))

    def describe(self) -> str:
        """How many at the moment."""
        return f"{len(self._streams)} answers are being compressed"

    def _is_text(self, content_type: str) -> bool:
        known = self._compressible.get(content_type)
        if known is None:
            if len(self._compressible) >= 1000:
                self._compressible.clear()
            kind = content_type.partition(";")[0].strip(" \t").lower()
            known = self._compressible[content_type] = any(_fits(kind, pattern) for pattern in self._types)
        return known


def _fits(kind: str, pattern: str) -> bool:
    before, star, after = pattern.lower().partition("*")
    if not star:
        return kind == before
    return len(kind) >= len(before) + len(after) and kind.startswith(before) and kind.endswith(after)


def _said(exchange: Exchange) -> dict[bytes, bytes]:
    """What the answer says that matters here, by lower-case names: one search for all of it."""
    headers, head = exchange.response_headers, exchange.response_head
    if headers.changed:
        head = b"\n%b" % headers.encode()
    end = head.find(b"\r\n\r\n")
    said: dict[bytes, bytes] = {}
    for name, value in _LINES(head, 0, end if end >= 0 else len(head)):
        name = name.lower()
        value = value.strip(b" \t")
        said[name] = b"%b, %b" % (said[name], value) if name in said else value
    return said


def _may_be_changed(said: dict[bytes, bytes]) -> bool:
    """Whether nothing forbids it (RFC 9111 section 5.2.2.6), or vouches for the content as it is (RFC 9530)."""
    return not said.keys() & _UNTOUCHED and b"no-transform" not in said.get(b"cache-control", b"").lower()


def build(route: Route, settings: CompressionSettings) -> Compression:
    """The compression of a route."""
    del route
    return Compression(settings)


FEATURE = Feature("compression", build, settings=CompressionSettings)
