"""Header fields as plugins see them, and the rules about names that are the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import lru_cache
from typing import Any

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_BLANK = b"\r\n\r\n"

REMEMBERED = 64
"""Characters of a value up to which its line is kept ready."""

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
"""Fields of one connection only (RFC 9110 section 7.6.1); fields named in Connection join them."""

FRAMING = frozenset(("content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te"))
"""Fields the engine alone decides about; plugins cannot change them."""


class Headers(MutableMapping[str, str]):
    """An ordered, case-insensitive list of header fields; text is Latin-1, as on the wire (RFC 9110 section 5.5).

    Reading a name that occurs several times gives its values joined by `", "` (section 5.2); `get_all` gives them one
    by one, as Set-Cookie needs. Setting replaces every field of that name. Raises ValueError for a name or value that
    must not go on the wire, and on changing the fields of message framing.

    A head is read lazily: looking up a name is one search, deleting one is another, and adding or setting appends
    without reading the others. Only iterating makes the list. What was set or added here stands behind what came, and
    `halves` tells the two apart.
    """

    __slots__ = ("_added", "_fields", "_source", "changed")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._source: bytes | None = None
        self._added: list[tuple[str, str]] = []
        self._fields: list[tuple[str, str]] = []
        self.changed = False
        for name, value in fields:
            _check_syntax(name, value)
            self._fields.append((name, value.strip(" \t")))

    @classmethod
    def parse(cls, block: bytes) -> Headers:
        """The field lines of a head that a parser has already accepted, from its first line to its blank line."""
        headers = cls.__new__(cls)
        headers._source = block
        headers._added = []
        headers._fields = []
        headers.changed = False
        return headers

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or `default`; for a head that has not been read one search."""
        values = self.get_all(name)
        if not values:
            return default
        return values[0] if len(values) == 1 else ", ".join(values)

    def __setitem__(self, name: str, value: str) -> None:
        value = value.strip(" \t")
        _line(name, value)
        if self._source is None or self.get_all(name):
            self._remove(name.lower())
        self._added.append((name, value))
        self.changed = True

    def __delitem__(self, name: str) -> None:
        key = name.lower()
        _refuse_framing(key)
        if name not in self:
            raise KeyError(name)
        self._remove(key)
        self.changed = True

    def _remove(self, key: str) -> None:
        source = self._source
        if source is not None:
            end = source.find(_BLANK)
            self._source = _whole_line_of(key)(b"", source if end < 0 else source[: end + 2])
        self._fields = [field for field in self._fields if field[0].lower() != key]
        self._added = [field for field in self._added if field[0].lower() != key]

    def __iter__(self) -> Iterator[str]:
        seen = set()
        for name, _ in self.fields():
            if name.lower() not in seen:
                seen.add(name.lower())
                yield name

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.fields()})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __repr__(self) -> str:
        return f"Headers({self.fields()!r})"

    def add(self, name: str, value: str) -> None:
        """Append a field, keeping those of the same name."""
        value = value.strip(" \t")
        _line(name, value)
        self._added.append((name, value))
        self.changed = True

    def get_all(self, name: str) -> list[str]:
        """Every value of a name, in order."""
        source = self._source
        if source is None:
            key = name.lower()
            return [value for field, value in self._fields + self._added if field.lower() == key]
        end = source.find(_BLANK)
        lines = _line_of(name)(source, 0, len(source) if end < 0 else end)
        found = [line.strip(b" \t").decode("latin-1") for line in lines]
        if self._added:
            key = name.lower()
            found += [value for field, value in self._added if field.lower() == key]
        return found

    def fields(self) -> list[tuple[str, str]]:
        """Every field line, in order."""
        if self._source is not None:
            fields = []
            for line in self._source.partition(_BLANK)[0].decode("latin-1").split("\r\n"):
                name, colon, value = line.partition(":")
                if colon and " " not in name:
                    fields.append((name, value.strip(" \t")))
            self._source = None
            self._fields = fields
        return self._fields + self._added

    def encode(self) -> bytes:
        """The field lines as they go on the wire, each ended by CRLF."""
        return b"".join(self.halves())

    def halves(self) -> tuple[bytes, bytes]:
        """The same in two: what is left of the fields that came, and those that were set or added here."""
        source = self._source
        if source is None:
            return _lines(self._fields), b"".join([_line(name, value) for name, value in self._added])
        end = source.find(_BLANK)
        kept = source[source.index(b"\n") + 1 : len(source) if end < 0 else end + 2]
        if kept and end < 0 and kept[-2:] != b"\r\n":
            kept += b"\r\n"
        return kept, b"".join([_line(name, value) for name, value in self._added])


def _lines(fields: list[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")


def _line(name: str, value: str) -> bytes:
    """The line of a field that was set or added; raises ValueError as `check_field` does."""
    return _short_line(name, value) if len(value) <= REMEMBERED else _checked_line(name, value)


def _checked_line(name: str, value: str) -> bytes:
    check_field(name, value)
    return f"{name}: {value}\r\n".encode("latin-1")


_short_line = lru_cache(maxsize=1024)(_checked_line)
"""Plugins add the same few fields to every message: those are checked once."""


@lru_cache(maxsize=256)
def _line_of(name: str) -> Callable[[bytes, int, int], list[bytes]]:
    """A search for the values of one name."""
    return re.compile(b"\n%b:([^\r]*)" % _letters(name)).findall


@lru_cache(maxsize=256)
def _whole_line_of(name: str) -> Callable[[bytes, bytes], bytes]:
    """Takes the lines of one name out of a head."""
    return re.compile(b"\n%b:[^\r]*(?:\r|$)" % _letters(name)).sub


def _letters(name: str) -> bytes:
    """A pattern for a name: each letter in both cases is much faster than one that folds case."""
    letters = "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else re.escape(c) for c in name)
    return letters.encode("latin-1", "replace")


def check_field(name: str, value: str) -> None:
    """Raise ValueError unless the field may go on the wire and is not one of message framing."""
    _check_syntax(name, value)
    _refuse_framing(name.lower())


def _check_syntax(name: str, value: str) -> None:
    if not _TOKEN(name):
        raise ValueError(f"header name {name!r} is not a token (RFC 9110 section 5.1)")
    if not _VALUE(value):
        raise ValueError(f"header {name}: value {value!r} holds control characters or text outside Latin-1")


def _refuse_framing(key: str) -> None:
    if key in FRAMING:
        raise ValueError(f"header {key!r} belongs to message framing, which the engine decides")
