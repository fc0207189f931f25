"""What all connections share."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from lb_core.engine import engine as module
from lb_core.engine.engine import Engine
from lb_core.pool import Pool
from lb_core.route import Route
from lb_core.sections import RouteConfig
from lb_core.table import Table


@pytest.fixture
def engine() -> Engine:
    return Engine(Table(()), Route(RouteConfig(name="none", host="*", pool="none"), Pool("none", ())))


def test_request_ids_are_all_different(engine: Engine) -> None:
    ids = [engine.next_id() for _ in range(20_000)]
    assert len(set(ids)) == len(ids)
    assert {len(each) for each in ids} == {32}
    assert all(set(each) <= set(b"0123456789abcdef-") for each in ids[:100])
    prefixes = {each[:24] for each in ids}
    assert len(prefixes) > 3  # the random part is renewed again and again


def test_an_origin_is_kept_until_somebody_else_is_trusted(engine: Engine) -> None:
    first = engine.origin("10.0.0.1", "http", 80)
    assert engine.origin("10.0.0.1", "http", 80) is first
    assert not first.trusted
    for other in (("10.0.0.2", "http", 80), ("10.0.0.1", "https", 80), ("10.0.0.1", "http", 81)):
        assert engine.origin(*other) is not first
    engine.trusted_proxies = (ip_network("10.0.0.0/8"),)
    second = engine.origin("10.0.0.1", "http", 80)
    assert second is not first
    assert second.trusted


def test_origins_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ORIGINS", 10)
    for number in range(25):
        engine.origin(f"10.0.0.{number}", "http", 80)
    assert len(engine._origins) <= 10
