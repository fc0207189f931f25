"""Declarations of strategies and features are checked where they are made."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from lb_core import Feature, PluginError, Strategy


class Settings(BaseModel):
    path: str = "/"


def build(*_: object) -> object:
    return object()


@pytest.mark.parametrize("name", ["p2c", "round_robin", "a", "a" * 63])
def test_snake_case_names_are_taken(name: str) -> None:
    assert Strategy(name, build).name == name
    assert Feature(name, build, Settings).name == name


@pytest.mark.parametrize("name", ["", "P2C", "2fast", "_private", "round-robin", "a b", "ä", "a" * 64, "line\n", 7])
def test_other_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(PluginError, match="snake_case"):
        Strategy(name, build)
    with pytest.raises(PluginError, match="snake_case"):
        Feature(name, build, Settings)


def test_aliases_are_names_too() -> None:
    assert Strategy("fine", build, aliases=("also_fine",)).aliases == ("also_fine",)
    with pytest.raises(PluginError, match="'Not-Fine'"):
        Strategy("fine", build, aliases=("Not-Fine",))


def test_build_must_be_callable() -> None:
    with pytest.raises(PluginError, match=r"strategy 'fine': build must be callable, not int"):
        Strategy("fine", 3)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match=r"feature 'fine': build must be callable, not str"):
        Feature("fine", "build", Settings)  # type: ignore[arg-type]


def test_declarations_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Strategy("fine", build).name = "other"  # type: ignore[misc]
