"""Writes docs/hooks.md from the specifications in lb_core.hooks; with --check only says whether it is up to date."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lb_core import hooks
from lb_core.contract import SETUP, TRAFFIC

PAGE = Path(__file__).with_name("hooks.md")
PARAGRAPHS = ("Result", "Order", "Failure")

INTRODUCTION = """\
# Hooks

<!-- Written by docs/generate_hooks.py from lb_core/hooks.py; edit that file and run `make docs`. -->

A plugin implements the hooks it needs, each marked with `@hookimpl` and taking the arguments it needs, by name, in any
order. [Writing a plugin](writing-a-plugin.md) shows how; `lb plugins --hooks` lists who implements what.

- [Traffic hooks](#traffic-hooks): {traffic}
- [Setup hooks](#setup-hooks): {setup}
"""

TRAFFIC_TEXT = """\
## Traffic hooks

Called for each request on the event loop, so they must never block. A traffic hook applies where its object is
registered: a function in a plugin's module to every route, a method of what a Strategy or Feature builds to that route.
`before_request` may be a coroutine function; the others may not.

The order of calls on a route is: its features as configured, its strategy, plugins for every route. `tryfirst`,
`trylast` and `wrapper` work as in [pluggy](https://pluggy.readthedocs.io/en/stable/#call-time-order).
`lb explain METHOD URL` prints the order of a route.
"""

SETUP_TEXT = """\
## Setup hooks

Called at start and at reload, on plugins only: not on what a Strategy or Feature builds. They take no wrappers.
"""


def main(check: bool) -> int:
    """Write the page, or with `check` compare it; 1 where it is stale."""
    page = "\n".join(sections())
    if not check:
        PAGE.write_text(page)
        return 0
    if PAGE.exists() and PAGE.read_text() == page:
        return 0
    print(f"{PAGE} is stale: run `make docs`", file=sys.stderr)
    return 1


def sections() -> Iterator[str]:
    """The page from top to bottom."""
    yield INTRODUCTION.format(traffic=_links(TRAFFIC), setup=_links(SETUP))
    for text, specs, names in (
        (TRAFFIC_TEXT, hooks.TrafficHooks, TRAFFIC),
        (SETUP_TEXT, hooks.SetupHooks, SETUP),
    ):
        yield text
        for name in names:
            yield section(getattr(specs, name))


def section(spec: Callable[..., object]) -> str:
    """One hook: its exact signature, what it is for, and its paragraphs."""
    text, _, example = (inspect.getdoc(spec) or "").partition("\nExample:\n")
    for paragraph in PARAGRAPHS:
        text = re.sub(rf"^{paragraph}: ", f"- **{paragraph}:** ", text, flags=re.MULTILINE)
    text = re.sub(r"^    (?=\S)", "  ", text, flags=re.MULTILINE)
    code = textwrap.dedent(example).strip()
    return f"### {heading(spec)}\n\n{text.strip()}\n\n```python\n{code}\n```\n"


def heading(spec: Callable[..., object]) -> str:
    """The signature as code."""
    return f"`{spec.__name__}{_signature(spec)}`"


def _signature(spec: Callable[..., object]) -> str:
    signature = inspect.signature(spec)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "self"]
    return str(signature.replace(parameters=parameters)).replace("'", "")


def _links(names: Iterable[str]) -> str:
    specs = {**vars(hooks.TrafficHooks), **vars(hooks.SetupHooks)}
    return ", ".join(f"[{name}](#{_anchor(heading(specs[name]))})" for name in names)


def _anchor(title: str) -> str:
    """The anchor GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
