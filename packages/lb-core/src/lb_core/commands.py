"""What plugins declare for the command line: a command that runs inside the running balancer.

lb NAME ARGUMENT…         ->  control socket  ->  run(balancer, *arguments)   -> the text to print
lb NAME ARGUMENT… --json  ->  control socket  ->  data(balancer, *arguments)  -> what JSON can carry
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from lb_core.errors import LbError, PluginError

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer

OWN = frozenset(("check", "demo", "deploy", "explain", "init", "plugins", "routes", "run", "schema", "simulate", "top"))
"""The command line's own names, which no plugin may take."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}").fullmatch
_ARGUMENT = re.compile(r"\[?([A-Z][A-Z0-9_=:/-]*)(\.\.\.)?\]?(\.\.\.)?").fullmatch


@dataclass(frozen=True, slots=True)
class Command:
    """A command: `lb NAME` calls `run(balancer, *arguments)` inside the running balancer and prints what it returns.

    `run` is called on the balancer's event loop with text for each argument, so it must not block; a coroutine function
    may wait, and others may call it meanwhile. An LbError it raises is shown to whoever typed the command, which ends
    with status 1. `help` is one sentence. `arguments` are their names as the help shows them: `ROUTE` is required,
    `[ROUTE]` may be left out, `SHARE...` or `[SHARE]...` (the last one only) takes all that follow. Where there is
    `data`, `lb NAME --json` calls that instead of `run`, and prints what it returns as JSON.
    Raises PluginError for a declaration that cannot be used.
    """

    name: str
    run: Callable[..., str | Awaitable[str]]
    help: str
    arguments: tuple[str, ...] = ()
    data: Callable[..., object] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME(self.name):
            hint = "use lower-case letters, digits and -, beginning with a letter"
            raise PluginError(f"command name {self.name!r}: {hint}")
        if self.name in OWN:
            raise PluginError(f"command {self.name!r}: the command line has one of that name; choose another")
        if not callable(self.run):
            raise PluginError(f"command {self.name!r}: run must be callable, not {type(self.run).__name__}")
        if self.data is not None and not callable(self.data):
            raise PluginError(f"command {self.name!r}: data must be callable, not {type(self.data).__name__}")
        if not isinstance(self.help, str) or not self.help.strip():
            raise PluginError(f"command {self.name!r}: help must say in a sentence what it does")
        self._check_arguments()

    def _check_arguments(self) -> None:
        optional = False
        for index, name in enumerate(self.arguments):
            if not isinstance(name, str) or not _ARGUMENT(name) or ("[" in name) != ("]" in name):
                raise PluginError(f"command {self.name!r}: argument {name!r}: write NAME, [NAME], NAME... or [NAME]...")
            if name.endswith("...") and index < len(self.arguments) - 1:
                raise PluginError(f"command {self.name!r}: only its last argument may be repeated, not {name!r}")
            if optional and "[" not in name:
                raise PluginError(f"command {self.name!r}: {name!r} is required and stands after one that is not")
            optional = "[" in name

    @property
    def usage(self) -> str:
        """What is typed: the name and its arguments."""
        return " ".join((self.name, *self.arguments))

    def accepts(self, count: int) -> bool:
        """Whether that many arguments may be given."""
        required = sum("[" not in name for name in self.arguments)
        repeated = bool(self.arguments) and self.arguments[-1].endswith("...")
        return required <= count and (repeated or count <= len(self.arguments))

    def call(
        self, balancer: LoadBalancer, arguments: tuple[str, ...], *, as_json: bool = False
    ) -> str | Awaitable[str]:
        """Run it; raises LbError for a wrong number of arguments, and what `run` or `data` raises.

        Where `run` is a coroutine function, its answer is to be awaited.
        """
        if not self.accepts(len(arguments)):
            raise LbError(f"{len(arguments)} arguments for `lb {self.usage}`: give those it shows")
        if as_json and self.data is None:
            raise LbError(f"`lb {self.name}` has no answer in JSON: leave --json out")
        if as_json and self.data is not None:
            return json.dumps(self.data(balancer, *arguments), indent=2)
        answer: Any = self.run(balancer, *arguments)
        return self._awaited(answer) if isawaitable(answer) else self._text(answer)

    async def _awaited(self, answer: Awaitable[Any]) -> str:
        return self._text(await answer)

    def _text(self, answer: Any) -> str:
        if not isinstance(answer, str):
            raise LbError(f"command {self.name!r} answered with {type(answer).__name__}, not with text")
        return answer
