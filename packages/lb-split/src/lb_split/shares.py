"""New weights from what somebody asks for: `canary=20` gives it 20 %, and the others what is left."""

from __future__ import annotations

import re
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING

from lb_core import LbError
from lb_split.settings import LARGEST_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NUMBER = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?").fullmatch


def shifted(weights: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, float]:
    """The weights after a shift.

    Where every pool is named these are the weights. Otherwise they are percent, and the pools that are not named share
    the rest of 100 in the proportion they had. Raises LbError.
    """
    for name, weight in wanted.items():
        if name not in weights:
            raise LbError(f'there is no pool "{name}" in this split ({suggestion(name, weights)})')
        if not isfinite(weight) or not 0 <= weight <= LARGEST_WEIGHT:
            raise LbError(f"{name}={weight:g} is not between 0 and {LARGEST_WEIGHT}")
    others = {name: weight for name, weight in weights.items() if name not in wanted}
    if not others:
        if not any(wanted.values()):
            raise LbError("every pool would have the weight 0: give one of them more")
        return {name: float(wanted[name]) for name in weights}
    named = sum(wanted.values())
    if named > 100:
        last = ", ".join(others)
        raise LbError(f"{named:g} % are more than 100; what is left of 100 is for {last}, or name every pool")
    rest, before = 100 - named, sum(others.values())
    if rest and not before and len(others) > 1:
        raise LbError(f"{rest:g} % are left, and {', '.join(others)} had no weight to share them by: name these too")
    parts = {name: rest * weight / before if before else rest for name, weight in others.items()}
    return {name: float(wanted[name]) if name in wanted else parts[name] for name in weights}


def parse(words: Iterable[str]) -> dict[str, float]:
    """What `canary=20 self=80` asks for; a `%` may follow the number. Raises LbError."""
    wanted: dict[str, float] = {}
    for word in words:
        name, sign, number = word.rpartition("=")
        number = number.strip().removesuffix("%")
        if not sign or not name.strip() or not _NUMBER(number):
            raise LbError(f'"{word}" is not a share: write POOL=20')
        if name.strip() in wanted:
            raise LbError(f'"{name.strip()}" is named twice: give it one share')
        wanted[name.strip()] = float(number)
    return wanted


def suggestion(word: str, options: Iterable[str]) -> str:
    """What somebody may have meant, or all there is."""
    options = list(options)
    near = get_close_matches(word, options, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(options)}"


def percent(weight: float, total: float) -> str:
    """A share as people read it: `5 %`, `33.3 %`."""
    return f"{100 * weight / total:.3g} %" if total else "0 %"
