"""Fake pools and exchanges: real objects with what the test says."""

from __future__ import annotations

import pytest

from lb_core.backend import NO_LIMIT, Backend
from lb_core.exchange import Exchange
from lb_core.testing import exchange, pool


def test_backends_come_in_order() -> None:
    a, b, first, second = pool(2, a={"cost": 1}, b={"cost": 5, "weight": 3, "zone": "x", "max_connections": 9})
    assert [type(each) for each in (a, b, first, second)] == [Backend] * 4
    assert [each.name for each in (a, b, first, second)] == ["a", "b", "b0", "b1"]
    assert (a.labels, a.weight, a.limit, a.in_flight) == ({"cost": 1}, 1, NO_LIMIT, 0)
    assert (b.labels, b.weight, b.limit, b.zone) == ({"cost": 5}, 3, 9, "x")
    assert all(each.available for each in (a, b, first, second))
    assert len({each.address for each in pool(n=600)}) == 600


def test_requests_in_flight_may_be_given() -> None:
    (busy,) = pool(busy={"in_flight": 7})
    assert busy.in_flight == 7


def test_an_exchange_is_a_real_one() -> None:
    backends = pool(n=2)
    asked = exchange(
        "/users?id=7",
        method="POST",
        host="api.example.com",
        headers={"Cookie": "a=1", "X-Id": "9"},
        client="2001:db8::1",
        scheme="https",
        backends=backends,
    )
    assert type(asked) is Exchange
    assert (asked.method, asked.path, asked.query) == ("POST", "/users", "id=7")
    assert (asked.host, asked.client, asked.scheme) == ("api.example.com", "2001:db8::1", "https")
    assert asked.headers["cookie"] == "a=1"
    assert asked.headers.get("x-id") == "9"
    assert dict(asked.headers)["Host"] == "api.example.com"
    assert asked.pool.candidates == backends
    assert asked.route.pool is asked.pool
    assert asked.connection.port == 443


def test_a_header_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="control characters"):
        exchange(headers={"X-Id": "a\r\nb"})
