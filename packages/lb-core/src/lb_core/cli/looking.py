"""`lb routes`, `lb plugins` and `lb explain`: commands that show and change nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from lb_core.cli.app import DONE, FAILED, lb
from lb_core.cli.columns import columns
from lb_core.cli.source import config_option, installed, open_balancer, quiet_about_plugins
from lb_core.errors import LbError
from lb_core.headers import check_field

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer
    from lb_core.config import RouteConfig
    from lb_core.explain import Explanation
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


def _address(_ctx: click.Context, _option: click.Parameter, text: str) -> str:
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@lb.command()
@click.argument("method")
@click.argument("url")
@config_option
@click.option(
    "--client", metavar="IP", default="127.0.0.1", callback=_address, show_default=True, help="Address of the client."
)
@click.option(
    "-H", "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="A request header; may be repeated."
)
@json_option
def explain(method: str, url: str, path: str | None, client: str, headers: tuple[str, ...], as_json: bool) -> int:
    """Say where a request would go, and why.

    Nothing is sent and nothing is checked: backends with a health check are taken for good ones.

    \b
    lb explain GET https://example.com/v2/users --client 192.0.2.7
    """
    fields = dict(_header(header) for header in headers)
    balancer = open_balancer(path)
    _assume_health(balancer)
    try:
        explanation = balancer.explain(method.upper(), url, client=client, headers=fields)
    except LbError as error:
        raise click.UsageError(str(error)) from error
    click.echo(json.dumps(explanation.as_data(), indent=2) if as_json else "\n".join(_explained(explanation)))
    return DONE


def _assume_health(balancer: LoadBalancer) -> None:
    """Take backends that wait for a first check for good ones: nothing is checked here, and the choice is asked for."""
    for pool in balancer.pools.values():
        pool.notify = lambda _event: None  # nothing has happened
        for backend in pool.backends:
            if backend.health == "starting":
                pool.set_health(backend, "up", "assumed, nothing is checked here")


def _explained(found: Explanation) -> list[str]:
    if not found.route:
        return [f"no route: {found.why}", f"  {found.outcome}", "  `lb routes` lists what there is"]
    rows = [
        [
            each.name,
            each.address,
            f"{each.state}: {each.reason}" if each.reason else each.state,
            str(each.weight),
            str(each.in_flight),
            "yes" if each.candidate else "no",
        ]
        for each in found.backends
    ]
    return [
        f"route     {found.route}",
        f"because   {found.why}",
        f"plugins   {', then '.join(found.plugins)}",
        f"strategy  {found.strategy}",
        *columns(["BACKEND", "ADDRESS", "STATE", "WEIGHT", "IN FLIGHT", "CANDIDATE"], rows),
        f"choice    {found.choice or '-'}: {found.outcome}",
    ]


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is no header: write 'Name: value'", param_hint="'-H'")
    try:
        check_field(name.strip(), value.strip())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'-H'") from error
    return name.strip(), value.strip()


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
            ", ".join((*each.strategies, *each.features)) or "-",
            ", ".join(each.hooks),
        ]
        for each in found.loaded
    ]
    broken = [f"left out: {each.name} ({each.distribution}): {each.error}" for each in found.broken]
    return [*columns(["PLUGIN", "PACKAGE", "PROVIDES", "HOOKS"], rows, indent=""), *broken]
