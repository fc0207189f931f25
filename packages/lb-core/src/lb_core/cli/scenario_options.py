"""The options of `lb simulate` whose values have a form of their own; a usage error shows how to write each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lb_core.testing.backends import Fault

_NUMBER = re.compile(r"b?(\d{1,5})").fullmatch
_FACTOR = re.compile(r"(\d+(?:\.\d+)?)x?").fullmatch
_APART = re.compile(r",(?![^{]*\})")


def _backend(text: str) -> int:
    found = _NUMBER(text)
    if not found:
        raise click.BadParameter(f"{text!r} is no backend: write its number, 0 for b0")
    return int(found[1])


def slow(_ctx: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[int, float]:
    """`3x:1`: backends that are slower."""
    found: dict[int, float] = {}
    for text in texts:
        factor, _, numbers = text.partition(":")
        number = _FACTOR(factor)
        if not number:
            raise click.BadParameter(f"{text!r}: write 3x:1, which lets b1 take three times as long")
        found |= {_backend(each): float(number[1]) for each in (numbers or "0").split(",")}
    return found


def weights(_ctx: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[int, int]:
    """`1:3`: weights."""
    found = {}
    for text in texts:
        number, colon, weight = text.partition(":")
        if not colon or not weight.isdigit():
            raise click.BadParameter(f"{text!r}: write 1:3, which gives b1 the weight 3")
        found[_backend(number)] = int(weight)
    return found


def faults(_ctx: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[int, Fault]:
    """Backends that fail, each as `_fault` reads it."""
    return dict(map(_fault, texts))


def _fault(text: str) -> tuple[int, Fault]:
    """`1:refused:20%:10s-20s`: the backend, then what else there is to say, in any order."""
    from lb_core.testing.backends import KINDS, Fault
    from lb_core.units import parse_duration, parse_share

    number, *parts = text.split(":")
    settings: dict[str, Any] = {}
    try:
        for part in parts:
            if part in KINDS:
                settings["kind"] = part
            elif "-" in part:
                start, _, end = part.partition("-")
                settings |= {name: parse_duration(at) for name, at in (("start", start), ("end", end)) if at}
            else:
                settings["probability"] = parse_share(part)
        return _backend(number), Fault(**settings)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}; write 1, 1:refused, 1:20% or 1:reset:20%:10s-20s") from error


def strategies(_ctx: click.Context, _option: click.Parameter, text: str | None) -> list[Any]:
    """Names, or mappings as in a configuration; commas inside braces do not part them."""
    import yaml

    found: list[Any] = []
    for part in _APART.split(text or ""):
        try:
            value = yaml.safe_load(part) if part.strip().startswith("{") else part.strip()
        except yaml.YAMLError as error:
            raise click.BadParameter(f"{part.strip()!r} is no mapping: write '{{name: ewma, decay: 5s}}'") from error
        if value:
            found.append(value)
    return found
