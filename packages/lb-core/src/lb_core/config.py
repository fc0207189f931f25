"""Reading a configuration: from a file, or from a tree of plain data, to a Config.

    load_config("lb.yaml")              file, environment, installed plugins: everything
    config_from_tree({"routes": …})     the same checks for plain data
    read(path)  ->  Document            the file with the environment over it; not yet checked
    build(document, plugins)  ->  Config

Whatever is wrong raises one ConfigError that holds every Problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lb_core import environment
from lb_core.build import build, plugins_section
from lb_core.choices import Installed, build_strategy
from lb_core.documents import Document, parse, read_file
from lb_core.errors import Problem
from lb_core.listener_sections import ClientLimits, ClientTimeouts, ListenerConfig
from lb_core.match_section import MatchConfig
from lb_core.pool_sections import BackendConfig, HealthCheckConfig, PoolConfig
from lb_core.route_sections import FeatureChoice, Retry, RouteConfig, StrategyChoice, Timeouts
from lb_core.sections import AccessLogConfig, Config, PluginsConfig

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "AccessLogConfig",
    "BackendConfig",
    "ClientLimits",
    "ClientTimeouts",
    "Config",
    "Document",
    "FeatureChoice",
    "HealthCheckConfig",
    "Installed",
    "ListenerConfig",
    "MatchConfig",
    "PluginsConfig",
    "PoolConfig",
    "Retry",
    "RouteConfig",
    "StrategyChoice",
    "Timeouts",
    "build",
    "build_strategy",
    "config_from_tree",
    "demand_routes",
    "json_schema",
    "load_config",
    "parse",
    "plugins_section",
    "read",
    "read_file",
]


def load_config(
    path: str | Path,
    plugins: Installed | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration in a YAML, JSON, TOML or Python file, with the environment and the overrides over it.

    `plugins` are those to check against; without them the installed ones are found as the file's `plugins:` section
    says. `environ` stands for the process's environment. `overrides` is a tree like the file's; `port` in it is the
    port of the first listener. Raises ConfigError.
    """
    document = read(path, environ, overrides)
    demand_routes(document)
    return build(document, plugins or _discover(document))


def demand_routes(document: Document) -> None:
    """Note a problem where a file has no routes: it would answer everything with `no_route_status`."""
    if not document.tree.get("routes"):
        hint = 'add routes: {"*": [host:port]}'
        document.problems.append(Problem("there are no routes", "", document.source, 0, hint))


def config_from_tree(tree: Mapping[str, Any], plugins: Installed | None = None, source: str = "") -> Config:
    """The configuration in plain data shaped like a file; `source` names it in problems. Raises ConfigError."""
    document = Document(_plain(tree), source)
    return build(document, plugins or _discover(document))


def read(
    path: str | Path, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Document:
    """A file with `${…}` filled in and the environment and the overrides over it; not yet checked."""
    if str(path).endswith(".py"):
        from lb_core.dsl import execute, tree_of

        document = tree_of(execute(path), path).document(str(path))
    else:
        document = read_file(path)
    environment.apply(document, environment.process_environment() if environ is None else environ, overrides)
    return document


def json_schema(plugins: Installed) -> dict[str, Any]:
    """The JSON schema of a configuration file, with the features and strategies that are installed."""
    from lb_core.schema import json_schema

    return json_schema(plugins)


def _discover(document: Document) -> Installed:
    from lb_core.plugins import Plugins

    wanted = plugins_section(document)
    return Plugins.discover(require=wanted.require, disable=wanted.disable)


def _plain(value: Any) -> Any:
    """A copy of plain data with text for every key (YAML loaders make numbers and booleans of some)."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
