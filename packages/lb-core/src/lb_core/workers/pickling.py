"""A configuration on its way to the workers, and what to say of one that cannot travel.

It is pickled, so a function in it travels as the name of its module and its own. That of a Python configuration file is
refused: workers have the module as it was at the start, and would go on with the old function after a reload.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any

from lb_core.dsl import MODULE
from lb_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from lb_core.config import Config


def packed(config: Config) -> bytes:
    """A configuration as bytes; ConfigError names the sections that cannot be sent to another process."""
    try:
        return _pickled(config)
    except Exception as error:
        problems = list(_problems(config)) or [_problem("", error, config)]
        raise ConfigError(problems) from error


def unpacked(data: bytes) -> Config:
    """The configuration again."""
    config: Config = pickle.loads(data)
    return config


class Packing:
    """The last configuration that was packed, so that none is packed for each worker anew."""

    def __init__(self) -> None:
        self._last: tuple[Config, bytes] | None = None

    def check(self, config: Config) -> None:
        """Pack it; raises ConfigError."""
        self._last = config, packed(config)

    def of(self, config: Config) -> bytes:
        """A configuration as bytes."""
        if self._last is None or self._last[0] is not config:
            self._last = config, packed(config)
        return self._last[1]


class _Pickler(pickle.Pickler):
    """Refuses functions and classes that stand in a configuration file itself."""

    def reducer_override(self, value: Any) -> Any:
        """What pickle asks about every object that it has no rule of its own for."""
        if isinstance(value, (FunctionType, type)) and value.__module__ == MODULE:
            raise pickle.PicklingError(f"{value.__qualname__} stands in the configuration file")
        return NotImplemented


def _pickled(value: object) -> bytes:
    into = io.BytesIO()
    _Pickler(into, pickle.HIGHEST_PROTOCOL).dump(value)
    return into.getvalue()


def _problems(config: Config) -> Iterator[Problem]:
    """One for each section that cannot travel by itself."""
    for section in config.sections:
        yield from _fault(section.name, section.settings, config)
    for route in config.routes:
        yield from _fault(f"routes.{route.name}.strategy", route.strategy, config)
        for feature in route.features:
            yield from _fault(f"routes.{route.name}.{feature.name}", feature.settings, config)
    for pool in config.pools:
        yield from _fault(f"pools.{pool.name}", pool, config)


def _fault(path: str, value: object, config: Config) -> Iterator[Problem]:
    try:
        _pickled(value)
    except Exception as error:
        yield _problem(path, error, config)


def _problem(path: str, error: Exception, config: Config) -> Problem:
    return Problem(
        f"this cannot be sent to a worker: {error}",
        path,
        config.files[0] if config.files else "",
        0,
        "put it into a module of its own and import that, or write workers: 1",
    )
