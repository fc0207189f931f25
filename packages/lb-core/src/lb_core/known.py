"""Which known package brings a name that is not there, and what the user meant to write."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["strategies", "features", "sections", "listeners", "backends"]


@cache
def _data() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("lb_core").joinpath("known.toml").read_text("utf-8"))


def built_in() -> dict[str, Any]:
    """What every route has when a file says nothing: a tree like the one under `defaults:`."""
    return dict(_data()["built_in"])


def package_of(kind: Kind, name: str) -> str:
    """The package that brings a name; empty when no known one does."""
    return next((package for package, names in _data()[kind].items() if name in names), "")


def names_of(kind: Kind) -> list[str]:
    """Every name that known packages bring."""
    return [name for names in _data()[kind].values() for name in names]


def nearest(word: str, options: Iterable[str]) -> str:
    """The option that `word` most likely stands for; empty when none is near."""
    folded = {option.lower().replace("-", "_"): option for option in options}
    found = get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def suggestion(word: str, options: Iterable[str]) -> str:
    """`did you mean …?`, or the list of what is possible when that is short."""
    options = list(options)
    if found := nearest(word, options):
        return f"did you mean {found}?"
    return f"known are {', '.join(sorted(options))}" if 0 < len(options) <= 30 else ""
