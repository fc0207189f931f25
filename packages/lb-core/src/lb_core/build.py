"""From a Document to a Config: every section checked, what is inherited merged, all problems reported at once.

A rule under `match:` shares its route's pool unless it has backends of its own or names a pool with `use:`. A host
whose rules all have pools of their own needs none itself; requests that match no rule then have no route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lb_core import known
from lb_core.choices import Installed, choose_strategy, lacking
from lb_core.distinct import Distinct
from lb_core.documents import Document, KeyPath, dotted
from lb_core.environment import SECTIONS
from lb_core.hosts import is_wildcard, normalise_pattern
from lb_core.keys import Keys
from lb_core.listener_sections import ListenerConfig
from lb_core.match_section import MatchConfig
from lb_core.merge import Scope
from lb_core.pool_building import POOL_KEYS, PoolBuilder, long_route, with_name
from lb_core.pool_sections import HealthCheckConfig, PoolConfig
from lb_core.problems import Problems
from lb_core.route_sections import FeatureChoice, RouteConfig, RouteOptions, SectionChoice, StrategyChoice
from lb_core.section import name_fault
from lb_core.sections import Config, GlobalOptions, PluginsConfig
from lb_core.settings import Settings
from lb_core.units import show
from lb_core.uses import Uses

INHERITED = ("strategy", "health_check", "timeouts", "retry", "queue", "max_body", "host_header", "send_proxy")
ROUTE_KEYS = (*POOL_KEYS, "use", "strategy", *RouteOptions.model_fields, "match")
RULE_KEYS = (*(key for key in ROUTE_KEYS if key != "match"), "name", *MatchConfig.model_fields)


def build(document: Document, plugins: Installed) -> Config:
    """Check a document against what is installed; ConfigError holds everything that is wrong."""
    return _Build(document, plugins).config()


def plugins_section(document: Document) -> PluginsConfig:
    """The section `plugins:`, which is needed before the plugins are found."""
    problems = Problems(document)
    section = problems.validate(PluginsConfig, document.tree.get("plugins") or {}, ("plugins",))
    if section is None:
        problems.raise_any()
    return section or PluginsConfig()


class _Build:
    def __init__(self, document: Document, plugins: Installed) -> None:
        self.document = document
        self.plugins = plugins
        self.problems = Problems(document)
        self.keys = Keys(self.problems, plugins)
        self.pools = PoolBuilder(self.problems, self.keys, self._expanded)
        self.uses = Uses(self.problems)
        self.routes: list[RouteConfig] = []
        self.distinct = Distinct(self.problems)
        self.announcing: dict[str, tuple[str, KeyPath]] = {}

    def config(self) -> Config:
        self._top_level()
        options = self._global_options()
        sections = self._sections()
        listeners = self._listeners()
        defaults = self._defaults()
        for name, value in self._mapping("pools").items():
            self.pools.add_named(name, value, defaults)
        for host, value in self._mapping("routes").items():
            self._host(("routes", host), host, value, defaults)
        routes = self.uses.resolve(self.routes, self.pools.pools)
        checks = self.uses.checks(routes)
        self.problems.raise_any()
        return Config(
            **{name: getattr(options, name) for name in GlobalOptions.model_fields},
            listeners=listeners,
            sections=sections,
            routes=routes,
            pools=tuple(_checked(self._announcing(pool), checks) for pool in self.pools.pools.values()),
            files=self.document.files,
        )

    # the top of the file

    def _top_level(self) -> None:
        for key, value in self.document.tree.items():
            package = known.package_of("sections", key)
            if key in SECTIONS or key in self.plugins.sections or key.startswith("x-") or (package and value is None):
                continue
            if key == "version":
                if value not in (1, "1"):
                    self.problems.add((key,), f"{show(value)} is not a version of this format", "write version: 1")
            elif package:
                self.problems.add((key,), f'the section "{key}" is in {package}', lacking(package, self.plugins))
            else:
                self.problems.add(
                    (key,),
                    f'unknown key "{key}"',
                    known.suggestion(key, ("version", *SECTIONS, *self.plugins.sections)),
                )

    def _global_options(self) -> GlobalOptions | None:
        tree = self.document.tree
        own = {key: tree[key] for key in GlobalOptions.model_fields if tree.get(key) is not None}
        return self.problems.validate(GlobalOptions, own, ())

    def _sections(self) -> tuple[SectionChoice, ...]:
        """What belongs to plugins; a section that is off or empty is none."""
        found = []
        for name, section in self.plugins.sections.items():
            value = self.document.tree.get(name)
            if value is not None and value is not False:
                settings = self.problems.validate(section.settings, {} if value is True else value, (name,))
                if settings is not None:
                    found.append(SectionChoice(name=name, settings=settings))
        return tuple(found)

    def _listeners(self) -> tuple[ListenerConfig, ...]:
        found: dict[tuple[str, int, str], ListenerConfig] = {}
        listeners = []
        for name, value in (self._mapping("listeners") or {"web": ":8080"}).items():
            path = ("listeners", name)
            self.keys.check("listeners", path, value, ListenerConfig.keys())
            if fault := name_fault(name, "listener"):
                self.problems.add(path, fault)
            listener = self.problems.validate(ListenerConfig, with_name(name, ListenerConfig, value), path)
            if listener is None:
                continue
            other = found.setdefault((listener.host, listener.port, listener.path), listener)
            if other is not listener and (listener.port or listener.path):
                message = f'"{listener.address}" is the address of listener {other.name} too'
                self.problems.add(path, message, "keep one of the two")
            listeners.append(listener)
        return tuple(listeners)

    def _defaults(self) -> Scope:
        """What every route inherits; checked by itself, so that a mistake is reported once and without any route."""
        built_in = known.built_in()
        for name in [key for key in built_in if key not in ROUTE_KEYS and key not in self.plugins.features]:
            del built_in[name]  # a feature whose plugin is not there
        own = self._mapping("defaults")
        misplaced = [key for key in own if key in ROUTE_KEYS and key not in INHERITED]
        for key in misplaced:
            hint = f"defaults may hold {', '.join(INHERITED)} and features"
            self.problems.add(("defaults", key), f'"{key}" belongs to a route', hint)
        self.keys.check_route(("defaults",), own, (*INHERITED, *misplaced))
        scope = Scope(("defaults",), self._expanded(own, *misplaced), Scope((), built_in))
        self._strategy(scope)
        self._features(scope)
        self._route_options(scope, None)
        self.pools.health_check(scope)
        return scope

    # routes

    def _host(self, path: KeyPath, text: str, value: object, defaults: Scope) -> None:
        own = long_route(value)
        if not isinstance(own, dict):
            message = "this route is empty" if value is None else f"{show(value)} is not a route"
            self.problems.add(path, message, "write backends: [host:port, …] below it")
            return
        try:
            host = normalise_pattern(text)
        except ValueError as error:
            self.problems.add(path, str(error))
            host = text or "-"
        self.keys.check_route(path, own, ROUTE_KEYS)
        rules = self._rules(path, own.get("match"))
        scope = Scope(path, self._expanded(own, "match"), defaults)
        pool = self.pools.of(scope, host, _probe_host(host)) or self._unneeded(scope, host)
        if pool:
            self._route(scope, host, host, MatchConfig(), 0, pool)
        elif not rules:
            hint = "add backends: [host:port, …], or use: and the name of a pool"
            self.problems.add(path, "this route has no backends", hint)
        for index, rule in enumerate(rules):
            self._rule((*path, "match", index), scope, host, rule, index + 1, pool)

    def _rules(self, path: KeyPath, value: object) -> list[Any]:
        if isinstance(value, dict):
            return [value]
        if value is not None and not isinstance(value, list):
            hint = "write - {path_prefix: /v2, …}"
            self.problems.add((*path, "match"), f"{show(value)} is not a list of rules", hint)
            return []
        return value or []

    def _rule(self, path: KeyPath, outer: Scope, host: str, rule: object, order: int, shared: str) -> None:
        if not isinstance(rule, dict):
            self.problems.add(path, f"{show(rule)} is not a rule", "write {path_prefix: /v2, …}")
            return
        complete = self.keys.check_route(path, rule, RULE_KEYS)
        conditions = {key: rule[key] for key in MatchConfig.model_fields if rule.get(key) is not None}
        match = self.problems.validate(MatchConfig, conditions, path)
        inherited = Scope(outer.path, _without(outer.own, "backends", "containers", "use"), outer.outer)
        scope = Scope(path, self._expanded(rule, "name", *MatchConfig.model_fields), inherited)
        name = self._rule_name(path, rule, f"{host} {match.label() if match else order}".strip())
        own_pool = self.pools.of(scope, name, _probe_host(host))
        if not own_pool and not shared:
            own_pool = self._unneeded(scope, name)
        if not own_pool and not shared:
            self.problems.add(
                path, "this rule has no backends, and its route has none to share", "add backends: or use:"
            )
        if not own_pool and "health_check" in scope.own:
            hint = "set health_check there, or give the rule backends of its own"
            self.problems.add((*path, "health_check"), "this rule shares the backends of its route", hint)
        # a rule with a misspelt matcher would seem to match everything
        self._route(scope, name, host, match if complete else None, order, own_pool or shared)

    def _rule_name(self, path: KeyPath, rule: dict[str, Any], usual: str) -> str:
        name = rule.get("name")
        if name is None:
            return usual
        if not isinstance(name, str) or not name.strip():
            self.problems.add((*path, "name"), f"{show(name)} is not a name", "write a text in quotes")
            return usual
        return name

    def _route(self, scope: Scope, name: str, host: str, match: MatchConfig | None, order: int, pool: str) -> None:
        if match:
            self.distinct.note(scope.path, name, host, match)
        strategy = self._strategy(scope)
        features = self._features(scope)
        for choice in features:
            for use in self.plugins.features[choice.name].uses(choice.settings):
                self.uses.note(name, use, scope.paths(choice.name))
        options = self._route_options(scope, match)
        if strategy and options and match and pool:
            self._announce(scope.path, pool, options.send_proxy)
            values = {each: getattr(options, each) for each in RouteOptions.model_fields}
            route = RouteConfig(
                name=name,
                host=host,
                match=match,
                order=order,
                pool=pool,
                strategy=strategy,
                features=features,
                **values,
            )
            self.routes.append(route)

    def _unneeded(self, scope: Scope, name: str) -> str:
        """An empty pool for a route whose every request a feature answers; else nothing."""
        chosen = self._features(scope)
        answered = any(self.plugins.features[each.name].answers(each.settings) for each in chosen)
        return self.pools.without_backends(name) if answered else ""

    def _announce(self, path: KeyPath, pool: str, send_proxy: str) -> None:
        """Note what a route says to its pool: a backend expects a PROXY header from everybody or from nobody."""
        said, first = self.announcing.setdefault(pool, (send_proxy, path))
        if said != send_proxy:
            message = f"send_proxy is {send_proxy} here and {said} for {dotted(first)}, which has the same backends"
            self.problems.add((*path, "send_proxy"), message, "say the same in both")

    def _announcing(self, pool: PoolConfig) -> PoolConfig:
        said, _ = self.announcing.get(pool.name, ("off", ()))
        return pool if said == "off" else pool.model_copy(update={"send_proxy": said})

    def _strategy(self, scope: Scope) -> StrategyChoice | None:
        # never merged: options belong to the strategy they were written for
        return choose_strategy(scope.nearest("strategy"), self.plugins, self.problems, *scope.paths("strategy"))

    def _route_options(self, scope: Scope, match: MatchConfig | None) -> RouteOptions | None:
        values = {key: scope.merged[key] for key in RouteOptions.model_fields if key in scope.merged}
        prefix = values.get("strip_prefix")
        if isinstance(prefix, bool):
            values["strip_prefix"] = match.path_prefix if prefix and match else ""
            if prefix and match and not match.path_prefix:
                message = "true needs a path_prefix to strip"
                self.problems.add((*scope.path, "strip_prefix"), message, "write the prefix")
        return self.problems.validate(RouteOptions, values, *scope.paths())

    def _features(self, scope: Scope) -> tuple[FeatureChoice, ...]:
        chosen = []
        for name, value in scope.merged.items():
            feature = self.plugins.features.get(name)
            if feature is None or value is False:
                continue
            if value is None:
                hint = "write `true` for its defaults, `off` to switch it off"
                self.problems.add((*scope.path, name), "this section is empty", hint)
                continue
            value = {} if value is True else value
            settings = self.problems.validate(feature.settings, value, *scope.paths(name))
            if settings is not None:
                chosen.append(FeatureChoice(name=name, settings=settings))
        by = {name: each.name for each in chosen for name in self.plugins.features[each.name].replaces(each.settings)}
        for name in by.keys() & scope.own.keys():
            if scope.own[name] is not False:
                message = f"{by[name]} takes the place of {name} here, which would do nothing"
                self.problems.add((*scope.path, name), message, f"leave it out, or write {by[name]}: off")
        return tuple(each for each in chosen if each.name not in by)

    # sections

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self.document.tree.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problems.add((key,), f"{show(value)} is not a mapping", f"write the {key} as name: value")
            return {}
        return value

    def _expanded(self, own: dict[str, Any], *without: str) -> dict[str, Any]:
        """Sections ready to be inherited: in their long form, and without core's that were left empty."""
        out: dict[str, Any] = {}
        for key, value in own.items():
            if key in without or (value is None and key in (*INHERITED, *RouteOptions.model_fields)):
                continue
            model = self._model(key)
            out[key] = model.expand(value) if model and not isinstance(value, bool) and value is not None else value
        return out

    def _model(self, key: str) -> type[Settings] | None:
        if key == "health_check":
            return HealthCheckConfig
        feature = self.plugins.features.get(key)
        return feature.settings if feature and issubclass(feature.settings, Settings) else None


def _checked(pool: PoolConfig, paths: Mapping[str, str]) -> PoolConfig:
    """A pool without checks of its own, with those that a feature asks for."""
    if pool.health_check is not None or pool.name not in paths:
        return pool
    return pool.model_copy(update={"health_check": HealthCheckConfig(path=paths[pool.name])})


def _probe_host(host: str) -> str:
    return "" if is_wildcard(host) else host


def _without(own: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in own.items() if key not in keys}
