"""The installed plugins: found, checked, and asked what they offer.

There is one Plugins for each LoadBalancer. Built-ins come first, then the entry points of group `lb` in the order of
their names, then what the embedder passes. A third party's plugin that cannot be used is kept in `broken` and the
others go on; one that `require` names stops the start.

A setup hook is called on this manager, once for each plugin. Traffic hooks are called on a route's own (traffic.py).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from importlib_metadata import EntryPoint, entry_points

from lb_core import __version__
from lb_core.chain import Call, compile_chain
from lb_core.commands import Command
from lb_core.contract import TRAFFIC, HookManager
from lb_core.errors import PluginError
from lb_core.features import Feature, Section, Strategy
from lb_core.hooks import GROUP, SetupHooks, TrafficHooks
from lb_core.traffic import Shared, traffic_manager

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from pluggy import HookImpl, PluginManager

    from lb_core.balancer import LoadBalancer
    from lb_core.events import Event

log = logging.getLogger("lb.plugins")

BUILT_IN = ("lb_core.defaults",)
Declaration = TypeVar("Declaration", Strategy, Feature, Section, Command)


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin in use: where it comes from, which hooks it implements, and what it offers by name."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    object: Any = field(repr=False, compare=False)
    strategies: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Name, distribution and version, as messages show them."""
        return _origin(self.name, self.distribution, self.version)

    def as_data(self) -> dict[str, Any]:
        """What JSON can carry of it."""
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "hooks": list(self.hooks),
            "strategies": list(self.strategies),
            "features": list(self.features),
            "sections": list(self.sections),
            "commands": list(self.commands),
        }


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that is installed and cannot be used, and why."""

    name: str
    distribution: str
    error: str
    cause: BaseException | None = field(default=None, repr=False, compare=False)

    def as_data(self) -> dict[str, Any]:
        """What JSON can carry of it."""
        return {"name": self.name, "distribution": self.distribution, "error": self.error}


class Plugins:
    """The plugins of one balancer and what they offer.

    `strategies` has aliases as keys too. `manager` knows every hook; requests never go through it.
    """

    def __init__(self) -> None:
        self.manager = HookManager(SetupHooks, TrafficHooks)
        self.strategies: dict[str, Strategy] = {}
        self.features: dict[str, Feature] = {}
        self.sections: dict[str, Section] = {}
        self.commands: dict[str, Command] = {}
        self.loaded: list[LoadedPlugin] = []
        self.broken: list[BrokenPlugin] = []
        self._shared: list[Shared] = []
        self._on_event: Call | None = None

    @classmethod
    def discover(
        cls,
        *,
        require: Iterable[str] = (),
        disable: Iterable[str] = (),
        extra: Iterable[object] = (),
        built_in: Iterable[str] = BUILT_IN,
    ) -> Plugins:
        """Find, check and register every plugin.

        `require` and `disable` hold names of plugins or of distributions. `extra` are plugin objects or modules of the
        caller's own; one that breaks the contract raises, as does a built-in (`built_in` holds module names).
        Raises PluginError naming everything required that is not there.
        """
        require, blocked = tuple(require), {_normal(name) for name in disable}
        plugins = cls()
        for module in built_in:
            plugins.add(import_module(module), module.rpartition(".")[2], "lb-core", __version__)
        for each in plugins.loaded:
            if not blocked.isdisjoint((_normal(each.name), each.distribution)):
                raise PluginError(f"{each.origin} is built in and cannot be disabled; remove it from plugins.disable")
        for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, _distribution(point)[0])):
            if blocked.isdisjoint((_normal(point.name), _normal(_distribution(point)[0]))):
                plugins._load(point)
        for plugin in extra:
            plugins.add(plugin, plugins._free_name(plugin))
        plugins._demand(require, blocked)
        return plugins

    def add(self, plugin: object, name: str, distribution: str = "", version: str = "") -> None:
        """Register one plugin and what it offers; PluginError, and nothing registered, where it breaks the contract."""
        origin = _origin(name, distribution, version)
        marked = self.manager.admit(plugin, name, origin)
        try:
            strategies = self._offers(name, origin, "register_strategies", Strategy)
            features = self._offers(name, origin, "register_features", Feature)
            sections = self._offers(name, origin, "register_sections", Section)
            commands = self._offers(name, origin, "register_commands", Command)
            new_strategies = self._named(origin, strategies, self.strategies, "strategy")
            new_features = self._named(origin, features, self.features, "feature")
            new_sections = self._named(origin, sections, self.sections, "section")
            new_commands = self._named(origin, commands, self.commands, "command")
        except Exception:
            self.manager.unregister(name=name)
            raise
        self.strategies |= new_strategies
        self.features |= new_features
        self.sections |= new_sections
        self.commands |= new_commands
        offered = [tuple(each.name for each in found) for found in (strategies, features, sections, commands)]
        self.loaded.append(LoadedPlugin(name, distribution, version, tuple(marked.values()), plugin, *offered))
        traffic = frozenset(attribute for attribute, hook in marked.items() if hook in TRAFFIC)
        if traffic:
            self._shared.append((name, plugin, traffic))
        self._on_event = compile_chain(self.manager.hook.on_event, contain=_failed_to_hear)

    def traffic_manager(
        self, strategy: object, features: Sequence[tuple[str, object]], strategy_name: str
    ) -> PluginManager:
        """A route's own manager of traffic hooks; `features` are (name, object) in the order of the configuration.

        Raises PluginError for objects that break the contract and for a strategy without `select_backend`.
        """
        return traffic_manager(self._shared, (strategy_name, strategy), features)

    def notify(self, event: Event) -> None:
        """Tell every `on_event`; what one raises is logged with its name and the others still hear."""
        if self._on_event is not None:
            self._on_event(event)

    def lifespans(self, balancer: LoadBalancer) -> list[tuple[str, AbstractAsyncContextManager[None]]]:
        """The context managers of the plugins that have one, in the order to enter them."""
        found: list[tuple[str, AbstractAsyncContextManager[None]]] = []
        for name, implementation in self._implementations("lifespan"):
            try:
                context: Any = implementation.function(*[balancer for _ in implementation.argnames])
            except Exception as error:
                raise PluginError(f"plugin {name!r}: lifespan failed: {_reason(error)}") from error
            if context is None:
                continue
            if not hasattr(context, "__aenter__"):
                raise PluginError(
                    f"plugin {name!r}: lifespan returned {type(context).__name__}, not an async context manager; "
                    "put @asynccontextmanager under @hookimpl"
                )
            found.append((name, context))
        return found

    def provides(self) -> list[dict[str, Any]]:
        """Every plugin as plain data, for `lb plugins --json`; broken ones carry `error`."""
        return [*(each.as_data() for each in self.loaded), *(each.as_data() for each in self.broken)]

    def hook_order(self) -> dict[str, tuple[str, ...]]:
        """For each hook, the plugins that implement it for every route, in the order of calls."""
        names = (name for name in vars(self.manager.hook) if name[0] != "_")
        return {name: self._callers(name) for name in names}

    def _callers(self, hook: str) -> tuple[str, ...]:
        if hook in TRAFFIC or hook == "on_event":
            return tuple(each.plugin_name for each in reversed(getattr(self.manager.hook, hook).get_hookimpls()))
        return tuple(name for name, _ in self._implementations(hook))

    def _load(self, point: EntryPoint) -> None:
        distribution, version = _distribution(point)
        try:
            self.add(point.load(), point.name, distribution, version)
        except (Exception, SystemExit) as error:
            broken = BrokenPlugin(point.name, distribution, _reason(error), error)
            self.broken.append(broken)
            log.warning("plugin %r of %s is left out: %s", broken.name, distribution, broken.error)

    def _demand(self, require: Iterable[str], blocked: set[str]) -> None:
        problems, cause = [], None
        for wanted in require:
            bad = [each for each in self.broken if _answers(each, wanted)]
            if _normal(wanted) in blocked:
                problems.append(f"plugin {wanted!r} is both required and disabled; remove one of the two")
            elif bad:
                cause = bad[0].cause
                problems += [f"required plugin {e.name!r} of {e.distribution} is broken: {e.error}" for e in bad]
            elif not any(_answers(each, wanted) for each in self.loaded):
                problems.append(f"required plugin {wanted!r} is not installed: pip install {wanted}")
        if problems:
            raise PluginError("\n".join(problems)) from cause

    def _implementations(self, hook: str) -> Iterator[tuple[str, HookImpl]]:
        """The implementations of a setup hook in the order their plugins were registered."""
        by_name = {each.plugin_name: each for each in getattr(self.manager.hook, hook).get_hookimpls()}
        return ((name, by_name[name]) for name, _ in self.manager.list_name_plugin() if name in by_name)

    def _offers(self, name: str, origin: str, hook: str, kind: type[Declaration]) -> list[Declaration]:
        found = dict(self._implementations(hook)).get(name)
        if found is None:
            return []
        offers = found.function()
        if not isinstance(offers, Iterable):
            raise PluginError(f"{origin}: {hook} gave {type(offers).__name__}; yield {kind.__name__} declarations")
        declarations = list(offers)
        for each in declarations:
            if not isinstance(each, kind):
                raise PluginError(f"{origin}: {hook} gave {each!r}, which is no {kind.__name__}(…)")
        return declarations

    def _named(
        self, origin: str, new: list[Declaration], known: dict[str, Declaration], kind: str
    ) -> dict[str, Declaration]:
        """The new declarations by name and alias; a name that is taken is an error that names both owners."""
        named: dict[str, Declaration] = {}
        for declaration in new:
            for name in _names(declaration):
                if name in named:
                    raise PluginError(f"{origin}: {kind} {name!r} is declared twice")
                if name in known:
                    raise PluginError(f"{origin}: {kind} {name!r} is taken by {self._owner(known[name])}")
                named[name] = declaration
        return named

    def _owner(self, declaration: Strategy | Feature | Section | Command) -> str:
        kinds = {Strategy: "strategies", Feature: "features", Section: "sections", Command: "commands"}
        kind = kinds[type(declaration)]
        return next(each.origin for each in self.loaded if declaration.name in getattr(each, kind))

    def _free_name(self, plugin: object) -> str:
        name = base = getattr(plugin, "__name__", type(plugin).__name__)
        number = 2
        while self.manager.has_plugin(name):
            name, number = f"{base}-{number}", number + 1
        return name


def _names(declaration: Strategy | Feature | Section | Command) -> tuple[str, ...]:
    aliases = declaration.aliases if isinstance(declaration, Strategy) else ()
    return (declaration.name, *aliases)


def _failed_to_hear(implementation: HookImpl, error: Exception) -> None:
    log.error("plugin %r failed in on_event; the others go on", implementation.plugin_name, exc_info=error)


def _answers(plugin: LoadedPlugin | BrokenPlugin, wanted: str) -> bool:
    return _normal(wanted) in (_normal(plugin.name), _normal(plugin.distribution))


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("", "")


def _normal(name: str) -> str:
    """A name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _origin(name: str, distribution: str, version: str) -> str:
    return f"plugin {name!r} ({distribution} {version})" if distribution else f"plugin {name!r}"


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
