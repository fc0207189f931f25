"""What plugins declare: strategies and features, each a name, something to build it, and its settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lb_core.errors import PluginError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from lb_core.route import Route

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}").fullmatch


def _check(kind: str, name: str, build: object) -> None:
    if not isinstance(name, str) or not _NAME(name):
        raise PluginError(f"{kind} name {name!r}: use snake_case letters, digits and _, beginning with a letter")
    if not callable(build):
        raise PluginError(f"{kind} {name!r}: build must be callable, not {type(build).__name__}")


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy: `build()` makes the object whose `select_backend` serves one route.

    With `settings` (a pydantic model) the long form `strategy: {name: …, option: …}` is validated by it and
    `build(settings)` is called instead. Raises PluginError for a name that is not snake_case.
    """

    name: str
    build: Callable[..., object]
    settings: type[BaseModel] | None = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.aliases):
            _check("strategy", name, self.build)


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature: `build(route, settings)` makes the object whose traffic hooks serve one route.

    `name` is the section of a route that switches it on; `settings` is the pydantic model of that section, which also
    accepts its short form. `build` may return None where the settings switch the feature off.
    Raises PluginError for a name that is not snake_case.
    """

    name: str
    build: Callable[[Route, Any], object | None]
    settings: type[BaseModel]

    def __post_init__(self) -> None:
        _check("feature", self.name, self.build)
