"""The section `failover:` and what lb-failover offers."""

from __future__ import annotations

from typing import Any

import pytest

from lb_core import ConfigError
from lb_core.config import Config, config_from_tree
from lb_core.plugins import Plugins
from lb_failover.settings import FailoverSettings, uses


def load(section: object, **backup: Any) -> Config:
    routes = {
        "example.com": {"backends": ["127.0.0.1:9001"], "failover": section},
        "backup.example.com": {"backends": ["127.0.0.1:9002"], **backup},
    }
    return config_from_tree({"routes": routes}, Plugins.discover())


def settings(section: object) -> FailoverSettings:
    (found,) = [each.settings for each in load(section).routes[0].features if each.name == "failover"]
    assert isinstance(found, FailoverSettings)
    return found


def test_the_entry_point_is_found() -> None:
    plugins = Plugins.discover(built_in=())
    (found,) = [each for each in plugins.loaded if each.distribution == "lb-failover"]
    assert found.name == "failover"
    assert "failover" in plugins.features


def test_short_and_long_forms() -> None:
    short = settings("Backup.Example.com.")
    assert (short.backup_domain, short.return_after, short.host) == ("backup.example.com", 10, b"")
    long = settings({"backup_domain": "backup.example.com", "return_after": "1m", "rewrite_host": True})
    assert (long.return_after, long.host) == (60, b"backup.example.com")
    rule = FailoverSettings(backup_domain="Example.com /v2 ", rewrite_host=True)
    assert (rule.backup_domain, rule.host) == ("Example.com /v2", b"Example.com")


def test_it_uses_the_backup_s_route() -> None:
    (use,) = uses(FailoverSettings(backup_domain="b.example", health_check="/ready"))
    assert (use.kind, use.name, use.key, use.acyclic, use.health_check) == (
        "route",
        "b.example",
        ("backup_domain",),
        True,
        "/ready",
    )


def test_the_backup_is_checked_by_the_section_s_path_where_it_has_none() -> None:
    def path(**backup: Any) -> str:
        section = {"backup_domain": "backup.example.com", "health_check": "/ready"}
        pools = {pool.name: pool for pool in load(section, **backup).pools}
        assert pools["example.com"].health_check is None
        check = pools["backup.example.com"].health_check
        return check.path if check else ""

    assert path() == "/ready"
    assert path(health_check="/own") == "/own"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("bakup.example.com", "did you mean backup.example.com?"),
        ("", "this is empty: write the domain of another route"),
        ({"return_after": "10s"}, "backup_domain"),
        ({"backup_domain": "backup.example.com", "health_check": "health"}, '"health" is not a path'),
        ({"backup_domain": "backup.example.com", "return_after": 10}, "write 10s"),
        ("example.com", "this leads back to itself: example.com -> example.com"),
    ],
)
def test_what_cannot_be_is_said(section: object, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(section)
    assert said in str(refused.value)
