"""`lb simulate`: strategies side by side under a load that is simulated."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lb_core.cli import scenario_options
from lb_core.cli.app import DONE, lb
from lb_core.cli.comparison import caption_of, print_comparison
from lb_core.cli.source import quiet_about_plugins
from lb_core.errors import ConfigError, LbError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lb_core.plugins import Plugins
    from lb_core.testing.access_logs import LoggedLoad
    from lb_core.testing.figures import Result
    from lb_core.testing.scenario import Scenario

USUAL = ("round_robin", "least_connections", "p2c", "ewma")
SHOWN_MOST = 10
"""Bad lines of a log that are shown."""


@lb.command()
@click.option(
    "--strategies",
    metavar="NAMES",
    callback=scenario_options.strategies,
    help=f"Names, module:Class or '{{name: ewma, decay: 5s}}', with commas between. Default: {','.join(USUAL)}.",
)
@click.option("--backends", type=int, default=4, show_default=True, help="How many; they are called b0, b1, ….")
@click.option("--slots", type=int, default=8, show_default=True, help="Requests each works on at once.")
@click.option(
    "--slow", metavar="3x:1", multiple=True, callback=scenario_options.slow, help="b1 takes three times as long."
)
@click.option(
    "--fail",
    "faults",
    metavar="1[:KIND][:SHARE][:FROM-TO]",
    multiple=True,
    callback=scenario_options.faults,
    help="b1 fails in 1 ms: status (503), refused or reset; 20% of its requests; from 10s-20s.",
)
@click.option(
    "--weight", "weights", metavar="1:3", multiple=True, callback=scenario_options.weights, help="b1 has the weight 3."
)
@click.option("--load", type=float, help="Share of what the backends can do together. Default: 0.7, or the log's pace.")
@click.option(
    "--service",
    metavar="TIME",
    default="lognormal(50ms, 1.0)",
    show_default=True,
    help="Time a backend works: 50ms, exponential(50ms), pareto(50ms, 2.5), uniform(10ms, 90ms), "
    "bimodal(10ms, 500ms, 5%).",
)
@click.option("--clients", type=int, default=0, help="So many clients that wait for answers, instead of --load.")
@click.option("--think", metavar="TIME", default="exponential(1s)", show_default=True, help="Their pause between.")
@click.option("--max-connections", type=int, default=0, help="Requests the balancer sends to a backend at once.")
@click.option("--timeout", metavar="DURATION", default="0s", show_default=True, help="For a response; 0s for ever.")
@click.option("--retries", type=int, default=1, show_default=True, help="Further attempts after a failed one.")
@click.option("--ejection/--no-ejection", default=True, show_default=True, help="Leave failing backends alone.")
@click.option("--requests", type=int, help="How many. Default: 100000, or the whole log.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is random: the same run for the same.")
@click.option(
    "--log", "log", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="An access log to replay."
)
@click.option("--plot", metavar="FILE.svg", type=click.Path(dir_okay=False), help="Draw the latencies.")
@click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")
def simulate(
    strategies: list[Any],
    log: str | None,
    plot: str | None,
    as_json: bool,
    load: float | None,
    requests: int | None,
    **settings: Any,
) -> int:
    """Compare strategies under a simulated load.

    Requests come at random, or as an access log has them (lb's JSON lines, or the Common Log Format). Strategies are
    those that serve traffic; time and backends are simulated. Every strategy meets the same requests.

    \b
    lb simulate --slow 3x:1
    lb simulate --strategies p2c,mymodule:MyStrategy --fail 0:20% --plot latency.svg
    lb simulate --log access.json --load 0.9
    """
    quiet_about_plugins()
    plugins, chosen = _chosen(strategies)
    scenario = _scenario(settings, load, requests, _read(log, requests or 0) if log else None)
    results = []
    for number, strategy in enumerate(chosen, 1):
        with _progress(f"{number}/{len(chosen)} {_label(strategy)}", scenario.count) as advance:
            results.append(_simulated(strategy, scenario, plugins, advance))
    caption = caption_of(scenario, log)
    if as_json:
        click.echo(
            json.dumps({"scenario": _data(scenario, log), "results": [each.as_data() for each in results]}, indent=2)
        )
    else:
        print_comparison(caption, results)
    if plot:
        _write(plot, results, caption, quiet=as_json)
    return DONE


def _chosen(strategies: list[Any]) -> tuple[Plugins, list[Any]]:
    """The strategies to compare, each known to exist."""
    from lb_core.choices import look_beside
    from lb_core.plugins import Plugins
    from lb_core.testing.building import maker_of

    plugins = Plugins.discover()
    look_beside(str(Path.cwd() / "here"))  # modules of this directory, as beside a configuration file
    chosen = strategies or [name for name in USUAL if name in plugins.strategies]
    wrong = []
    for strategy in chosen:
        try:
            maker_of(strategy, lambda: plugins)
        except ConfigError as error:
            wrong += [str(problem).removeprefix("strategy: ") for problem in error.problems]
    if wrong:
        raise click.BadParameter("\n".join(wrong), param_hint="'--strategies'")
    return plugins, chosen


def _read(path: str, most: int) -> LoggedLoad:
    from lb_core.testing.access_logs import read_log

    try:
        found = read_log(path, most)
    except (OSError, EOFError) as error:
        raise click.ClickException(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    for line, problem in found.bad[:SHOWN_MOST]:
        click.echo(f"lb: {path}:{line}: {problem}; skipped", err=True)
    if len(found.bad) > SHOWN_MOST:
        click.echo(f"lb: {path}: {len(found.bad) - SHOWN_MOST} more lines skipped", err=True)
    if found.unserved:
        were = "request was" if found.unserved == 1 else "requests were"
        click.echo(f"lb: {path}: {found.unserved} {were} answered without a backend; left out", err=True)
    if not found.requests:
        raise click.ClickException(f"{path} holds no request that can be replayed")
    return found


def _scenario(settings: dict[str, Any], load: float | None, requests: int | None, log: LoggedLoad | None) -> Scenario:
    from dataclasses import replace

    from lb_core.testing.scenario import Scenario

    if log and settings["clients"]:
        raise click.UsageError("give --clients or --log: a log says when requests come")
    try:
        given = {
            **settings,
            "requests": 100_000 if requests is None else requests,
            "load": 0.7 if load is None else load,
        }
        scenario = Scenario(**given, trace=log.trace if log else None)
        if scenario.trace is None or load is None:
            return scenario
        if not scenario.offered:
            raise ValueError("all requests of the log came at once: its pace cannot be changed to --load")
        return replace(scenario, trace=scenario.trace.stretched(scenario.offered / load))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _simulated(strategy: Any, scenario: Scenario, plugins: Plugins, advance: Callable[[int], object]) -> Result:
    from lb_core.testing.simulation import simulate

    try:
        return simulate(strategy, scenario, plugins=plugins, progress=advance)
    except LbError:
        raise
    except Exception as error:
        raise click.ClickException(f"{_label(strategy)} failed: {type(error).__name__}: {error}") from error


def _label(strategy: Any) -> str:
    return str(strategy["name"] if isinstance(strategy, dict) else strategy)


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """Tell how far it is, where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


def _data(scenario: Scenario, log: str | None) -> dict[str, Any]:
    from dataclasses import asdict, replace

    data = asdict(replace(scenario, trace=None, features={}))
    for fault in data["faults"].values():
        fault["end"] = None if fault["end"] == float("inf") else fault["end"]
    return data | {"trace": log, "requests": scenario.count, "load": scenario.offered or None}


def _write(path: str, results: list[Result], caption: str, *, quiet: bool) -> None:
    from lb_core.testing.plot import draw

    try:
        Path(path).write_text(draw(results, caption), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror or error}") from error
    if not quiet:
        click.echo(f"wrote {path}")
