"""`lb routes` and `lb plugins`: commands that show and change nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from lb_core.cli.app import DONE, FAILED, lb
from lb_core.cli.source import config_option, installed, open_balancer, quiet_about_plugins
from lb_core.columns import columns

if TYPE_CHECKING:
    from lb_core.config import RouteConfig
    from lb_core.plugins import Plugins

json_option = click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")


@lb.command()
@config_option
@json_option
def routes(path: str | None, as_json: bool) -> int:
    """List the routes, in the order in which they are tried."""
    balancer = open_balancer(path)
    found = [_route(rule.route.config, [b.address for b in rule.route.pool.backends]) for rule in balancer.table.rules]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return DONE
    rows = [
        [
            each["host"],
            each["match"] or "-",
            each["strategy"],
            ", ".join(each["features"]) or "-",
            ", ".join(each["backends"]),
        ]
        for each in found
    ]
    click.echo("\n".join(columns(["HOST", "MATCH", "STRATEGY", "FEATURES", "BACKENDS"], rows, indent="")))
    return DONE


@lb.command()
@config_option
@click.option("--hooks", is_flag=True, help="Show which plugins implement each hook, in the order of calls.")
@json_option
def plugins(path: str | None, hooks: bool, as_json: bool) -> int:
    """List the installed plugins.

    One that cannot be used is named with the reason, and the status is 1.
    """
    quiet_about_plugins()
    found = installed(path)
    if as_json:
        click.echo(json.dumps(found.hook_order() if hooks else found.provides(), indent=2))
    elif hooks:
        rows = [[hook, ", ".join(names)] for hook, names in sorted(found.hook_order().items()) if names]
        click.echo("\n".join(columns(["HOOK", "PLUGINS"], rows, indent="")))
        click.echo("What strategies and features do is called on their routes only: `lb explain` prints that order.")
    else:
        click.echo("\n".join(_plugin_lines(found)))
    return FAILED if found.broken else DONE


def _route(config: RouteConfig, backends: list[str]) -> dict[str, Any]:
    return {
        "name": config.name,
        "host": config.host,
        "match": match_text(config),
        "strategy": config.strategy.name,
        "features": [feature.name for feature in config.features],
        "pool": config.pool,
        "backends": backends,
    }


def match_text(config: RouteConfig) -> str:
    """What a route asks for besides the host, in one line; empty for nothing."""
    match = config.match
    parts = [f"={match.path}" if match.path else f"{match.path_prefix}*" if match.path_prefix else ""]
    parts += ["|".join(match.methods)]
    parts += [f"{name}: {value}" for name, value in match.headers.items()]
    parts += [f"?{name}={value}" for name, value in match.query.items()]
    parts += [f"from {network}" for network in match.clients]
    parts += [f"priority {config.priority}" if config.priority else ""]
    return " ".join(part for part in parts if part)


def _plugin_lines(found: Plugins) -> list[str]:
    rows = [
        [
            each.name,
            f"{each.distribution} {each.version}".strip() or "-",
            ", ".join((*each.strategies, *each.features, *(f"lb {name}" for name in each.commands))) or "-",
            ", ".join(each.hooks),
        ]
        for each in found.loaded
    ]
    broken = [f"left out: {each.name} ({each.distribution}): {each.error}" for each in found.broken]
    return [*columns(["PLUGIN", "PACKAGE", "PROVIDES", "HOOKS"], rows, indent=""), *broken]
