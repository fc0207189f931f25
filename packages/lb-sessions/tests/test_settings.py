"""The section sticky_sessions: defaults, what is refused and how that is said."""

from __future__ import annotations

from typing import Any

import pytest

from lb_core import ConfigError, LoadBalancer
from lb_core.config import config_from_tree, json_schema
from lb_core.plugins import Plugins
from lb_sessions import CookieSessions, StickySettings


def settings(sticky: Any) -> StickySettings:
    tree = {"routes": {"*": {"backends": ["127.0.0.1:1"], "sticky_sessions": sticky}}}
    (route,) = config_from_tree(tree, Plugins.discover(), source="").routes
    (choice,) = [each for each in route.features if each.name == "sticky_sessions"]
    assert isinstance(choice.settings, StickySettings)
    return choice.settings


def test_the_defaults() -> None:
    found = settings(True)
    assert found == StickySettings()
    assert (found.by, found.cookie, found.ttl, found.path, found.domain) == ("cookie", "lb_sticky", 0, "/", "")
    assert (found.same_site, found.secure, found.header) == ("lax", "auto", "")
    assert (found.secret.get_secret_value(), found.secret_file) == ("", "./data/sticky.key")


def test_short_and_long() -> None:
    assert settings("header:X-User") == settings({"by": "header:X-User"})
    assert settings("header:X-User").header == "X-User"
    assert settings({"cookie": "where", "ttl": "1h"}).ttl == 3600


def test_in_python() -> None:
    balancer = LoadBalancer()
    with balancer.route_domain("example.com") as route:
        route.container("web1", "127.0.0.1:1")
        route.sticky_sessions(cookie="where", ttl="1h")
    balancer.apply()
    (part,) = [part for _, part in balancer.routes["example.com"].parts if isinstance(part, CookieSessions)]
    assert (part.settings.cookie, part.settings.ttl) == ("where", 3600)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"by": "colour"}, '"colour" is nothing to know a client by: write cookie or header:X-User'),
        ({"by": "header:"}, "write cookie or header:X-User"),
        ({"by": "header:X User"}, "write cookie or header:X-User"),
        ({"cookie": "a b"}, "sticky_sessions.cookie"),
        ({"cookie": ""}, "sticky_sessions.cookie"),
        ({"cookie": "a;b"}, "sticky_sessions.cookie"),
        ({"ttl": 3600}, "a duration needs a unit"),
        ({"ttl": "500ms"}, "write 1s or more, or 0s"),
        ({"same_site": "maybe"}, "lax"),
        ({"secure": "yes"}, "auto"),
        ({"domain": "example.com; Secure"}, "sticky_sessions.domain"),
        ({"path": "app"}, "sticky_sessions.path"),
        ({"path": "/a; b"}, "sticky_sessions.path"),
        ({"secret": "short"}, "16 characters at least: `openssl rand -hex 32` makes one"),
        ({"secret_file": ""}, "write one like ./data/sticky.key"),
        ({"secret_file": "a\0b"}, "write one like ./data/sticky.key"),
        ({"same_site": "none", "secure": "never"}, "browsers refuse same_site: none without secure"),
        ({"cookie": "__Secure-lb"}, 'browsers refuse "__Secure-lb" without secure: write secure: always'),
        ({"cookie": "__Host-lb", "secure": "always", "domain": "x.example"}, "with a domain or a path: leave them out"),
        ({"cookie": "__Host-lb", "secure": "always", "path": "/a"}, "with a domain or a path: leave them out"),
        ({"coookie": "x"}, "did you mean cookie?"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(wrong)
    assert said in str(refused.value)


def test_what_browsers_accept_is_accepted() -> None:
    assert settings({"cookie": "__Host-lb", "secure": "always"}).cookie == "__Host-lb"
    assert settings({"same_site": "none", "secure": "always"}).same_site == "none"


def test_a_secret_is_not_shown() -> None:
    secret = "not to be seen by anybody"
    found = settings({"secret": secret})
    assert found.secret.get_secret_value() == secret
    assert secret not in repr(found)
    assert secret not in found.model_dump_json()
    with pytest.raises(ConfigError) as refused:
        settings({"secret": "a short one"})
    assert "a short one" not in str(refused.value)


def test_the_schema_has_every_field() -> None:
    part = json_schema(Plugins.discover())["$defs"]["StickySettings"]
    (mapping,) = [each for each in part["anyOf"] if "properties" in each]
    assert mapping["properties"].keys() == StickySettings.model_fields.keys()
