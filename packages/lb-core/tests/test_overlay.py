"""Merge patches over a document: RFC 7396, short forms, and where a mistake is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lb_core import ConfigError, LbError, LoadBalancer
from lb_core.config import Config
from lb_core.documents import Document, parse
from lb_core.overlay import Overlay, merged

RFC_7396: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

FILE = """\
routes:
  a.example: [127.0.0.1:1]
  b.example:
    health_check: /health
    backends:
      web1: 127.0.0.1:2
"""


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396)
def test_the_examples_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result


def laid(*patches: dict[str, Any]) -> Document:
    return Overlay(patches, "edit 3").over(parse(FILE, "lb.yaml"))


def test_what_it_is_laid_over_stays_as_it_is() -> None:
    document = parse(FILE, "lb.yaml")
    tree = repr(document.tree)
    over = Overlay(({"routes": {"a.example": {"queue": 3}, "b.example": {"backends": {"web2": "127.0.0.1:3"}}}},))
    assert over.over(document).tree != document.tree
    assert repr(document.tree) == tree
    assert Overlay().over(document) is document


def test_a_key_in_a_short_form_is_set_in_its_long_form() -> None:
    routes = {
        "a.example": {"queue": 3},
        "b.example": {"health_check": {"interval": "2s"}, "backends": {"web1": {"weight": 2}}},
    }
    assert laid({"routes": routes}).tree["routes"] == {
        "a.example": {"backends": ["127.0.0.1:1"], "queue": 3},
        "b.example": {
            "health_check": {"path": "/health", "interval": "2s"},
            "backends": {"web1": {"url": "127.0.0.1:2", "weight": 2}},
        },
    }


def test_places_are_those_of_the_patch_where_it_wrote_and_of_the_file_elsewhere() -> None:
    document = laid({"routes": {"a.example": {"queue": 3}, "c.example": {"backends": ["127.0.0.1:4"]}}})
    assert document.place(("routes", "a.example", "queue")).file == "edit 3"
    assert document.place(("routes", "a.example", "backends", 0)) == ("lb.yaml", 2)
    assert document.place(("routes", "c.example", "strategy")).file == "edit 3"
    assert document.place(("routes", "b.example", "health_check")) == ("lb.yaml", 4)


def balancer(tmp_path: Path) -> LoadBalancer:
    file = tmp_path / "lb.yaml"
    file.write_text(FILE)
    return LoadBalancer.from_file(file, environ={})


def test_a_balancer_takes_an_overlay_and_keeps_it_when_the_file_is_read_again(tmp_path: Path) -> None:
    made = balancer(tmp_path)
    kept = made.routes["b.example"]
    made.set_overlay(Overlay(({"routes": {"a.example": None, "c.example": ["127.0.0.1:4"]}},), "edit 1"))
    assert sorted(made.routes) == ["b.example", "c.example"]
    assert made.routes["b.example"] is kept
    (tmp_path / "lb.yaml").write_text(FILE.replace("b.example", "d.example"))
    assert made.reload()
    assert sorted(made.routes) == ["c.example", "d.example"]
    made.set_overlay(Overlay())
    assert sorted(made.routes) == ["a.example", "d.example"]


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"routes": {"a.example": {"strategy": "nope"}}}, 'edit 1: routes.a.example.strategy: unknown strategy "nope"'),
        ({"routes": {"a.example": None, "b.example": None}}, "there are no routes"),
    ],
)
def test_one_that_cannot_be_used_changes_nothing(tmp_path: Path, patch: dict[str, Any], message: str) -> None:
    made = balancer(tmp_path)
    before = dict(made.routes)
    with pytest.raises(ConfigError) as refused:
        made.set_overlay(Overlay((patch,), "edit 1"))
    assert message in str(refused.value)
    assert made.routes == before
    assert made.overlay == Overlay()
    assert made.reload(), "nothing of it has stayed"


def test_what_was_described_in_python_can_be_edited_too() -> None:
    made = LoadBalancer()
    with made.route_domain("a.example") as route:
        route.container("web1", "127.0.0.1:1")
    made.apply()
    made.set_overlay(Overlay(({"routes": {"a.example": {"queue": 4}}},)))
    assert made.config.routes[0].queue == 4


def test_a_ready_configuration_cannot_be_edited() -> None:
    with pytest.raises(LbError, match="made from a ready configuration, which cannot be edited"):
        LoadBalancer(Config()).set_overlay(Overlay())
