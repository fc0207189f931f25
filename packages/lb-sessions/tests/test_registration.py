"""What lb-sessions offers, and what it does at the start."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lb_sessions
from lb_core import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.plugins import Plugins
from lb_sessions import CookieSessions, HeaderSessions

if TYPE_CHECKING:
    import pytest


def balancer(**routes: Any) -> LoadBalancer:
    plugins = Plugins.discover()
    tree = {"routes": {f"{name}.example": {"backends": ["127.0.0.1:1"], **route} for name, route in routes.items()}}
    return LoadBalancer(config_from_tree({**tree, "access_log": False}, plugins, source=""), plugins=plugins)


def test_the_entry_point_is_found() -> None:
    plugins = Plugins.discover(built_in=())
    (found,) = [each for each in plugins.loaded if each.distribution == "lb-sessions"]
    assert (found.name, plugins.broken) == ("sessions", [])
    assert "sticky_sessions" in plugins.features


def test_a_route_has_sessions_by_cookie_or_by_header() -> None:
    made = balancer(one={"sticky_sessions": True}, two={"sticky_sessions": "header:X-User"}, three={})
    parts = [dict(route.parts).get("sticky_sessions") for route in made.routes.values()]
    assert isinstance(parts[0], CookieSessions)
    assert isinstance(parts[1], HeaderSessions)
    assert parts[2] is None
    assert [route.keeps is not None for route in made.routes.values()] == [True, True, False]


async def test_files_are_made_at_the_start_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "sticky.key"
    made = balancer(one={"sticky_sessions": {"secret_file": str(path)}}, two={"sticky_sessions": "header:X-User"})
    made.explain("GET", "http://one.example/", headers={"Cookie": "lb_sticky=0123456789abcdef"})
    assert not path.exists()
    async with made.lifespan():
        assert path.exists()


def test_a_name_of_an_applications_session_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    lb_sessions._warn_of_name.cache_clear()
    with caplog.at_level(logging.WARNING, logger="lb.sessions"):
        balancer(one={"sticky_sessions": {"cookie": "PHPSESSID"}}, two={"sticky_sessions": {"cookie": "PHPSESSID"}})
        balancer(one={"sticky_sessions": {"cookie": "lb_sticky"}})
        balancer(one={"sticky_sessions": {"cookie": "sessionid", "by": "header:X-User"}})
    (record,) = caplog.records
    assert record.getMessage().startswith("sticky_sessions: the cookie PHPSESSID looks like an application's session")
    assert "lb_sticky" in record.getMessage()


async def test_routes_of_one_host_with_the_same_cookie_are_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sticky = {"secret_file": str(tmp_path / "key")}
    rules = [{"path_prefix": "/a"}, {"path_prefix": "/b", "backends": ["127.0.0.1:2"]}]
    made = balancer(one={"sticky_sessions": sticky, "match": rules}, two={"sticky_sessions": sticky})
    with caplog.at_level(logging.WARNING, logger="lb.sessions"):
        async with made.lifespan():
            pass
    (record,) = caplog.records
    assert "the routes 'one.example' and 'one.example /b' have different backends" in record.getMessage()
