"""How sections are inherited: key by key, the nearer one wins.

built in (known.toml)  <  `defaults:`  <  the route  <  a rule under its `match:`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lb_core.documents import KeyPath


def merge(base: Any, own: Any) -> Any:
    """`own` over `base`: mappings key by key, `true` keeps what it finds, everything else replaces."""
    if isinstance(base, Mapping):
        if own is True:
            return base
        if isinstance(own, Mapping):
            out = dict(base)
            for key, value in own.items():
                out[key] = merge(base[key], value) if key in base else value
            return out
    return own


def inherit(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A route's sections: the inherited ones it leaves alone first, then its own in its own order."""
    out = {key: value for key, value in base.items() if key not in own}
    for key, value in own.items():
        out[key] = merge(base[key], value) if key in base else value
    return out


@dataclass(slots=True)
class Scope:
    """A set of sections: what it says itself, what it inherits, and where both were written."""

    path: KeyPath
    own: dict[str, Any]
    outer: Scope | None = None
    merged: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.merged = inherit(self.outer.merged, self.own) if self.outer else self.own

    def paths(self, *below: str) -> list[KeyPath]:
        """The places a value may come from, the nearest first."""
        outer = self.outer.paths(*below) if self.outer else []
        return [(*self.path, *below), *outer]

    def nearest(self, key: str) -> Any:
        """The value of a key that is replaced as a whole; None where nobody gives one."""
        if key in self.own or self.outer is None:
            return self.own.get(key)
        return self.outer.nearest(key)
