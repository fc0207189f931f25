"""Whom a request counts for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lb_core.testing import exchange
from lb_ratelimit.keys import client_ip, key_function, look_beside, short


def ip(client: str) -> str | bytes | None:
    return client_ip(exchange(client=client))


def test_an_ipv4_address_is_its_own_key() -> None:
    assert ip("192.0.2.1") == "192.0.2.1"
    assert ip("192.0.2.1") != ip("192.0.2.2")


def test_an_ipv6_client_is_its_64() -> None:
    assert ip("2001:db8:1:2::1") == ip("2001:db8:1:2:ffff:ffff:ffff:ffff") == ip("2001:0DB8:1:2::5%eth0")
    assert len({ip("2001:db8:1:2::1"), ip("2001:db8:1:3::1"), ip("2001:db8::1")}) == 3


def test_an_ipv4_address_written_as_ipv6_is_that_ipv4_address() -> None:
    assert ip("::ffff:192.0.2.1") == ip("192.0.2.1")


def test_what_is_no_address_is_its_own_key() -> None:
    assert ip("") == ""
    assert ip("not:an:address") == "not:an:address"


def test_a_route_has_one_key() -> None:
    key = key_function("route")
    assert key(exchange("/a", client="192.0.2.1")) == key(exchange("/b", client="192.0.2.2"))


def test_a_path_goes_without_its_query() -> None:
    key = key_function("path")
    assert key(exchange("/a?x=1")) == key(exchange("/a?x=2")) == "/a"
    assert key(exchange("/A")) != key(exchange("/a"))


def test_a_header_by_any_case_of_its_name() -> None:
    key = key_function("header:X-Api-Key")
    assert key(exchange(headers={"x-api-key": "abc"})) == "abc"
    assert key(exchange(headers={"X-API-KEY": "abd"})) == "abd"


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        ("sid=abc", "abc"),
        ("a=1; sid=abc; b=2", "abc"),
        ("a=1;sid=abc", "abc"),
        ("a=1, sid=abc", "abc"),
        ("sid=first; sid=second", "first"),
        ("xsid=no; sid=abc", "abc"),
        ("sid =no; sid=abc", "abc"),
        ("SID=no; sid=abc", "abc"),
        ('sid="a b"', '"a b"'),
    ],
)
def test_a_cookie(cookies: str, found: str) -> None:
    assert key_function("cookie:sid")(exchange(headers={"Cookie": cookies})) == found


@pytest.mark.parametrize("key", ["header:X-Api-Key", "cookie:sid"])
@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1"])
def test_without_the_header_or_cookie_a_request_counts_for_its_address(key: str, client: str) -> None:
    of = key_function(key)
    lacking = of(exchange(client=client, headers={"Cookie": "other=1", "X-Api-Key": ""}))
    assert lacking is not None
    assert lacking == of(exchange("/other", client=client, headers={"Cookie": "sid="}))
    assert lacking != of(exchange(client="192.0.2.9"))


def test_nobody_counts_for_an_address_by_sending_it_as_a_key() -> None:
    of = key_function("header:X-Api-Key")
    assert of(exchange(client="192.0.2.1")) != of(exchange(client="192.0.2.2", headers={"X-Api-Key": "192.0.2.1"}))


def test_long_keys_are_kept_as_a_hash() -> None:
    of = key_function("header:X-Api-Key")
    keys = [of(exchange(headers={"X-Api-Key": "a" * 5000 + end})) for end in "bc"]
    assert len(set(keys)) == 2
    assert all(isinstance(key, bytes) and len(key) == 16 for key in keys)
    assert short("a" * 64) == "a" * 64
    assert len(short("a" * 65)) == 16
    assert len(short("\ud800" * 65)) == 16


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "lb_keys_of_test.py").write_text(
        "class Keys:\n"
        "    @staticmethod\n"
        "    def tenant(exchange):\n"
        "        return exchange.headers.get('x-tenant')\n"
        "def number(exchange):\n"
        "    return 7\n"
        "async def later(exchange):\n"
        "    return ''\n"
        "text = 'no function'\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    look_beside(str(tmp_path / "lb.yaml"))
    look_beside(str(tmp_path / "lb.yaml"))
    look_beside("")
    assert sys.path.count(str(tmp_path)) == 1
    monkeypatch.delitem(sys.modules, "lb_keys_of_test", raising=False)
    return "lb_keys_of_test"


def test_a_function_of_the_exchange(functions: str) -> None:
    of = key_function(f"{functions}:Keys.tenant")
    assert of(exchange(headers={"X-Tenant": "blue"})) == "blue"
    assert of(exchange()) is None
    assert len(of(exchange(headers={"X-Tenant": "b" * 999})) or "") == 16


def test_a_function_that_returns_no_text_is_named(functions: str) -> None:
    with pytest.raises(TypeError, match=f"{functions}:number returned 7: a key is a str, or None"):
        key_function(f"{functions}:number")(exchange())


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("client", '"client" is not a key: write client_ip, route, path'),
        ("header:", '"" is not the name of a header: write header:X-Api-Key'),
        ("cookie:a b", '"a b" is not the name of a cookie'),
        ("not a module:at all", "is not a key: write client_ip"),
        ("lb_no_such_module:fn", "cannot be imported: ModuleNotFoundError"),
        ("MODULE:nothing", 'has no "nothing"'),
        ("MODULE:text", "is a str, not a function of the exchange"),
        ("MODULE:later", "is a coroutine function: a key is needed at once"),
    ],
)
def test_what_is_no_key_says_how_to_write_one(functions: str, key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        key_function(key.replace("MODULE", functions))
