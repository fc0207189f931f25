"""`lb check`, `lb init` and `lb schema`: commands about the configuration file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lb_core.cli.app import CONFIG, DONE, lb, report_problems
from lb_core.cli.source import config_option, file_or_usual, open_balancer, quiet_about_plugins
from lb_core.errors import ConfigError

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer

TEMPLATE = Path(__file__).with_name("lb.yaml")


@lb.command()
@click.argument("file", required=False, type=click.Path(readable=False))
@config_option
@click.option("--resolve", is_flag=True, help="Look up the names of backends too; those not found are named.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(file: str | None, path: str | None, resolve: bool, as_json: bool) -> int:
    """Check a configuration file without serving it.

    Shows everything that is wrong with it at once, and ends with status 3 then. Default: lb.yaml, lb.yml, lb.toml or
    balancer.py of this directory.
    """
    if file and path:
        raise click.UsageError("give the file once, with -c or without")
    path = file_or_usual(file or path)
    quiet_about_plugins()
    try:
        balancer = open_balancer(path)
        workers = _workers(balancer)
    except ConfigError as error:
        if not as_json:
            report_problems(error)
            return CONFIG
        _print_json({"ok": False, "file": path, "problems": [_problem(problem) for problem in error.problems]})
        return CONFIG
    if as_json:
        unresolved = {"unresolved": _unresolved(balancer)} if resolve else {}
        _print_json({"ok": True, "file": path, "problems": [], **_contents(balancer, workers), **unresolved})
    else:
        click.echo("\n".join(_summary(path, balancer, workers)))
        for name, problem in _unresolved(balancer).items() if resolve else ():
            click.echo(f"  warning    {name} does not resolve: {problem}")
    return DONE


@lb.command()
@click.argument("file", default="lb.yaml", type=click.Path(dir_okay=False))
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def init(file: str, force: bool) -> int:
    """Write a commented lb.yaml to start from."""
    path = Path(file)
    text = TEMPLATE.read_text(encoding="utf-8")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        raise click.ClickException(f"{path} exists: name another file, or replace it with --force") from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror or error}") from None
    click.echo(f"wrote {path}; next: edit its backends, `lb check {path}`, `lb run -c {path}`")
    return DONE


@lb.command()
def schema() -> int:
    """Print the JSON schema of the configuration, for editors.

    \b
    lb schema > lb.schema.json
    # then, as the first line of lb.yaml:
    # yaml-language-server: $schema=lb.schema.json
    """
    from lb_core.config import json_schema
    from lb_core.plugins import Plugins

    _print_json(json_schema(Plugins.discover()))
    return DONE


def _problem(problem: Any) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in ("message", "where", "file", "line", "hint")}


def _workers(balancer: LoadBalancer) -> int:
    """How many workers the file means here; raises ConfigError where it cannot be sent to them."""
    from lb_core.workers.pickling import packed
    from lb_core.workers.wanted import wanted_workers

    workers = wanted_workers(balancer.config)
    if workers > 1:
        packed(balancer.config)
    return workers


def _contents(balancer: LoadBalancer, workers: int) -> dict[str, Any]:
    config = balancer.config
    return {
        "workers": workers,
        "listeners": {listener.name: listener.address for listener in config.listeners},
        "routes": [route.name for route in config.routes],
        "backends": sum(len(pool.backends) for pool in config.pools),
        "plugins": [each.name for each in balancer.plugins.loaded],
        "broken_plugins": {each.name: each.error for each in balancer.plugins.broken},
    }


def _summary(path: str, balancer: LoadBalancer, workers: int) -> list[str]:
    from lb_core.units import counted

    contents = _contents(balancer, workers)
    auto = f", by auto: this machine has {counted(workers, 'core')} for it" if balancer.config.workers == "auto" else ""
    return [
        f"{path}: good",
        *([f"  workers    {workers}{auto}"] if workers > 1 or auto else []),
        f"  listeners  {', '.join(f'{name} {address}' for name, address in contents['listeners'].items())}",
        f"  routes     {len(contents['routes'])}: {', '.join(contents['routes'])}",
        f"  backends   {contents['backends']}",
        f"  plugins    {', '.join(contents['plugins'])}",
        *(f"  left out   plugin {name}: {error}" for name, error in contents["broken_plugins"].items()),
    ]


def _unresolved(balancer: LoadBalancer) -> dict[str, str]:
    """The names of backends that do not resolve here and now, and why."""
    import asyncio

    from lb_core.names import unresolved

    hosts = (backend.host for pool in balancer.pools.values() for backend in pool.backends)
    return asyncio.run(unresolved(balancer.resolver, hosts))


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, default=str))
