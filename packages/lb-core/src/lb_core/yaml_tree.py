"""YAML (and so JSON) into a Document.

The tree is built from libyaml's events, not by PyYAML's loader, because that

    takes the last of two equal keys without a word                          -> here a Problem that names both lines
    makes `on: …` the key True, 10:30 the number 630, 010 the number 8       -> here keys are text, numbers are decimal
    recurses in C, so that a file of 50,000 brackets ends the process        -> here 100 levels are the limit

`true/false/yes/no/on/off`, `null`, `~`, whole and decimal numbers keep their YAML meaning; everything else is text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from lb_core.documents import Document, KeyPath, Place
from lb_core.errors import ConfigError, Problem

DEEPEST = 100

_BOOL = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})").fullmatch
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]{1,300})?\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?|[-+]?[0-9]{1,300}(?:\.[0-9]*)?[eE][-+]?[0-9]{1,3}"
).fullmatch
_TAG = "tag:yaml.org,2002:"


def read(text: str, source: str) -> Document:
    """Read the one YAML document in `text`; malformed YAML is a ConfigError with line and column."""
    try:
        return _Reader(text, source).document
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_malformed(error, text, source)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"this is not YAML: the character U+{_code(error.character):04X} is not allowed"
        raise ConfigError([Problem(message, "", source, line)]) from None


def scalar(text: str) -> Any:
    """What a plain scalar means."""
    if text in _NULL:
        return None
    if text[0] in "-+.0123456789":
        if _INT(text):
            return int(text)
        return float(text) if _FLOAT(text) else text
    return _BOOL.get(text.lower(), text) if len(text) <= 5 else text


class _Reader:
    def __init__(self, text: str, source: str) -> None:
        self.document = Document({}, source)
        self._anchors: dict[str, tuple[KeyPath, Any]] = {}
        self._open: set[str] = set()
        self._depth = 0
        loader = yaml.CSafeLoader(text)
        try:
            self._next = loader.get_event
            self._read_all(source)
        finally:
            loader.dispose()

    def _read_all(self, source: str) -> None:
        self._next()  # the start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise ConfigError(
                [Problem("the file holds nothing but comments", "", source, 0, "`lb init` writes one to start from")]
            )
        event = self._next()
        tree = self._value(event, ())
        self._next()  # the end of the document
        more = self._next()
        if not isinstance(more, yaml.StreamEndEvent):
            raise ConfigError(
                [
                    Problem(
                        "a second document begins here",
                        "",
                        source,
                        _line(more),
                        "a file holds one document: remove the `---`",
                    )
                ]
            )
        if not isinstance(tree, dict):
            kind = "a list" if isinstance(tree, list) else "text" if tree is not None else "nothing"
            raise ConfigError(
                [Problem(f"the file holds {kind}, not a mapping", "", source, _line(event), "begin with `routes:`")]
            )
        self.document.tree = tree

    def _value(self, event: Any, path: KeyPath) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        value = self._scalar(event, path) if isinstance(event, yaml.ScalarEvent) else self._collection(event, path)
        if event.anchor:
            self._anchors[event.anchor] = (path, value)
        return value

    def _collection(self, event: Any, path: KeyPath) -> Any:
        if event.anchor:
            self._anchors.pop(event.anchor, None)
            self._open.add(event.anchor)
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._fatal(event, path, f"this is nested more than {DEEPEST} levels deep")
        is_list = isinstance(event, yaml.SequenceStartEvent)
        if event.tag not in (None, "!", _TAG + ("seq" if is_list else "map")):
            self._unsupported(event, path)
        value = self._sequence(path) if is_list else self._mapping(path)
        self._depth -= 1
        self._open.discard(event.anchor)
        return value

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            below = (*path, len(items))
            self._mark(below, event)
            items.append(self._value(event, below))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        out: dict[str, Any] = {}
        merged: list[tuple[KeyPath, Any]] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._fatal(event, path, "a key must be plain text, not a list, a mapping or an alias")
            key = event.value
            below = (*path, key)
            if key == "<<" and event.implicit[0]:
                self._mark(below, event)
                merged.append((below, self._value(self._next(), below)))
            elif key in out:
                first = self.document.places[below].line
                message = f'the key "{key}" is given twice, first in line {first}'
                self._add(below, message, _line(event), "keep one of the two")
                self._value(self._next(), (*path, f"{key} (again, line {_line(event)})"))
            else:
                self._mark(below, event)
                out[key] = self._value(self._next(), below)
        return self._merge(out, merged, path) if merged else out

    def _merge(self, own: dict[str, Any], merged: list[tuple[KeyPath, Any]], path: KeyPath) -> dict[str, Any]:
        out = dict(own)
        for origin, value in merged:
            each = (
                [((*origin, i), item) for i, item in enumerate(value)] if isinstance(value, list) else [(origin, value)]
            )
            for place, mapping in each:
                if not isinstance(mapping, dict):
                    self._add(place, "`<<` takes a mapping, or a list of mappings", self.document.place(place).line)
                    continue
                for key in mapping.keys() - out.keys():
                    self.document.links[(*path, key)] = (*place, key)
                out = {**mapping, **out}
        return out

    def _alias(self, event: Any, path: KeyPath) -> Any:
        if event.anchor in self._open:
            raise self._fatal(
                event, path, f"*{event.anchor} stands inside &{event.anchor}: a value cannot contain itself"
            )
        if event.anchor not in self._anchors:
            raise self._fatal(event, path, f"there is no &{event.anchor} above this *{event.anchor}")
        origin, value = self._anchors[event.anchor]
        self.document.links[path] = origin
        return value

    def _scalar(self, event: Any, path: KeyPath) -> Any:
        if event.tag in (None, "!"):
            return scalar(event.value) if event.implicit[0] else event.value
        if event.tag.removeprefix(_TAG) in ("null", "bool", "int", "float"):
            return scalar(event.value)
        if event.tag != _TAG + "str":
            self._unsupported(event, path)
        return event.value

    def _mark(self, path: KeyPath, event: Any) -> None:
        self.document.places[path] = Place(self.document.source, event.start_mark.line + 1)

    def _add(self, path: KeyPath, message: str, line: int, hint: str = "") -> None:
        problem = self.document.problem(path, message, hint)
        self.document.problems.append(Problem(message, problem.where, self.document.source, line, hint))

    def _unsupported(self, event: Any, path: KeyPath) -> None:
        name = event.tag.replace(_TAG, "!!")
        self._add(path, f"the tag {name} has no meaning here", _line(event), "write a plain value")

    def _fatal(self, event: Any, path: KeyPath, message: str) -> ConfigError:
        where = self.document.problem(path[:20], "").where
        return ConfigError([*self.document.problems, Problem(message, where, self.document.source, _line(event))])


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _code(character: int | str | bytes) -> int:
    return character if isinstance(character, int) else ord(character[:1])


def _malformed(error: yaml.MarkedYAMLError, text: str, source: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    place = f"in column {column}" if line <= len(lines) else "at the end of the file"
    line = min(line, len(lines))
    context = f" {error.context}" if error.context else ""
    message = f"this is not YAML: {error.problem}{context}, {place}"
    here = lines[line - 1]
    hint = ""
    if "\t" in here:
        hint = "YAML is indented with spaces, not with tabs"
    elif "mapping values are not allowed" in message:
        hint = "look for a missing line break, or quote a value that holds `: `"
    elif "*" in here and "alias" in message:
        hint = 'quote a host that begins with `*`: "*.example.com"'
    elif here.lstrip().startswith(("@", "`", "%")):
        hint = "quote a value that begins with a special character"
    return Problem(message, "", source, line, hint)
