"""What plugins declare: strategies, features and sections, each a name, what builds it, and its settings.

What `build` returns has traffic hooks, and may have four plain methods that are called beside the requests:

    inherit(old)    the route was rebuilt: take over counters and state from the object of the same name before
    start()         it serves from now on: watch the pool, divert requests; after `inherit` and the old one's `close`
    close()         it serves no longer (the route is gone or rebuilt, or the balancer stops): stop timers, give back
                    what was ejected or restricted; after `inherit`, and not the end of exchanges under way
    describe()      a line or a list of lines about its state, for `lb explain`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
class Use:
    """Another pool or route that a feature's settings name.

    `kind` says what is named: a pool under `pools:` or a route; `key` is where in the section, for the place of an
    error. Routes that are used acyclically may not lead back to the route itself. `health_check` is a path to check the
    backends by where nothing else does.
    """

    kind: Literal["pool", "route"]
    name: str
    key: tuple[str | int, ...] = ()
    acyclic: bool = False
    health_check: str = ""


def _uses_nothing(settings: object) -> Iterable[Use]:  # noqa: ARG001 (the signature of a declaration)
    return ()


def _replaces_nothing(settings: object) -> Iterable[str]:  # noqa: ARG001
    return ()


def _leaves_to_backends(settings: object) -> bool:  # noqa: ARG001
    return False


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature: `build(route, settings)` makes the object whose traffic hooks serve one route.

    `name` is the section of a route that switches it on; `settings` is the pydantic model of that section, which also
    accepts its short form. `build` may return None where the settings switch the feature off.

    Three functions of the settings say what the configuration must know: `uses` the other pools and routes they name,
    found at run time as `route.pools[name]` and `route.routes[name]`; `answers` whether every request is answered
    here, so that the route needs no backends; `replaces` the features this one takes the place of.
    Raises PluginError for a name that is not snake_case.
    """

    name: str
    build: Callable[[Route, Any], object | None]
    settings: type[BaseModel]
    uses: Callable[[Any], Iterable[Use]] = _uses_nothing
    answers: Callable[[Any], bool] = _leaves_to_backends
    replaces: Callable[[Any], Iterable[str]] = _replaces_nothing

    def __post_init__(self) -> None:
        _check("feature", self.name, self.build)


@dataclass(frozen=True, slots=True)
class Section:
    """A section at the top of the file: `settings` is its pydantic model, which may accept a short form too.

    Found at run time as `balancer.config.section(name)`. Raises PluginError for a name that is not snake_case.
    """

    name: str
    settings: type[BaseModel]

    def __post_init__(self) -> None:
        _check("section", self.name, self.settings)
