"""The table of `lb simulate`, and the line that says what was simulated."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from lb_core.testing.backends import Fault
    from lb_core.testing.figures import Result
    from lb_core.testing.scenario import Scenario

PLAIN_WIDTH = 120
"""Letters in a line where the output is no terminal."""
SHOWN_MOST = 10
"""Backends whose shares are shown one by one."""


def caption_of(scenario: Scenario, log: str | None = None) -> str:
    """What was simulated, in a line."""
    from lb_core.units import counted, format_share

    odd = [f"b{number} {factor:g}x slower" for number, factor in scenario.slow.items()]
    odd += [f"b{number} weight {weight}" for number, weight in scenario.weights.items()]
    odd += [f"b{number} {_fault_text(fault)}" for number, fault in scenario.faults.items()]
    odd += [] if scenario.ejection or not scenario.faults else ["no ejection"]
    limit = [f"max_connections {scenario.max_connections}"] if scenario.max_connections else []
    if log:
        load = [f"{scenario.count:,} requests of {Path(log).name}", f"load {format_share(round(scenario.offered, 3))}"]
    elif scenario.clients:
        load = [f"{counted(scenario.clients, 'client')} pausing {scenario.think}", f"service {scenario.distribution}"]
    else:
        load = [f"load {format_share(scenario.load)}", f"service {scenario.distribution}"]
    amount = [] if log else [f"{scenario.count:,} requests"]
    backends = f"{counted(scenario.backends, 'backend')} of {counted(scenario.slots, 'slot')}"
    return ", ".join([backends, *odd, *limit, *load, *amount, f"seed {scenario.seed}"])


def _fault_text(fault: Fault) -> str:
    from math import inf

    from lb_core.units import format_duration, format_share

    what = {"status": "answers 503", "refused": "refuses connections", "reset": "resets connections"}[fault.kind]
    share = "" if fault.probability >= 1 else f" to {format_share(fault.probability)}"
    until = f" until {format_duration(fault.end)}" if fault.end < inf else ""
    since = f" from {format_duration(fault.start)}" if fault.start else ""
    return f"{what}{share}{since}{until}"


def print_comparison(caption: str, results: list[Result]) -> None:
    """The caption, and the table as wide as the terminal."""
    from rich.console import Console

    click.echo(caption)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(_table(results))
    if any(result.diverges for result in results):
        console.print("growing: requests came faster than they were answered; a longer run shows longer times")


def _table(results: list[Result]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from lb_core.testing.figures import show_time

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("STRATEGY", no_wrap=True)
    for name in ("p50", "p95", "p99", "MAX", "IMBALANCE", "ERRORS", "PICK", "REQUESTS TO EACH"):
        table.add_column(name, justify="right", no_wrap=name != "REQUESTS TO EACH")
    best = min((result.p99 for result in results), default=0.0)
    for result in results:
        times = [show_time(getattr(result, name)) for name in ("p50", "p95", "p99", "max")]
        times[2] = f"[bold]{times[2]}[/bold]" if result.p99 == best and len(results) > 1 else times[2]
        name = escape(result.strategy) + (" [yellow](growing)[/yellow]" if result.diverges else "")
        errors = f"{result.errors / result.requests:.2%}"
        table.add_row(name, *times, f"{result.imbalance:.2f}", errors, f"{result.pick_ns:.0f} ns", _shares(result))
    return table


def _shares(result: Result) -> str:
    shares = [f"{share:.1%}" if share >= 0.01 or not share else f"{share:.2%}" for share in result.shares.values()]
    if len(shares) <= SHOWN_MOST:
        return " ".join(shares)
    return f"{min(result.shares.values()):.2%} to {max(result.shares.values()):.2%}"
