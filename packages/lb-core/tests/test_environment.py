"""`${VAR}` in the file, LB_* over it, the command line over both."""

from __future__ import annotations

import os
from typing import Any

import pytest

from lb_core import environment
from lb_core.documents import Document, parse
from lb_core.errors import ConfigError


def applied(text: str, environ: dict[str, str], overrides: dict[str, Any] | None = None) -> Document:
    document = parse(text, "lb.yaml")
    environment.apply(document, environ, overrides)
    return document


def problems(text: str, environ: dict[str, str]) -> list[str]:
    return [str(each) for each in applied(text, environ).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${NAME}", "web1"),
        ("http://${NAME}:${PORT:-80}/", "http://web1:80/"),
        ("${NONE:-}", ""),
        ("${EMPTY:-fallback}", "fallback"),
        ("${EMPTY}", ""),
        ("$${NAME}", "${NAME}"),
        ("$NAME", "$NAME"),
        ("${NONE:-a:-b}", "a:-b"),
    ],
)
def test_variables_in_text(text: str, value: str) -> None:
    document = applied(f"a: [{{b: '{text}'}}]", {"NAME": "web1", "EMPTY": ""})
    assert document.tree == {"a": [{"b": value}]}
    assert document.problems == []


def test_a_variable_that_is_not_set_is_a_problem() -> None:
    assert problems("a:\n  b: ${NONE}", {}) == [
        "lb.yaml:2: a.b: the environment variable NONE is not set (set it, or write ${NONE:-default})"
    ]


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A:?b}", "${A", "${A-b}"])
def test_what_is_no_variable(text: str) -> None:
    (problem,) = problems(f"a: '{text}'", {"A": "1"})
    assert "is not a variable (write ${NAME} or ${NAME:-default}, or $${ for a plain ${)" in problem


def test_aliases_that_explode_are_refused() -> None:
    text = "\n".join(
        ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    )
    with pytest.raises(ConfigError, match="more than 500000 values once its aliases are filled in"):
        applied(text, {})


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("LB_DEFAULTS__STRATEGY", "p2c", ("defaults", "strategy"), "p2c"),
        ("LB_ACCESS_LOG__FORMAT", "clf", ("access_log", "format"), "clf"),
        ("LB_ACCESS_LOG", "off", ("access_log",), False),
        ("LB_NO_ROUTE_STATUS", "503", ("no_route_status",), 503),
        ("LB_TRUSTED_PROXIES", "[10.0.0.0/8, '::1']", ("trusted_proxies",), ["10.0.0.0/8", "::1"]),
        ("LB_ROUTES__EXAMPLE_COM__BACKENDS__WEB1", "b:2", ("routes", "Example.com", "backends", "web1"), "b:2"),
        (
            "LB_ROUTES__EXAMPLE_COM__MATCH__0__PATH_PREFIX",
            "/w",
            ("routes", "Example.com", "match", 0, "path_prefix"),
            "/w",
        ),
        ("LB_LOG_LEVEL", "debug", ("log_level",), "debug"),
        ("LOAD_BALANCER_LOG_LEVEL", "debug", ("log_level",), "debug"),
        ("LOAD_BALANCER_WEB_PORT", "4000", ("web_port",), 4000),
        ("LB_PLUGINS__DISABLE", "", ("plugins", "disable"), ""),
    ],
)
def test_variables_are_written_over_the_file(name: str, text: str, path: tuple[str | int, ...], value: object) -> None:
    file = "routes:\n  Example.com:\n    backends: {web1: a:1}\n    match: [{path_prefix: /v}]\n"
    document = applied(file, {name: text})
    assert document.problems == []
    found: Any = document.tree
    for key in path:
        found = found[key]
    assert found == value
    assert str(document.problem(path, "x")).startswith(f"environment variable {name}: ")


def test_one_key_of_a_short_form() -> None:
    file = (
        "access_log: json\nlisteners: {web: ':80'}\nroutes: {a: {strategy: rr, backends: {w: 'a:1'}, health_check: /h}}"
    )
    environ = {
        "LB_ACCESS_LOG__FILE": "/tmp/log",
        "LB_LISTENERS__WEB__LIMITS__FIELDS": "9",
        "LB_ROUTES__A__BACKENDS__W__WEIGHT": "3",
        "LB_ROUTES__A__HEALTH_CHECK__INTERVAL": "1s",
        "LB_ROUTES__A__STRATEGY__DECAY": "2s",
        "LB_ROUTES__A__EJECTION__DURATION": "5s",
    }
    assert applied(file, environ).tree == {
        "access_log": {"format": "json", "file": "/tmp/log"},
        "listeners": {"web": {"address": ":80", "limits": {"fields": 9}}},
        "routes": {
            "a": {
                "strategy": {"name": "rr", "decay": "2s"},
                "backends": {"w": {"url": "a:1", "weight": 3}},
                "health_check": {"path": "/h", "interval": "1s"},
                "ejection": {"duration": "5s"},
            }
        },
    }


def test_one_key_of_an_unknown_short_form_is_a_problem() -> None:
    assert problems("routes: {a: {teapot: text}}", {"LB_ROUTES__A__TEAPOT__X": "1"}) == [
        "environment variable LB_ROUTES__A__TEAPOT__X: the file has a short form in routes.a.teapot, which has no keys "
        "(replace it as a whole)"
    ]


def test_a_section_that_is_switched_on_may_get_keys() -> None:
    document = applied("routes: {a: {teapot: true}}", {"LB_ROUTES__A__TEAPOT__X": "1"})
    assert document.tree["routes"]["a"]["teapot"] == {"x": 1}


def test_a_list_item_that_is_not_there() -> None:
    (problem,) = problems("routes: {a: {match: []}}", {"LB_ROUTES__A__MATCH__3": "x"})
    assert "the list routes.a.match has no item 3" in problem
    (problem,) = problems("routes: {a: {match: []}}", {"LB_ROUTES__A__MATCH__3__PATH": "/x"})
    assert "the list routes.a.match has no item 3" in problem


@pytest.mark.parametrize(
    ("file", "listeners"),
    [
        ("a: 1", {"web": {"address": ":9000"}}),
        ("listeners: {x: '127.0.0.1:80', y: ':81'}", {"x": {"address": "127.0.0.1:9000"}, "y": ":81"}),
        ("listeners: {x: {address: '[::1]:80', limits: {}}}", {"x": {"address": "[::1]:9000", "limits": {}}}),
        ("listeners: {x: 80}", {"x": {"address": ":9000"}}),
    ],
)
def test_the_port_of_the_first_listener(file: str, listeners: object) -> None:
    for environ in (
        {"LB_PORT": "9000"},
        {"LOAD_BALANCER_PORT": "9000"},
        {"LB_PORT": "9000", "LOAD_BALANCER_PORT": "1"},
    ):
        assert applied(file, environ).tree["listeners"] == listeners


def test_a_port_set_by_kubernetes_is_explained() -> None:
    (problem,) = problems("a: 1", {"LB_PORT": "tcp://10.0.0.1:80"})
    assert "environment variable LB_PORT" in problem
    assert "enableServiceLinks: false" in problem


def test_misspelt_and_foreign_variables() -> None:
    assert problems("a: 1", {"LB_ACESS_LOG": "off"}) == [
        'environment variable LB_ACESS_LOG: there is no section "acess_log" (did you mean LB_ACCESS_LOG?)'
    ]
    assert "sections are listeners," in problems("a: 1", {"LB_XYZZY__A": "1"})[0]
    assert (
        problems("a: 1", {"LB_ADMIN_TOKEN": "s", "LB_SERVICE_HOST": "10.0.0.1", "LB_VERSION": "2", "HOME": "/"}) == []
    )
    assert problems("a: ${LB_ROUTE}", {"LB_ROUTE": "x"}) == []
    assert problems("a: ${LB_X__Y:-}", {"LB_X__Y": "x"}) == []


def test_a_value_that_is_no_yaml_is_a_problem() -> None:
    (problem,) = problems("a: 1", {"LB_TRUSTED_PROXIES": "[10.0.0.0/8"})
    assert problem.startswith("environment variable LB_TRUSTED_PROXIES: '[10.0.0.0/8': this is not YAML")


def test_the_command_line_wins() -> None:
    overrides = {"access_log": {"format": "off"}, "port": 7000, "routes": {"a.b": {"strategy": "rr"}}, "defaults": {}}
    environ = {"LB_ACCESS_LOG": "clf", "LB_PORT": "9000"}
    document = applied("routes: {a.b: {strategy: p2c}}", environ, overrides)
    assert document.tree["access_log"] == {"format": "off"}
    assert document.tree["listeners"] == {"web": {"address": ":7000"}}
    assert document.tree["routes"] == {"a.b": {"strategy": "rr"}}
    assert document.place(("routes", "a.b", "strategy")).file == "command line"


def test_the_process_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LB_TEST_OF_THIS", "1")
    found = environment.process_environment()
    assert found["LB_TEST_OF_THIS"] == "1"
    found["LB_TEST_OF_THIS"] = "2"
    assert os.environ["LB_TEST_OF_THIS"] == "1"
