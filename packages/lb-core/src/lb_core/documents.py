"""A configuration as plain data, with the place where each value was written.

A path is a tuple of keys and list indices: `("routes", "example.com", "match", 0, "methods")`. `places` holds the paths
that were written down; `links` says where a YAML alias or merge key copied a value from. A path without a place of
its own takes the one of the nearest value around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lb_core.errors import ConfigError, Problem

Key = str | int
KeyPath = tuple[Key, ...]
Tree = dict[str, Any]

LARGEST_FILE = 32 * 1024 * 1024


class Place(NamedTuple):
    """A file (or "environment variable X", "command line") and a line; 0 where there is none."""

    file: str
    line: int


@dataclass(slots=True)
class Document:
    """A configuration that has been read, not yet checked.

    `tree` has only str keys. `problems` are those found while reading that do not keep the rest from being checked.
    `files` are the files to watch for changes.
    """

    tree: Tree
    source: str = ""
    places: dict[KeyPath, Place] = field(default_factory=dict)
    links: dict[KeyPath, KeyPath] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    files: tuple[str, ...] = ()

    def has(self, path: KeyPath) -> bool:
        """Whether the value at `path` was written there, by itself or through an alias."""
        return self._written(path) is not None

    def value(self, path: KeyPath) -> Any:
        """The value at `path`; None where there is none."""
        value: Any = self.tree
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def place(self, path: KeyPath) -> Place:
        """Where the value at `path`, or the nearest one around it, was written."""
        for end in range(len(path), -1, -1):
            if found := self._written(path[:end]):
                return found
        return Place(self.source, 0)

    def problem(self, path: KeyPath, message: str, hint: str = "") -> Problem:
        """A Problem at `path`."""
        place = self.place(path)
        return Problem(message, dotted(path), place.file, place.line, hint)

    def _written(self, path: KeyPath) -> Place | None:
        for _ in range(20):  # an alias may point into another one
            if found := self.places.get(path):
                return found
            for end in range(len(path), 0, -1):
                if origin := self.links.get(path[:end]):
                    path = origin + path[end:]
                    break
            else:
                return None
        return None


def dotted(path: KeyPath) -> str:
    """A path as messages show it: `routes.example.com.match[0].methods`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def read_file(path: str | Path) -> Document:
    """Read a YAML, JSON or TOML file; ConfigError says what is wrong with it, and where."""
    source = str(path)
    return parse(read_text(path), source, toml=source.endswith(".toml"))


def parse(text: str, source: str, *, toml: bool = False) -> Document:
    """Turn the text of a file into a Document."""
    from lb_core import toml_tree, yaml_tree

    document = toml_tree.read(text, source) if toml else yaml_tree.read(text, source)
    document.files = (source,)
    return document


def read_text(path: str | Path) -> str:
    """The text of a file: it must exist, be a file, be UTF-8, and hold something."""
    source = str(path)
    try:
        if Path(path).is_dir():
            raise _refused(source, "this is a directory, not a configuration file", _inside(Path(path)))
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise _refused(source, "there is no such file", "`lb init` writes one to start from") from None
    except OSError as error:
        raise _refused(source, f"the file cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the name
        raise _refused(source, f"this is not the name of a file: {error}") from None
    if len(data) > LARGEST_FILE:
        raise _refused(source, f"the file is larger than {LARGEST_FILE // 1024 // 1024} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise _refused(source, message, "save the file with the encoding UTF-8", line) from None
    if not text.strip():
        raise _refused(source, "the file is empty", "`lb init` writes one to start from")
    return text


def _refused(file: str, message: str, hint: str = "", line: int = 0) -> ConfigError:
    return ConfigError([Problem(message, "", file, line, hint)])


def _inside(directory: Path) -> str:
    names = sorted(each.name for each in directory.iterdir() if each.suffix in (".yaml", ".yml", ".toml", ".py"))
    return f"it holds {', '.join(names[:5])}" if names else "name a file in it"
