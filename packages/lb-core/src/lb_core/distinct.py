"""No two routes of a file take the same requests, or have the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.documents import dotted

if TYPE_CHECKING:
    from lb_core.documents import KeyPath
    from lb_core.match_section import MatchConfig
    from lb_core.problems import Problems


class Distinct:
    """The routes so far; one that is there already is noted among the problems."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._seen: dict[object, KeyPath] = {}
        self._names: dict[str, KeyPath] = {}

    def note(self, path: KeyPath, name: str, host: str, match: MatchConfig) -> None:
        """Another route of the file."""
        first = self._seen.setdefault(match.key(host), path)
        if first != path:
            if not match.label() and "match" in path:
                message = f"this rule has no condition: it takes the same requests as {dotted(first)}"
                self._problems.add(path, message, "add path_prefix, methods, headers, query or clients")
                return
            label = f"{host} {match.label()}".strip()
            self._problems.add(path, f'duplicate route "{label}", {self._given(first)}', "keep one of the two")
            return
        first = self._names.setdefault(name, path)
        if first != path:
            self._problems.add(path, f'the name "{name}" is taken, {self._given(first)}', "give one of them a name:")

    def _given(self, path: KeyPath) -> str:
        line = self._problems.document.place(path).line
        return f"first given in line {line} as {dotted(path)}" if line else f"first given as {dotted(path)}"
