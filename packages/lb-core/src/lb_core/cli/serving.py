"""`lb run` and `lb demo`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from lb_core.cli.app import lb
from lb_core.cli.source import balancer_for, config_option, first_listener, open_balancer, usual_file

if TYPE_CHECKING:
    from lb_core.server import Server

CONFIG_SUFFIXES = (".yaml", ".yml", ".toml", ".json", ".py")


def _duration(_ctx: click.Context, _option: click.Parameter, text: str) -> float:
    from lb_core.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@lb.command()
@click.argument("backends", nargs=-1, metavar="[BACKEND]...")
@config_option
@click.option(
    "--listen", metavar="HOST:PORT", help="Where to listen, instead of the file's first listener. Default: :8080."
)
@click.option("--strategy", metavar="NAME", help="How a backend is chosen. Default: least_connections.")
@click.option("--access-log", type=click.Choice(["json", "clf", "off"]), help="One line a request, on standard output.")
@click.option(
    "--drain",
    metavar="DURATION",
    callback=_duration,
    default="30s",
    show_default=True,
    help="How long requests in flight may take when it is stopped.",
)
@click.option(
    "--workers", metavar="N", help="Processes that carry traffic, or auto for one a core. Default: the file's, or 1."
)
def run(
    backends: tuple[str, ...],
    path: str | None,
    listen: str | None,
    strategy: str | None,
    access_log: str | None,
    drain: float,
    workers: str | None,
) -> int:
    """Serve a configuration file, or backends alone.

    A BACKEND is HOST:PORT, an http:// URL or unix:/path. Without any, the file named with -c is served, or lb.yaml,
    lb.yml, lb.toml or balancer.py of this directory. A change of the file is taken over while it runs.

    \b
    lb run 127.0.0.1:9001 127.0.0.1:9002 --listen 127.0.0.1:8080
    lb run -c lb.yaml
    """
    for each in backends:
        if each.endswith(CONFIG_SUFFIXES) or os.path.isfile(each):
            raise click.UsageError(f"{each} is no backend; to serve a file: lb run -c {each}")
    if backends and path:
        raise click.UsageError("give backends or -c FILE, not both: backends belong into the file then")
    file = None if backends else path or usual_file()
    if not backends and not file:
        raise click.UsageError(
            "nothing to serve: name backends (lb run 127.0.0.1:9001), or a file (-c lb.yaml); `lb init` writes one"
        )
    if file and strategy:
        raise click.UsageError(f"--strategy goes with backends; {file} says `strategy:` for each route")
    overrides: dict[str, Any] = {}
    if listen:
        overrides["listeners"] = {first_listener(file) if file else "web": {"address": listen}}
    if access_log:
        overrides["access_log"] = {"format": access_log}
    if strategy:
        overrides["routes"] = {"*": {"strategy": strategy}}
    if workers:
        overrides["workers"] = workers
    balancer = open_balancer(file, overrides) if file else balancer_for(backends, overrides)

    import asyncio

    from lb_core.console import EventLines, log_to_stderr
    from lb_core.handover import Predecessor
    from lb_core.server import Server, loop_factory, nursery_for

    log_to_stderr(balancer.config.log_level)
    balancer.plugins.add(EventLines(), "console")
    predecessor = Predecessor.find()
    nursery = nursery_for(balancer, predecessor)
    server = Server(balancer, drain=drain, control=True, nursery=nursery, predecessor=predecessor)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(server))


async def _serve(server: Server) -> int:
    import asyncio

    from lb_core.cli.overview import overview

    serving = asyncio.create_task(server.serve())
    started = asyncio.create_task(server.started.wait())
    await asyncio.wait((serving, started), return_when=asyncio.FIRST_COMPLETED)
    if started.done():
        click.echo(await overview(server), err=True)
    started.cancel()
    return await serving


@lb.command()
@click.option(
    "--for",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=None,
    help="End after this time. Default: Ctrl+C in a terminal, else 20 seconds.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port of the balancer. Default: 8080, or a free one."
)
def demo(seconds: float | None, port: int) -> int:
    """See it work: three backends, real requests.

    In a terminal it draws a live picture and names three things to try. Otherwise it prints lines, tries them itself,
    and ends with status 0 only if every request was answered.
    """
    from lb_core.demo.show import run_demo

    return run_demo(seconds=seconds, port=port)
