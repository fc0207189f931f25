"""Where a command gets its balancer from: a file that is named, the usual one in this directory, or backends alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer
    from lb_core.config import Document
    from lb_core.plugins import Plugins

USUAL = ("lb.yaml", "lb.yml", "lb.toml", "balancer.py")

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """The option `-c FILE`."""
    return click.option(
        "-c",
        "--config",
        "path",
        type=click.Path(readable=False),
        help=f"Configuration file. Default: {USUAL[0]} here, if any.",
    )(command)


def usual_file() -> str | None:
    """The configuration file of this directory."""
    return next((name for name in USUAL if os.path.exists(name)), None)


def file_or_usual(path: str | None) -> str:
    """The named file, or this directory's; a usage error where there is neither."""
    found = path or usual_file()
    if found is None:
        raise click.UsageError(
            f"there is no {', '.join(USUAL[:-1])} or {USUAL[-1]} in this directory: "
            "name a file, or write one with `lb init`"
        )
    return found


def open_balancer(path: str | None, overrides: dict[str, Any] | None = None) -> LoadBalancer:
    """The balancer of a configuration file."""
    from lb_core.balancer import LoadBalancer

    return LoadBalancer.from_file(file_or_usual(path), overrides=overrides or None)


def first_listener(path: str) -> str:
    """The name of a file's first listener: the one that `--listen` moves."""
    from lb_core.config import read

    written = read(path).tree.get("listeners")
    return str(next(iter(written), "web")) if isinstance(written, dict) else "web"


def control_of(path: str | None) -> str:
    """The control socket that a configuration file names, or this directory's; empty where none does."""
    from lb_core.config import read
    from lb_core.errors import LbError

    file = path or usual_file()
    if file is None or file.endswith(".py"):  # to ask a balancer runs nobody's code
        return ""
    try:
        named = read(file).tree.get("control")
    except LbError:
        return ""  # what is wrong with the file is not what is asked about
    return named if isinstance(named, str) and named != "off" else ""


def quiet_about_plugins() -> None:
    """Say nothing about plugins that are left out: for commands that list them."""
    logging.getLogger("lb.plugins").addHandler(logging.NullHandler())


def installed(path: str | None) -> Plugins:
    """The plugins a configuration file asks for, whatever else it says; without a file, all of them."""
    from lb_core.config import Document, read

    file = path or usual_file()
    return _discover(read(file) if file else Document({}, ""))


def balancer_for(backends: Sequence[str], overrides: dict[str, Any]) -> LoadBalancer:
    """A balancer with one route, for every host, over these backends.

    Nobody configured a path to ask for, so a check only connects; a backend that comes back serves within seconds.
    """
    from lb_core import environment
    from lb_core.balancer import LoadBalancer
    from lb_core.config import Document, build

    route = {
        "backends": list(backends),
        "health_check": {"type": "tcp", "interval": "2s", "interval_down": "1s", "healthy_after": 1},
        "ejection": {"duration": "5s"},
    }
    document = Document({"routes": {"*": route}}, "command line")
    environment.apply(document, environment.process_environment(), overrides)
    plugins = _discover(document)
    return LoadBalancer(build(document, plugins), plugins=plugins)


def _discover(document: Document) -> Plugins:
    from lb_core.config import plugins_section
    from lb_core.plugins import Plugins

    wanted = plugins_section(document)
    return Plugins.discover(require=wanted.require, disable=wanted.disable)
