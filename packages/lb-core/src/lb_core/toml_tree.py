"""TOML into a Document.

`tomllib` reads the values; it keeps no lines, so a second, forgiving scan of the same text (already known to be
valid) finds the line of each key: statement by statement, keeping the current table, stepping over strings, arrays and
inline tables.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date, datetime, time
from typing import Any

from lb_core.documents import Document, KeyPath, Place
from lb_core.errors import ConfigError, Problem

_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_SKIP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_KEY = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+')
_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\]|\\.)*"|\'[^\']*\'', re.DOTALL)
_PLAIN = re.compile(r"[^\s,\]}#]+(?: [0-9:.]+)?")


def read(text: str, source: str) -> Document:
    """Read a TOML file; malformed TOML is a ConfigError with line and column."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_malformed(str(error), text, source)]) from None
    except RecursionError:
        raise ConfigError([Problem("this is nested too deeply", "", source)]) from None
    document = Document(tree, source)
    lines = _Lines(text)
    document.places = {path: Place(source, line) for path, line in lines.found.items()}
    _refuse_dates(tree, (), document)
    return document


def _malformed(message: str, text: str, source: str) -> Problem:
    found = _WHERE.search(message)
    line, column = text.count("\n") + 1, ""
    if found and found[1]:
        line, column = int(found[1]), f", in column {found[2]}"
    message = _WHERE.sub("", message)
    hint = "a name is given once; keep one of the two" if "overwrite" in message or "twice" in message else ""
    return Problem(f"this is not TOML: {message}{column}", "", source, line, hint)


def _refuse_dates(value: Any, path: KeyPath, document: Document) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_dates(item, (*path, key), document)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_dates(item, (*path, index), document)
    elif isinstance(value, (date, datetime, time)):
        document.problems.append(document.problem(path, f"{value} is a date or a time", "quote it"))


class _Lines:
    """The line of every key and list item in a valid TOML text."""

    def __init__(self, text: str) -> None:
        self.found: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._counted = (0, 1)
        self._tables: dict[KeyPath, int] = {}
        table: KeyPath = ()
        while self._skip() < len(text):
            table = self._statement(table)

    def _statement(self, table: KeyPath) -> KeyPath:
        if self._text[self._at] != "[":
            self._pair(table)
            return table
        is_list = self._text.startswith("[[", self._at)
        line = self._line()
        self._at += 2 if is_list else 1
        path = self._inside(self._key())
        self._at += 2 if is_list else 1
        if is_list:
            self._tables[path] = index = self._tables.get(path, -1) + 1
            self.found.setdefault(path, line)
            path = (*path, index)
        self._note(path, line)
        return path

    def _inside(self, key: KeyPath) -> KeyPath:
        """A table header's path, with the index of the newest element where it passes through a list of tables."""
        path: KeyPath = ()
        for part in key[:-1]:
            path = (*path, part)
            if path in self._tables:
                path = (*path, self._tables[path])
        return (*path, key[-1])

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = (*table, *self._key())
        self._note(path, line)
        self._at = _BLANK.match(self._text, self._at + 1).end()  # type: ignore[union-attr]
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline(path)
            case _:
                found = _STRING.match(self._text, self._at) or _PLAIN.match(self._text, self._at)
                self._at = found.end() if found else self._at + 1

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip()] != "]":
            self.found[(*path, index)] = self._line()
            self._value((*path, index))
            index += 1
            if self._text[self._skip()] == ",":
                self._at += 1
        self._at += 1

    def _inline(self, path: KeyPath) -> None:
        self._at += 1
        while self._text[self._skip()] != "}":
            self._pair(path)
            if self._text[self._skip()] == ",":
                self._at += 1
        self._at += 1

    def _key(self) -> KeyPath:
        """The dotted key here; the position is left at what follows it (`=` or `]`)."""
        parts: list[str] = []
        while True:
            self._at = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]
            found = _KEY.match(self._text, self._at)
            if found is None:
                return tuple(parts) or ("",)
            parts.append(_unquoted(found[0]))
            self._at = _BLANK.match(self._text, found.end()).end()  # type: ignore[union-attr]
            if self._text[self._at] != ".":
                return tuple(parts)
            self._at += 1

    def _note(self, path: KeyPath, line: int) -> None:
        self.found[path] = line
        for end in range(1, len(path)):
            self.found.setdefault(path[:end], line)

    def _skip(self) -> int:
        self._at = _SKIP.match(self._text, self._at).end()  # type: ignore[union-attr]
        return self._at

    def _line(self) -> int:
        position, line = self._counted
        line += self._text.count("\n", position, self._at)
        self._counted = (self._at, line)
        return line


def _unquoted(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] == '"':
        return next(iter(tomllib.loads(f"{key} = 0")))
    return key
