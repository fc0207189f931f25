"""A route's own plugin manager, with traffic hooks only.

Pluggy calls what was registered last first, so things are registered in the reverse of the order of calls:

    registered   plugins for every route, the strategy, the features from last to first
    called       the features as configured, the strategy, plugins for every route
"""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING

from lb_core.contract import MAY_AWAIT, HookManager
from lb_core.errors import PluginError
from lb_core.hooks import TrafficHooks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Named = tuple[str, object]
Shared = tuple[str, object, frozenset[str]]
"""A plugin for every route: its name, itself, and its attributes that implement a traffic hook."""


def traffic_manager(shared: Iterable[Shared], strategy: Named, features: Sequence[Named]) -> HookManager:
    """The manager of one route, from (name, object) pairs; a feature whose object is None is left out.

    Raises PluginError for objects that break the contract and for a strategy without `select_backend`.
    """
    manager = HookManager(TrafficHooks)
    for name, plugin, attributes in shared:
        manager.share(plugin, name, attributes)
    _enlist_strategy(manager, *strategy)
    for name, built in reversed(features):
        if built is not None:
            _enlist(manager, name, built, "feature")
    _refuse_wrapped_coroutine(manager)
    return manager


def _enlist_strategy(manager: HookManager, name: str, strategy: object) -> None:
    if "select_backend" in _enlist(manager, name, strategy, "strategy").values():
        return
    there = hasattr(strategy, "select_backend")
    hint = "mark it with @hookimpl" if there else "give it a method select_backend(self, candidates)"
    raise PluginError(f"strategy {name!r}: {type(strategy).__name__} implements no hook select_backend ({hint})")


def _enlist(manager: HookManager, name: str, built: object, kind: str) -> dict[str, str]:
    """Register what a Strategy or Feature built, under a name that is free even where a plugin is called the same."""
    free = f"{name} ({kind})" if manager.has_plugin(name) else name
    return manager.admit(built, free, f"{kind} {name!r}")


def _refuse_wrapped_coroutine(manager: HookManager) -> None:
    """Pluggy, which runs wrappers, would take the coroutine for the result."""
    found = getattr(manager.hook, MAY_AWAIT).get_hookimpls()
    wrappers = [each.plugin_name for each in found if each.wrapper]
    coroutines = [each.plugin_name for each in found if iscoroutinefunction(each.function)]
    if wrappers and coroutines:
        raise PluginError(
            f"{wrappers[0]!r} wraps {MAY_AWAIT}, which is a coroutine function in {coroutines[0]!r}; "
            "one route cannot have both"
        )
