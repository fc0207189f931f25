"""Sections at the top of the file that plugins own, and the keys for workers and readiness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lb_core import PluginError, Section, Settings, hookimpl
from lb_core.config import config_from_tree
from lb_core.errors import ConfigError
from lb_core.plugins import Plugins
from lb_core.schema import json_schema

ROUTES: dict[str, Any] = {"*": {"backends": ["127.0.0.1:9"]}}


class Tea(Settings):
    """A section."""

    short = "kind"

    kind: str = "green"
    cups: int = 1


class Teapot:
    @hookimpl
    def register_sections(self) -> Iterator[Section]:
        yield Section("tea", Tea)


PLUGINS = Plugins.discover(extra=[Teapot()])


def problems(**tree: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        config_from_tree({"routes": ROUTES, **tree}, PLUGINS, source="test")
    return "\n".join(map(str, refused.value.problems))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("black", Tea(kind="black")),
        ({"cups": 3}, Tea(cups=3)),
        (True, Tea()),
        (False, None),
        (None, None),
    ],
)
def test_a_section_is_validated_and_found(given: object, wanted: Tea | None) -> None:
    config = config_from_tree({"routes": ROUTES, "tea": given}, PLUGINS, source="test")
    assert config.section("tea") == wanted


def test_what_is_wrong_in_it_is_said_at_its_place() -> None:
    assert "tea.cups" in problems(tea={"cups": "many"})
    assert 'unknown key "cup"' in problems(tea={"cup": 1})


def test_a_misspelt_section_names_the_nearest() -> None:
    assert "did you mean tea" in problems(teaa={})


def test_a_name_that_is_taken_names_both_owners() -> None:
    with pytest.raises(PluginError, match="section 'tea' is taken by plugin 'Teapot'"):
        Plugins.discover(extra=[Teapot(), Teapot()])


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(PluginError, match="snake_case"):
        Section("Tea", Tea)


def test_editors_are_told_of_it() -> None:
    assert "tea" in json_schema(PLUGINS)["properties"]
    assert PLUGINS.loaded[-1].sections == ("tea",)


@pytest.mark.parametrize(("given", "wanted"), [(1, 1), ("auto", "auto"), ("4", 4), (31, 31)])
def test_workers(given: object, wanted: object) -> None:
    assert config_from_tree({"routes": ROUTES, "workers": given}, PLUGINS, source="test").workers == wanted


@pytest.mark.parametrize("given", [0, 32, -1, "many", True, 1.5, []])
def test_no_number_of_workers(given: object) -> None:
    assert "write 1 to 31, or auto" in problems(workers=given)


def test_readiness_has_a_short_form() -> None:
    config = config_from_tree({"routes": ROUTES, "readiness": ":8081"}, PLUGINS, source="test")
    assert config.readiness is not None
    assert config.readiness.address == ":8081"
    assert "unix socket" in problems(readiness="unix:/run/ready.sock")
