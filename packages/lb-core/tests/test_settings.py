"""Settings: the base of every section, and the sections of core's own."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from lb_core.config import (
    AccessLogConfig,
    BackendConfig,
    Config,
    HealthCheckConfig,
    ListenerConfig,
    MatchConfig,
    PluginsConfig,
    Retry,
    RouteConfig,
    Timeouts,
)
from lb_core.settings import FROM_FILE, Duration, Settings, Share, Size, Whole, as_written


class Teapot(Settings):
    """Settings as a plugin would write them."""

    short = "message"

    message: str = "short and stout"
    delay: Duration = 0.5
    largest: Size = 65536
    share: Share = 0.2
    count: Whole = 3


def from_file(model: type[Settings], value: object) -> Any:
    return model.model_validate(value, context=FROM_FILE)


def faults(model: type[Settings], value: object) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as error:
        from_file(model, value)
    return [(each["loc"], each["msg"].removeprefix("Value error, ")) for each in error.value.errors()]


def test_the_short_form_stands_for_one_field() -> None:
    assert from_file(Teapot, "hello") == Teapot(message="hello")
    assert from_file(Teapot, True) == Teapot()
    assert from_file(Teapot, {}) == Teapot()


def test_a_file_gives_units_and_code_may_give_numbers() -> None:
    written = {"delay": "2s", "largest": "1KiB", "share": "50%", "count": "7"}
    assert from_file(Teapot, written) == Teapot(delay=2.0, largest=1024, share=0.5, count=7)
    assert [loc for loc, _ in faults(Teapot, {"delay": 2, "largest": 1024, "share": 50, "count": True})] == [
        ("delay",),
        ("largest",),
        ("share",),
        ("count",),
    ]


def test_settings_are_frozen_and_refuse_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Teapot().count = 4  # type: ignore[misc]
    assert faults(Teapot, {"mesage": "x"}) == [(("mesage",), "Extra inputs are not permitted")]


def test_settings_survive_a_dump() -> None:
    for settings in (Teapot(delay=1.0), Timeouts(connect=0.25), HealthCheckConfig(expect="204"), Retry(budget=0.5)):  # type: ignore[arg-type]
        assert type(settings).model_validate(settings.model_dump()) == settings


def test_values_as_a_file_writes_them() -> None:
    fields = Teapot.model_fields
    values = [as_written(fields[name], field.default) for name, field in fields.items()]
    assert values == ["short and stout", "500ms", "64KiB", "20%", 3]
    assert as_written(HealthCheckConfig.model_fields["expect"], ((200, 399), (418, 418))) == "200-399, 418"


def test_the_schema_of_settings_shows_both_forms() -> None:
    schema = Teapot.model_json_schema()
    short, mapping = schema["anyOf"]
    assert short == {"type": "string"}
    assert mapping["properties"]["delay"]["default"] == "500ms"
    assert mapping["additionalProperties"] is False


@pytest.mark.parametrize(
    ("value", "host", "port", "address"),
    [
        (":8080", "", 8080, ":8080"),
        ({"address": "[::1]:80"}, "::1", 80, "[::1]:80"),
        (9000, "", 9000, ":9000"),
        ({"host": "::1", "port": 81}, "::1", 81, "[::1]:81"),
        ({"host": "a", "port": 81}, "a", 81, "a:81"),
    ],
)
def test_listeners(value: object, host: str, port: int, address: str) -> None:
    listener = ListenerConfig.model_validate(value)
    assert (listener.host, listener.port, listener.address) == (host, port, address)


def test_defaults_of_a_listener_are_those_promised() -> None:
    listener = ListenerConfig(address=":80")
    timeouts, limits = listener.timeouts, listener.limits
    assert (timeouts.header, timeouts.body, timeouts.write, timeouts.keep_alive) == (15, 60, 60, 75)
    assert (limits.head, limits.fields, limits.target, limits.requests) == (16384, 100, 8192, 1000)


def test_defaults_of_a_route_are_those_promised() -> None:
    route = RouteConfig(name="a", host="a", pool="a")
    times, retry = route.timeouts, route.retry
    assert (times.connect, times.response_header, times.idle, times.queue, times.request, times.tunnel_idle) == (
        3,
        60,
        60,
        5,
        0,
        3600,
    )
    assert (retry.attempts, retry.on, retry.budget) == (1, ("connect", "reset"), 0.2)
    assert (route.max_body, route.strip_prefix, route.host_header) == (0, "", "preserve")


def test_defaults_of_the_whole() -> None:
    config = Config()
    assert [(each.name, each.port) for each in config.listeners] == [("web", 8080)]
    assert (config.access_log.format, config.access_log.file, config.no_route_status) == ("json", "-", 404)
    assert config.trusted_proxies == config.routes == config.pools == config.files == ()


def test_the_access_log_can_be_switched_off_in_every_way() -> None:
    for value in (False, "off", {"format": False}, {"format": "off"}):
        assert AccessLogConfig.model_validate(value).format == "off"
    assert AccessLogConfig.model_validate("clf").format == "clf"


def test_lists_of_one_word() -> None:
    assert PluginsConfig.model_validate({"require": "lb-strategies"}).require == ("lb-strategies",)


def test_backends() -> None:
    short = from_file(BackendConfig, "http://web1")
    assert (short.host, short.port, short.weight, short.max_connections, short.backup) == ("web1", 80, 1, 0, False)
    long = from_file(BackendConfig, {"address": "web1:81", "weight": 0, "labels": {"cost": 1.5, "rack": "a"}})
    assert (long.port, long.weight, long.labels) == (81, 0, {"cost": 1.5, "rack": "a"})
    assert BackendConfig(name="a", host="h", port=1).host == "h"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"weight": 1}, 'the address is missing: write url: "http://web1:8080"'),
        ({"url": "a:1", "address": "b:1"}, "url and address say the same thing: keep one of them"),
        ({"url": "a"}, '"a" has no port: write "a:8080"'),
        ({"url": "a:1", "weight": 1001}, "Input should be less than or equal to 1000"),
        ({"url": "a:1", "weight": -1}, "Input should be greater than or equal to 0"),
        (["a:1"], "a list is not the address of a backend"),
    ],
)
def test_bad_backends(value: object, fault: str) -> None:
    assert any(message.startswith(fault) for _, message in faults(BackendConfig, value))


@pytest.mark.parametrize(
    ("expect", "passes", "fails"),
    [
        (None, [200, 302, 399], [199, 400, 503]),
        ("200-399", [200], [400]),
        (204, [204], [200]),
        ("200, 301-302", [200, 301, 302], [201, 303]),
        ([200, "418"], [200, 418], [404]),
    ],
)
def test_statuses_that_pass_a_check(expect: object, passes: list[int], fails: list[int]) -> None:
    check = from_file(HealthCheckConfig, {} if expect is None else {"expect": expect})
    assert all(check.accepts(status) for status in passes)
    assert not any(check.accepts(status) for status in fails)


def test_defaults_of_a_check_are_those_promised() -> None:
    check = from_file(HealthCheckConfig, "/health")
    assert (check.type, check.path, check.method, check.port, check.host) == ("http", "/health", "GET", None, None)
    assert (check.interval, check.timeout, check.interval_down) == (10, 3, 2)
    assert (check.healthy_after, check.unhealthy_after) == (2, 3)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("health", '"health" is not a path: begin it with /'),
        ({"path": "/ü"}, "percent-encode what is not ASCII"),
        ({"method": "G T"}, '"G T" is not a method: write GET or HEAD'),
        ({"host": "a b"}, '"a b" is not a host'),
        ({"expect": "9-1"}, '"9-1" is not a range of statuses'),
        ({"expect": "399-200"}, '"399-200" is an empty range of statuses: write 200-399'),
        ({"expect": []}, "null is not a range of statuses"),
        ({"expect": True}, "true is not a range of statuses"),
        ({"interval": "0s"}, "this cannot be 0"),
        ({"port": 0}, "port 0 is not between 1 and 65535"),
    ],
)
def test_bad_checks(value: object, fault: str) -> None:
    assert any(fault in message for _, message in faults(HealthCheckConfig, value))


def test_rules() -> None:
    rule = from_file(
        MatchConfig,
        {"path_prefix": "/v2/", "methods": ["get", "GET", "PROPFIND"], "headers": {"X-Beta": "~^1$"}, "clients": "::1"},
    )
    assert (rule.path_prefix, rule.methods, rule.headers) == ("/v2", ("GET", "PROPFIND"), {"x-beta": "~^1$"})
    assert rule.clients == (ip_network("::1/128"),)
    assert rule.label() == "/v2 GET,PROPFIND x-beta=~^1$ ::1/128"
    assert from_file(MatchConfig, {"path": "/a", "query": {"q": "1"}}).label() == "=/a ?q=1"
    assert from_file(MatchConfig, {"path_prefix": "/"}).label() == ""


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"path_prefix": "v2"}, '"v2" is not a path: begin it with /'),
        ({"path": "/a?b=1"}, "parameters belong to `query`"),
        ({"path": "/a", "path_prefix": "/b"}, "path and path_prefix exclude each other"),
        ({"methods": ["G T"]}, '"G T" is not a method'),
        ({"headers": {"X Y": "1"}}, '"X Y" is not the name of a header field'),
        ({"headers": {"X": 1}}, 'X: 1 is not text: put it in quotes, "1"'),
        ({"headers": {"X": "~("}}, 'X: "(" is not a regular expression'),
        ({"query": {"q": "~*"}}, 'q: "*" is not a regular expression'),
        ({"clients": ["10.0.0.1/8"]}, "write 10.0.0.0/8"),
    ],
)
def test_bad_rules(value: object, fault: str) -> None:
    assert any(fault in message for _, message in faults(MatchConfig, value))


@pytest.mark.parametrize("prefix", ["v2", "/v?", "/ü"])
def test_bad_prefixes_to_strip(prefix: str) -> None:
    with pytest.raises(ValidationError, match="is not a path prefix"):
        RouteConfig(name="a", host="a", pool="a", strip_prefix=prefix)
