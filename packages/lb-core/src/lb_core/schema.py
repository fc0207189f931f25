"""The JSON schema of a configuration file, for editors: core's own sections and those of the installed plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from lb_core.listener_sections import ListenerConfig
from lb_core.match_section import MatchConfig
from lb_core.pool_sections import BackendConfig, HealthCheckConfig
from lb_core.route_sections import RouteOptions
from lb_core.sections import GlobalOptions

if TYPE_CHECKING:
    from pydantic import BaseModel

    from lb_core.choices import Installed

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_OFF: Schema = {"const": False}
_NAME: Schema = {"type": "string"}


def json_schema(plugins: Installed) -> Schema:
    """The JSON schema (draft 2020-12) of what the loader accepts, with the plugins that are installed."""
    strategies = {each.name: each for each in plugins.strategies.values()}
    models: list[type[BaseModel]] = [
        GlobalOptions,
        ListenerConfig,
        BackendConfig,
        HealthCheckConfig,
        RouteOptions,
        MatchConfig,
    ]
    models += [each.settings for each in strategies.values() if each.settings]
    models += [each.settings for each in plugins.features.values()]
    models += [each.settings for each in plugins.sections.values()]
    refs, whole = models_json_schema([(model, "validation") for model in dict.fromkeys(models)])
    defs: Schema = whole.get("$defs", {})
    ref = {model: refs[(model, "validation")] for model in models}
    options, limits = _taken(defs, ref[RouteOptions]), _taken(defs, ref[MatchConfig])
    features = {name: _feature(ref[each.settings]) for name, each in plugins.features.items()}
    check: Schema = {"anyOf": [_OFF, ref[HealthCheckConfig]], "description": "active checks of the backends"}
    inherited = {
        "strategy": {"$ref": "#/$defs/strategy"},
        "health_check": check,
        **{key: part for key, part in options.items() if key not in ("strip_prefix", "priority")},
        **features,
    }
    backends = {"backends": {"$ref": "#/$defs/backends"}, "containers": {"$ref": "#/$defs/backends"}}
    route = {**backends, **inherited, **options, "use": _NAME}
    defs |= {
        "strategy": _strategy(plugins, defs, ref),
        "backends": _backends(ref[BackendConfig]),
        "rule": _mapping({**route, **limits, "name": _NAME}),
        "route": _short(
            _mapping(
                {
                    **route,
                    "match": {
                        "anyOf": [{"type": "array", "items": {"$ref": "#/$defs/rule"}}, {"$ref": "#/$defs/rule"}]
                    },
                }
            )
        ),
        "pool": _short(_mapping({**backends, "health_check": check})),
    }
    top = {
        "version": {"enum": [1, "1"]},
        "listeners": {"type": "object", "additionalProperties": ref[ListenerConfig]},
        **_taken(defs, ref[GlobalOptions]),
        **{name: {"anyOf": [_OFF, ref[each.settings]]} for name, each in plugins.sections.items()},
        "defaults": _mapping(inherited),
        "routes": {"type": "object", "additionalProperties": {"$ref": "#/$defs/route"}},
        "pools": {"type": "object", "additionalProperties": {"$ref": "#/$defs/pool"}},
    }
    optional = {key: {"anyOf": [part, {"type": "null"}]} for key, part in top.items()}
    return {
        "$schema": DIALECT,
        "title": "lb configuration",
        **_mapping(optional),
        "patternProperties": {"^x-": {}},
        "$defs": defs,
    }


def _taken(defs: Schema, ref: Schema) -> Schema:
    """The properties of a model that is a part of several mappings, and no definition of its own."""
    properties: Schema = defs[ref["$ref"].rpartition("/")[2]]["properties"]
    return properties


def _mapping(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _short(mapping: Schema) -> Schema:
    return {"anyOf": [_NAME, {"type": "array", "items": {"$ref": "#/$defs/BackendConfig"}}, mapping]}


def _feature(settings: Schema) -> Schema:
    return {"anyOf": [{"type": "boolean"}, settings]}


def _backends(backend: Schema) -> Schema:
    many = [
        {"type": "object", "additionalProperties": backend, "minProperties": 1},
        {"type": "array", "items": backend, "minItems": 1},
    ]
    return {"anyOf": [_NAME, *many], "description": "name: host:port, or a list of addresses"}


def _strategy(plugins: Installed, defs: Schema, ref: dict[type[BaseModel], Schema]) -> Schema:
    own = {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"}
    long: list[Schema] = [{"type": "object", "required": ["name"], "properties": {"name": own}}]
    for strategy in {each.name: each for each in plugins.strategies.values()}.values():
        options = _long_form(defs, ref[strategy.settings]) if strategy.settings else {}
        names = {"name": {"enum": [strategy.name, *strategy.aliases]}}
        required = ["name", *options.get("required", ())]
        long.append({**_mapping({**names, **options.get("properties", {})}), "required": required})
    return {"anyOf": [{"enum": sorted(plugins.strategies)}, own, *long], "description": "how a backend is chosen"}


def _long_form(defs: Schema, ref: Schema) -> Schema:
    """The mapping of a model, beside which there may be a short form."""
    schema: Schema = defs[ref["$ref"].rpartition("/")[2]]
    return next((each for each in schema.get("anyOf", ()) if "properties" in each), schema)
