"""The contract of a plugin, checked when it is registered.

Pluggy ignores a misspelt hook until somebody looks, takes a coroutine object for a result, and binds `self` wrongly
when it is given a class. Each of these is refused here with a message that names the plugin, the hook and the next
step. Pluggy asks `parse_hookimpl_opts` about every attribute of what it registers, so that is where the checks hang.
"""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pluggy import HookimplOpts, HookspecOpts, PluginManager

from lb_core.errors import PluginError
from lb_core.hooks import GROUP, SetupHooks, TrafficHooks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence


def _arguments(specs: type) -> dict[str, tuple[str, ...]]:
    marked = [(name, spec) for name, spec in vars(specs).items() if hasattr(spec, f"{GROUP}_spec")]
    return {name: tuple(inspect.signature(spec).parameters)[1:] for name, spec in marked}


TRAFFIC: Mapping[str, tuple[str, ...]] = _arguments(TrafficHooks)
"""The traffic hooks and their arguments."""
SETUP: Mapping[str, tuple[str, ...]] = _arguments(SetupHooks)
"""The setup hooks and their arguments."""
MAY_AWAIT = "before_request"
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class HookManager(PluginManager):
    """A plugin manager for some of our hooks that refuses what breaks the contract.

    One with traffic hooks only is a route's: what registers there must not carry setup hooks.
    """

    def __init__(self, *specs: type) -> None:
        super().__init__(GROUP)
        for each in specs:
            self.add_hookspecs(each)
        self._known = {name: hooks[name] for hooks in (TRAFFIC, SETUP) for name in hooks if hasattr(self.hook, name)}
        self._owner = ""
        self._only: Collection[str] | None = None
        self._marked: list[tuple[str, str]] = []

    def admit(self, plugin: object, name: str, owner: str) -> dict[str, str]:
        """Register a plugin and return its attributes that implement a hook, each with the hook's name.

        Raises PluginError, and leaves no trace of the plugin, where it breaks the contract.
        """
        if inspect.isclass(plugin):
            raise PluginError(
                f"{owner}: the class {plugin.__name__} was given; give an instance, {plugin.__name__}(), or a module"
            )
        self._refuse_twins(plugin, name, owner)
        self._owner, self._marked = owner, []
        try:
            self.register(plugin, name)
        except Exception:
            if self.has_plugin(name):
                self.unregister(name=name)
            raise
        finally:
            self._owner = ""
        return dict(self._marked)

    def share(self, plugin: object, name: str, attributes: Collection[str]) -> None:
        """Register a plugin that was admitted elsewhere, for those of its attributes only."""
        self._only = attributes
        try:
            self.register(plugin, name)
        finally:
            self._only = None

    def _refuse_twins(self, plugin: object, name: str, owner: str) -> None:
        for taken, other in self.list_name_plugin():
            if taken == name:
                raise PluginError(f"{owner}: the name {name!r} is taken; rename one of the two")
            if other == plugin:
                raise PluginError(f"{owner}: this object, or its equal, is registered as {taken!r}; build one for each")

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        """What pluggy asks about every attribute; skipping private ones makes registering four times faster."""
        if name[0] == "_" or (self._only is not None and name not in self._only):
            return None
        opts = super().parse_hookimpl_opts(plugin, name)
        if opts is not None and self._owner:
            hook = opts.get("specname") or name
            _check(self._owner, hook, getattr(plugin, name), opts, self._known)
            self._marked.append((name, hook))
        return opts

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> HookspecOpts | None:
        """What pluggy asks about every attribute of a class of specifications."""
        return None if name[0] == "_" else super().parse_hookspec_opts(module_or_class, name)


def _check(owner: str, hook: str, call: Callable[..., object], opts: HookimplOpts, known: Mapping[str, Any]) -> None:
    if hook not in known:
        _check_unknown(owner, hook, opts, known)
        return
    place = f"{owner}: {hook}"
    if opts.get("hookwrapper") or (opts.get("wrapper") and hook in SETUP):
        kind = "wrapper" if opts.get("wrapper") else "hookwrapper"
        raise PluginError(f"{place} is marked {kind}=True; only traffic hooks take a wrapper, marked wrapper=True")
    _check_kind(place, hook, call, wrapper=bool(opts.get("wrapper")))
    _check_arguments(place, call, known[hook])


def _check_unknown(owner: str, hook: str, opts: HookimplOpts, known: Iterable[str]) -> None:
    if hook in SETUP:
        raise PluginError(
            f"{owner}: {hook} is a setup hook; it belongs in the plugin's module, "
            "not in what a Strategy or a Feature builds"
        )
    if opts.get("optionalhook"):
        return
    names = list(known)
    near = get_close_matches(hook, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(names))}"
    raise PluginError(f"{owner}: there is no hook {hook!r} ({hint})")


def _check_kind(place: str, hook: str, call: Callable[..., object], *, wrapper: bool) -> None:
    if inspect.isasyncgenfunction(call):
        raise PluginError(f"{place} is an async generator; put @asynccontextmanager under @hookimpl, or return a value")
    if inspect.iscoroutinefunction(call) and (wrapper or hook != MAY_AWAIT):
        raise PluginError(f"{place} is a coroutine function; only {MAY_AWAIT} may be one, write `def`")
    generator = inspect.isgeneratorfunction(call)
    if generator and not wrapper and hook in TRAFFIC:
        raise PluginError(f"{place} is a generator; return the result, or mark it @hookimpl(wrapper=True)")
    if wrapper and not generator:
        raise PluginError(f"{place} is marked wrapper=True and never yields")


def _check_arguments(place: str, call: Callable[..., object], known: tuple[str, ...]) -> None:
    for name, parameter in _parameters(call):
        if parameter.kind in _VARIADIC or parameter.default is not parameter.empty:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise PluginError(f"{place} takes {name!r} by keyword only; hooks are called by position, remove the `*`")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            has = f"did you mean {near[0]}?" if near else f"it has: {', '.join(known) or 'none'}"
            raise PluginError(f"{place} takes {name!r}, which the hook does not have ({has})")


def _parameters(call: Callable[..., object]) -> Sequence[tuple[str, inspect.Parameter]]:
    function = getattr(call, "__func__", None)
    return _signature(call) if function is None else _signature(function)[1:]


@lru_cache(maxsize=512)
def _signature(function: Callable[..., object]) -> Sequence[tuple[str, inspect.Parameter]]:
    """Kept, because every route checks methods of the same few classes."""
    return tuple(inspect.signature(function).parameters.items())
