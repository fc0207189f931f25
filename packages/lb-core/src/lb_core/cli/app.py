"""The command group, and how an error reaches the person who typed the command."""

from __future__ import annotations

import os
import sys

import click

from lb_core import __version__
from lb_core.cli.commands import Commands
from lb_core.errors import ConfigError, LbError

DONE, FAILED, CONFIG = 0, 1, 3
"""Exit statuses; click itself ends with 2 when the command line is wrong."""

_debugging = [False]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lb")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def lb(debug: bool) -> None:
    """An HTTP load balancer.

    \b
    lb demo                                see it work: three backends, real traffic
    lb run 127.0.0.1:9001 127.0.0.1:9002   balance over two backends, without a file
    lb init && lb check && lb run          write lb.yaml, check it, serve it
    """
    _debugging[0] = debug


def main(args: list[str] | None = None) -> None:
    """Run a command line and exit with its status."""
    _occupy_standard_streams()
    sys.exit(status_of(args))


def status_of(args: list[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    _debugging[0] = False
    try:
        result = lb.main(args, prog_name="lb", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("lb: stopped", err=True)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: say nothing at exit either
        return FAILED
    except ConfigError as error:
        _reraise_when_debugging()
        report_problems(error)
        return CONFIG
    except LbError as error:
        _reraise_when_debugging()
        click.echo("\n".join(f"lb: {line}" for line in str(error).splitlines()), err=True)
        return FAILED
    except Exception as error:
        _reraise_when_debugging()
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        click.echo(f"lb: internal error: {what} (`lb --debug …` shows the traceback)", err=True)
        return FAILED
    return result if isinstance(result, int) else DONE


def report_problems(error: ConfigError) -> None:
    """Print everything that is wrong with a configuration, one line each."""
    for problem in error.problems:
        click.echo(f"lb: {problem}", err=True)
    if len(error.problems) > 1:
        click.echo(f"lb: {len(error.problems)} problems: the configuration cannot be used", err=True)


def _occupy_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed: the next socket would take its number, and receive the log."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one


def _reraise_when_debugging() -> None:
    if _debugging[0]:
        raise
