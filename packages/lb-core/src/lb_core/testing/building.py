"""From what somebody wants to simulate to an object, with the clock and the randomness of the simulation.

    "round_robin", {"name": "ewma", "decay": "5s"}, "module:Class"     as in a configuration file
    a class or a function, a Strategy declaration                     called for each run
    an object with select_backend                                     as it is

Whatever is called gets those of `clock`, `later`, `random` and `draw` that it has parameters of that name for: the
simulated `time.monotonic` and `loop.call_later`, a seeded `random.Random`, and its `random()`. That is the convention
of the algorithms of lb: time and chance are passed in, and a default stands for the real ones. An object that was made
elsewhere and keeps `time.monotonic` in its attribute `clock` has the simulated clock there during the run.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lb_core.choices import Installed, choose_strategy
from lb_core.documents import Document
from lb_core.errors import PluginError
from lb_core.features import Strategy
from lb_core.problems import Problems
from lb_core.units import show

Offers = Mapping[str, object]
Maker = Callable[[Offers], object]


def fit(build: Callable[..., object], *given: object, offers: Offers) -> object:
    """Call `build` with what it needs and with those of the offers that it has a parameter for."""
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):  # some built-in types have no signature
        return build(*given)
    taken = list(parameters)[len(given) :]
    return build(*given, **{name: offers[name] for name in taken if name in offers})


@contextmanager
def simulated_time(parts: Iterable[Any], clock: Callable[[], float]) -> Iterator[None]:
    """Let those that keep the real clock in their attribute `clock` have another for a while."""
    moved = [part for part in parts if getattr(part, "clock", None) is time.monotonic]
    for part in moved:
        part.clock = clock
    try:
        yield
    finally:
        for part in moved:
            part.clock = time.monotonic


def maker_of(strategy: object, plugins: Callable[[], Installed]) -> tuple[str, Maker]:
    """The strategy's name, and what makes its object; `plugins` are asked for only where it is named.

    Raises ConfigError for a name or options that cannot be used, PluginError for an object that is no strategy.
    """
    if isinstance(strategy, (str, Mapping)):
        return _named(strategy, plugins())
    if isinstance(strategy, Strategy):
        return strategy.name, _called(strategy.build, strategy.settings() if strategy.settings else None)
    if not isinstance(strategy, type) and hasattr(strategy, "select_backend"):
        return type(strategy).__name__, lambda _: strategy
    if callable(strategy):
        return str(getattr(strategy, "__name__", type(strategy).__name__)), _called(strategy, None)
    raise PluginError(f"{show(strategy)} is no strategy: give its name, its class, or an object with select_backend")


def _named(value: str | Mapping[str, Any], plugins: Installed) -> tuple[str, Maker]:
    document = Document({"strategy": value}, "")
    problems = Problems(document)
    choice = choose_strategy(value, plugins, problems, ("strategy",))
    problems.raise_any()
    assert choice is not None  # else there was a problem
    return choice.name, _called(choice.custom or plugins.strategies[choice.name].build, choice.settings)


def _called(build: Callable[..., object], settings: object) -> Maker:
    given = () if settings is None else (settings,)
    return lambda offers: fit(build, *given, offers=offers)
