"""The section `rate_limit`: short, long, a list, and what is said about mistakes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lb_core import ConfigError
from lb_core.config import Config, config_from_tree, json_schema, load_config
from lb_core.plugins import Plugins
from lb_ratelimit.settings import LimitSettings, RateLimitSettings, parse_short


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    """What is installed."""
    return Plugins.discover()


def settings_of(config: Config, name: str = "example.com") -> tuple[LimitSettings, ...]:
    route = next(route for route in config.routes if route.name == name)
    found = [feature.settings for feature in route.features if feature.name == "rate_limit"]
    assert all(isinstance(each, RateLimitSettings) for each in found)
    return tuple(limit for each in found for limit in getattr(each, "limits", ()))


def limits(section: Any, plugins: Plugins, **defaults: Any) -> tuple[LimitSettings, ...]:
    tree = {
        "defaults": defaults,
        "routes": {"example.com": {"backends": ["127.0.0.1:9"], "rate_limit": section}},
    }
    return settings_of(config_from_tree(tree, plugins))


@pytest.mark.parametrize(
    ("text", "requests", "window"),
    [("1000/60s", 1000, 60), ("10/s", 10, 1), ("5 / 1m30s", 5, 90), ("1/m", 1, 60), ("7/500ms", 7, 0.5)],
)
def test_the_short_form(text: str, requests: int, window: float, plugins: Plugins) -> None:
    (limit,) = limits(text, plugins)
    assert (limit.requests, limit.window, limit.algorithm, limit.key) == (
        requests,
        window,
        "sliding_window",
        "client_ip",
    )


def test_what_is_no_short_form() -> None:
    assert [parse_short(text) for text in ("1000", "a/60s", "1000/", "-1/60s", "")] == [None] * 5


def test_one_limit_in_full(plugins: Plugins) -> None:
    section = {
        "requests": 100,
        "window": "10s",
        "algorithm": "token_bucket",
        "burst": 20,
        "key": "header:X-Api-Key",
        "name": "api",
        "exempt": "10.0.0.0/8",
        "headers": False,
        "dry_run": True,
        "max_keys": 5000,
    }
    (limit,) = limits(section, plugins)
    assert (limit.burst, limit.name, limit.headers, limit.dry_run, limit.max_keys) == (20, "api", "off", True, 5000)
    assert [str(network) for network in limit.exempt] == ["10.0.0.0/8"]


def test_a_list_of_both_forms(plugins: Plugins) -> None:
    found = limits(["10/1s", {"requests": 5000, "window": "1h", "key": "route"}], plugins)
    assert [(limit.requests, limit.window, limit.key) for limit in found] == [
        (10, 1, "client_ip"),
        (5000, 3600, "route"),
    ]
    assert RateLimitSettings(limits=found).names == ("default", "limit2")


def test_one_limit_is_inherited_key_by_key_and_a_list_as_a_whole(plugins: Plugins) -> None:
    assert limits({"requests": 5}, plugins, rate_limit="1000/10s")[0].window == 10
    assert limits("7/s", plugins, rate_limit={"requests": 1, "key": "route"})[0].key == "route"
    assert [limit.requests for limit in limits(["5/s", "6/m"], plugins, rate_limit="1000/60s")] == [5, 6]
    assert [limit.requests for limit in limits("7/s", plugins, rate_limit=["5/s", "6/m"])] == [7]
    assert limits(True, plugins, rate_limit="1000/60s")[0].requests == 1000
    assert limits(False, plugins, rate_limit="1000/60s") == ()


def test_in_python_numbers_are_seconds() -> None:
    one = LimitSettings(requests=5, window=2.5)
    assert RateLimitSettings(limits=(one,)) == RateLimitSettings.model_validate({"requests": 5, "window": 2.5})
    assert RateLimitSettings.model_validate(one).limits == (one,)


@pytest.mark.parametrize(
    ("section", "where", "message"),
    [
        ("abc", "", '"abc" is not a rate limit: write 1000/60s, or requests: 1000 and window: 60s'),
        (1000, "", "1000 is not a rate limit: write 1000/60s"),
        (["5/s", "abc"], "[1]", '"abc" is not a rate limit'),
        ([None], "[0]", "null is not a rate limit"),
        ([], "", "this list is empty: write off for no limit"),
        ("10/5", ".window", "a duration needs a unit: write 5s or 5ms"),
        ({"window": "1s"}, ".requests", 'the key "requests" is missing'),
        ({"requests": 5, "windw": "1s"}, ".windw", 'unknown key "windw" (did you mean window?)'),
        (["5/s", {"requests": 5, "windw": "1s"}], "[1].windw", 'unknown key "windw" (did you mean window?)'),
        ({"requests": 0}, ".requests", "0 should be greater than or equal to 1"),
        ({"requests": 5, "window": "0s"}, ".window", "this cannot be 0"),
        ({"requests": 5, "window": 60}, ".window", "a duration needs a unit"),
        ({"requests": 5, "algorithm": "gcra"}, ".algorithm", '"gcra" is not one of sliding_window, token_bucket'),
        ({"requests": 5, "key": "client"}, ".key", '"client" is not a key: write client_ip'),
        ({"requests": 5, "burst": 9}, "", "burst is for token_bucket, and this is a sliding_window"),
        ({"requests": 5, "name": "a b"}, ".name", '"a b" is not a name: use up to 64 letters'),
        ({"requests": 5, "exempt": ["10.0.0.1/8"]}, ".exempt[0]", "write 10.0.0.0/8"),
        ([{"requests": 5, "name": "a"}, {"requests": 6, "name": "a"}], "", 'the name "a" is there 2 times'),
        ([{"requests": 5, "headers": "legacy"}, "6/s"], "", "headers is legacy for one limit and not for another"),
    ],
)
def test_a_mistake_is_placed_and_says_what_to_write(section: Any, where: str, message: str, plugins: Plugins) -> None:
    with pytest.raises(ConfigError) as caught:
        limits(section, plugins)
    (problem,) = caught.value.problems
    assert problem.where == f"routes.example.com.rate_limit{where}"
    assert message in str(problem)


def test_a_function_beside_the_file(tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lb_keys_beside.py").write_text("def tenant(exchange):\n    return 'one'\n")
    file = tmp_path / "lb.yaml"
    file.write_text(
        "routes:\n  example.com:\n    backends: ['127.0.0.1:9']\n"
        "    rate_limit: {requests: 5, key: 'lb_keys_beside:tenant'}\n"
    )
    assert settings_of(load_config(file, plugins, {}))[0].key == "lb_keys_beside:tenant"


def test_the_schema_knows_every_form(plugins: Plugins) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the package jsonschema checks the schema")
    validator = jsonschema.Draft202012Validator(json_schema(plugins))
    one = {"requests": 5, "window": "1s", "exempt": "::1", "headers": False, "burst": None}
    right: list[Any] = ["1000/60s", "5/m", one, ["5/s", one], False, {**one, "exempt": ["10.0.0.0/8"]}]
    wrong: list[Any] = ["1000", 5, [], ["x"], {"windw": "1s"}, {"requests": 5, "limits": []}]
    for section in right:
        tree = {"routes": {"example.com": {"backends": ["127.0.0.1:9"], "rate_limit": section}}}
        assert [error.message for error in validator.iter_errors(tree)] == [], section
    for section in wrong:
        tree = {"routes": {"example.com": {"backends": ["127.0.0.1:9"], "rate_limit": section}}}
        assert list(validator.iter_errors(tree)), section


def test_the_readme_lists_every_key_with_its_default() -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text()
    for name, field in LimitSettings.model_fields.items():
        default = {"requests": "required", "window": "`1m`", "burst": "`requests`", "name": "`default`"}.get(name)
        if default is None:
            value = field.default
            default = "" if value == () else f"`{str(value).lower() if isinstance(value, bool) else value}`"
        assert f"| `{name}` | {default} |" in text.replace("|  |", "|  |"), name
