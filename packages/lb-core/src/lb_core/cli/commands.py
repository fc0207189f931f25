"""The commands of plugins and built-ins, as part of the group: looked for only when a name is none of lb's own."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lb_core.commands import Command

CONTROL = "Control socket of the running balancer. Default: that of the file's balancer, or the only one there is."


class Commands(click.Group):
    """lb's own commands, and those of plugins, which run inside the running balancer."""

    @cached_property
    def of_plugins(self) -> Mapping[str, click.Command]:
        """The commands that built-ins and installed plugins offer."""
        from lb_core.cli.declared import built_in, offered

        commands, problems = offered()
        for problem in problems:
            click.echo(f"lb: {problem}", err=True)
        return {command.name: _as_click(command) for command in (*commands, *built_in())}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command."""
        return super().get_command(ctx, cmd_name) or self.of_plugins.get(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all of them."""
        return sorted([*super().list_commands(ctx), *self.of_plugins])


def ask_running(control: str | None, request: Mapping[str, object], *, path: str | None = None) -> Any:
    """Ask the running balancer: the one that is named, the one of the configuration file, or the only one.

    Raises LbError where there is none, or several, and with what it says.
    """
    from lb_core.cli.source import control_of, usual_file
    from lb_core.control.client import ask, find
    from lb_core.environment import process_environment

    environ = process_environment()
    named = control or environ.get("LB_CONTROL") or control_of(path)
    file = path or usual_file()
    return ask(find(named, environ, file=os.path.abspath(file) if file else ""), request)


def _as_click(command: Command) -> click.Command:
    def run(control: str | None, arguments: tuple[str, ...], as_json: bool = False) -> None:
        if not command.accepts(len(arguments)):
            raise click.UsageError(f"lb {command.usage}: {len(arguments)} arguments are given")
        request = {"ask": "command", "name": command.name, "arguments": arguments, "json": as_json}
        click.echo(ask_running(control, request))

    parameters: list[click.Parameter] = [
        click.Argument(["arguments"], nargs=-1, metavar=" ".join(command.arguments)),
        click.Option(["--control"], metavar="PATH", help=CONTROL),
    ]
    if command.data is not None:
        parameters.append(click.Option(["--json", "as_json"], is_flag=True, help="Print JSON."))
    text = f"{command.help}\n\nRuns inside the running balancer."
    short = command.help.partition(": ")[0].rstrip(".") + "."
    return click.Command(command.name, params=parameters, callback=run, help=text, short_help=short)
