"""What is laid over every node's file, as Redis keeps it: a document with a version and the versions before.

    {"version": 7, "history": [{"version": 6, …}, {"version": 7, "who": …, "when": …, "change": …, "patches": […]}]}

An edit is a JSON merge patch (RFC 7396). Two of them become one where that comes to the same; where the earlier one
removes or replaces what the later one writes into, both are kept, in their order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lb_core import LbError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Patch = dict[str, Any]

EDITABLE = ("routes", "pools", "defaults")
"""What an edit may change. Who can write to Redis decides about these, and about nothing else on a node."""
HISTORY = 20
MOST_PATCHES = 100
LARGEST_PATCH = 64 * 1024
LARGEST = 1024 * 1024
"""Bytes of the document; older versions are forgotten first."""
DEEPEST = 40


class EditRefused(LbError):
    """An edit cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version: who made it, when (seconds since the epoch), by which change, and all patches with it."""

    number: int
    when: float = 0.0
    who: str = ""
    change: Patch | None = None
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True, slots=True)
class Edition:
    """The present version and those before it, the oldest first."""

    history: tuple[Version, ...] = (Version(0),)

    @property
    def present(self) -> Version:
        """The newest version."""
        return self.history[-1]

    @property
    def version(self) -> int:
        """Its number; 0 where nothing was ever edited."""
        return self.present.number

    @property
    def patches(self) -> tuple[Patch, ...]:
        """What is laid over the file."""
        return self.present.patches

    def edited(self, patch: Patch, *, who: str, when: float) -> Edition:
        """The edition after one more edit. Raises EditRefused."""
        check(patch)
        return self._followed_by(patch, composed(self.patches, patch), who, when)

    def undone(self, number: int | None, *, who: str, when: float) -> Edition:
        """The edition that is again what version `number` was; without one, what the version before was."""
        if number is None:
            if self.version == 0:
                raise EditRefused("nothing was edited yet: there is nothing to undo")
            number = self.version - 1
        return self._followed_by(None, self.at(number).patches, who, when)

    def at(self, number: int) -> Version:
        """A version that is still known. Raises EditRefused."""
        found = next((each for each in self.history if each.number == number), None)
        if found is None and number == 0:
            return Version(0)
        if found is None:
            known = ", ".join(str(each.number) for each in self.history)
            raise EditRefused(f"version {number} is not known any more, or not yet; there are {known}")
        return found

    def _followed_by(self, change: Patch | None, patches: tuple[Patch, ...], who: str, when: float) -> Edition:
        if len(patches) > MOST_PATCHES:
            raise EditRefused(
                f"these are more than {MOST_PATCHES} edits that cannot be put together: write them into the file"
            )
        made = Version(self.version + 1, when, who, change, patches)
        history = (*self.history, made)[-HISTORY:]
        while len(seal(Edition(history))) > LARGEST:
            if len(history) == 1:
                raise EditRefused(f"the edits have more than {LARGEST} bytes: write them into the file")
            history = history[1:]
        return Edition(history)


def check(patch: object) -> None:
    """Whether this may be an edit at all. Raises EditRefused."""
    if not isinstance(patch, dict) or not patch:
        raise EditRefused('an edit is a mapping like {"routes": {"example.com": {"queue": 200}}}')
    for key in patch:
        if key not in EDITABLE:
            raise EditRefused(
                f'"{key}" cannot be edited, only {", ".join(EDITABLE)}: write it into the file of each node'
            )
    large = _holds_too_many(patch)
    if not large:
        _check_value(patch, "", 0)
        large = len(json.dumps(patch)) > LARGEST_PATCH
    if large:
        raise EditRefused(f"an edit has {LARGEST_PATCH} bytes at most: make several of it")


def composed(patches: Sequence[Patch], patch: Patch) -> tuple[Patch, ...]:
    """The patches with one more after them, put together with the last one where that comes to the same."""
    if not patches:
        return (patch,)
    try:
        return (*patches[:-1], _compose(patches[-1], patch))
    except _Apart:
        return (*patches, patch)


def seal(edition: Edition) -> bytes:
    """An edition as Redis keeps it."""
    history = [
        {"version": one.number, "when": one.when, "who": one.who, "change": one.change, "patches": list(one.patches)}
        for one in edition.history
    ]
    return json.dumps({"version": edition.version, "history": history}, separators=(",", ":")).encode()


def unseal(data: bytes | str) -> Edition:
    """The edition in what Redis keeps. Raises EditRefused for anything that is none."""
    if len(data) > 2 * LARGEST:
        raise EditRefused(f"the edits in Redis have {len(data)} bytes, which is too much")
    try:
        document = json.loads(data)
        history = tuple(_version(each) for each in document["history"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise EditRefused(f"the edits in Redis cannot be understood: {type(error).__name__}: {error}") from None
    if not history or history[-1].number != document["version"]:
        raise EditRefused("the edits in Redis cannot be understood: their version is not in their history")
    for patch in history[-1].patches:
        check(patch)
    return Edition(history)


class _Apart(Exception):
    """Two patches cannot be put together."""


def _compose(first: Patch, then: Mapping[str, Any]) -> Patch:
    result = dict(first)
    for key, value in then.items():
        if isinstance(value, dict) and key in first:
            if not isinstance(first[key], dict):
                raise _Apart  # `first` removed or replaced what stands there, `then` writes into what is left
            result[key] = _compose(first[key], value)
        else:
            result[key] = value
    return result


def _version(data: Any) -> Version:
    change, patches = data["change"], data["patches"]
    if not isinstance(patches, list) or not all(isinstance(each, dict) for each in patches):
        raise TypeError("patches")
    if change is not None and not isinstance(change, dict):
        raise TypeError("change")
    return Version(int(data["version"]), float(data["when"]), str(data["who"])[:200], change, tuple(patches))


def _holds_too_many(patch: object) -> bool:
    """Whether it has more values than fit into its bytes: a few aliases of YAML may stand for billions."""
    waiting, seen = [patch], 0
    while waiting and seen <= LARGEST_PATCH:
        value = waiting.pop()
        seen += 1
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return bool(waiting)


def _check_value(value: object, where: str, depth: int) -> None:
    if depth > DEEPEST:
        raise EditRefused(f"{where}: this is nested too deeply")
    match value:
        case dict():
            for key, item in value.items():
                place = f"{where}.{key}" if where else str(key)
                if not isinstance(key, str):
                    raise EditRefused(f'{place}: a key is text: put it in quotes: "{key}"')
                if key == "strategy":
                    _check_strategy(item, place)
                _check_value(item, place, depth + 1)
        case list():
            for index, item in enumerate(value):
                _check_value(item, f"{where}[{index}]", depth + 1)
        case float() if value != value or value in (float("inf"), float("-inf")):
            raise EditRefused(f"{where}: {value} is no number of JSON")
        case None | str() | bool() | int() | float():
            pass
        case _:
            raise EditRefused(f"{where}: {value!r} is nothing that JSON can carry: put it in quotes")


def _check_strategy(value: object, where: str) -> None:
    """Nobody who can write to Redis may have Python code of his choice loaded."""
    name = value.get("name") if isinstance(value, dict) else value
    if isinstance(name, str) and ":" in name:
        raise EditRefused(f'{where}: "{name}" is a class of your own, which only a file may name')
