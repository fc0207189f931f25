"""The cookie in a head, and as it is set."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lb_sessions.cookie import Cookie
from lb_sessions.session_names import is_session_name
from lb_sessions.settings import StickySettings

TOKEN = b"0123456789abcdef"
HEXADECIMAL = re.compile(rb"[0-9a-f]{16}").fullmatch
COOKIE = Cookie(StickySettings())


def head(*lines: bytes) -> bytes:
    return b"".join([b"GET /a HTTP/1.1\r\n", b"Host: example.com\r\n", *(line + b"\r\n" for line in lines)]) + b"\r\n"


def quick(cookie: Cookie, data: bytes) -> bytes:
    """What is found without taking the head apart; empty where that must be done."""
    at = data.find(cookie.sign)
    found = data[at + len(cookie.sign) : at + cookie.size]
    return found if at >= 0 and cookie.stands(data, at) and HEXADECIMAL(found) else b""


@pytest.mark.parametrize(
    "line",
    [
        b"Cookie: lb_sticky=0123456789abcdef",
        b"cookie: lb_sticky=0123456789abcdef",
        b"Cookie: a=b; lb_sticky=0123456789abcdef; c=d",
        b"Cookie: a; lb_sticky=0123456789abcdef; ",
        b"Cookie: " + b"x" * 9000 + b"; lb_sticky=0123456789abcdef",
        b"Cookie: a=b\r\nCookie: lb_sticky=0123456789abcdef",
        b"Cookie: lb_sticky=0123456789abcdef\r\nCookie: a=b",
    ],
)
def test_a_token_is_found(line: bytes) -> None:
    assert COOKIE.token(head(line)) == quick(COOKIE, head(line)) == TOKEN


@pytest.mark.parametrize(
    "line",
    [
        b"cookie:lb_sticky=0123456789abcdef",
        b"COOKIE: \t lb_sticky=0123456789abcdef \t",
        b"CooKie: a=b; lb_sticky=0123456789abcdef",
        b"Referer: http://x/?lb_sticky=1\r\nCookie: lb_sticky=0123456789abcdef",
        b"Cookie: xlb_sticky=2; lb_sticky=0123456789abcdef; a=lb_sticky=3",
    ],
)
def test_a_token_is_found_by_the_letter(line: bytes) -> None:
    assert COOKIE.token(head(line)) == TOKEN
    assert quick(COOKIE, head(line)) == b""


@pytest.mark.parametrize(
    "line",
    [
        b"X: y",
        b"Cookie:",
        b"Cookie: lb_sticky",
        b"Cookie: lb_sticky=",
        b"Cookie: lb_sticky=0123456789abcde",
        b"Cookie: lb_sticky=0123456789abcdef0",
        b"Cookie: lb_sticky=0123456789ABCDEF",
        b"Cookie: lb_sticky=0123456789abcdeg",
        b'Cookie: lb_sticky="0123456789abcdef"',
        b"Cookie: lb_sticky= 0123456789abcdef",
        b"Cookie: lb_sticky =0123456789abcdef",
        b"Cookie: Lb_sticky=0123456789abcdef",
        b"Cookie: xlb_sticky=0123456789abcdef",
        b"Cookie: a=b;lb_sticky=0123456789abcdef",
        b"Cookie: a=b,lb_sticky=0123456789abcdef",
        b"Cookie: a=lb_sticky=0123456789abcdef",
        b"Cookie: lb_sticky=0123456789abcdef;",
        b"Cookie: lb_sticky=0123456789abcdef ; a=b",
        b"Cookie: lb_sticky=0123456789abcdef; lb_sticky=0123456789abcdef",
        b"Cookie: lb_sticky=0123456789abcdef; lb_sticky=",
        b"Cookie: lb_sticky=0123456789abcdef\r\nCookie: lb_sticky=fedcba9876543210",
        b"X-Cookie: lb_sticky=0123456789abcdef",
        b"X: ; lb_sticky=0123456789abcdef; ",
        b"Cookies: lb_sticky=0123456789abcdef",
    ],
)
def test_what_is_no_token_or_not_alone_is_none(line: bytes) -> None:
    assert COOKIE.token(head(line)) == quick(COOKIE, head(line)) == b""


PIECES = st.sampled_from(
    [
        *(b"lb_sticky=0123456789abcdef", b"lb_sticky=", b"lb_sticky", b"0123456789abcdef"),
        *(b"; ", b";", b" ", b"\t", b"a=b", b",", b"=", b"x"),
        *(b"\r\nCookie: ", b"\r\ncookie:", b"\r\nX: "),
    ]
)


@given(st.lists(PIECES, max_size=8))
@example([b"lb_sticky=0123456789abcdef", b" ", b"; "])
@example([b"; ", b"lb_sticky=0123456789abcdef"])
@example([b"\r\nX: ", b"; ", b"lb_sticky=0123456789abcdef"])
def test_a_glance_never_finds_what_the_letter_does_not(pieces: list[bytes]) -> None:
    data = head(b"Cookie: " + b"".join(pieces))
    assert quick(COOKIE, data) in (b"", COOKIE.token(data))


def test_a_name_with_signs_of_regular_expressions() -> None:
    cookie = Cookie(StickySettings(cookie="a.b*c"))
    assert quick(cookie, head(b"Cookie: a.b*c=0123456789abcdef")) == TOKEN
    assert quick(cookie, head(b"Cookie: axbbc=0123456789abcdef")) == b""


def test_the_attributes() -> None:
    assert COOKIE.setting(TOKEN, tls=False) == "lb_sticky=0123456789abcdef; Path=/; HttpOnly; SameSite=Lax"
    assert COOKIE.setting(TOKEN, tls=True).endswith("; SameSite=Lax; Secure")
    full = Cookie(StickySettings(cookie="c", ttl=60, domain=".x.example", path="/p", same_site="none", secure="always"))
    expected = "c=0123456789abcdef; Path=/p; Domain=.x.example; Max-Age=60; HttpOnly; SameSite=None; Secure"
    assert full.setting(TOKEN, tls=False) == full.setting(TOKEN, tls=True) == expected
    assert "Secure" not in Cookie(StickySettings(secure="never")).setting(TOKEN, tls=True)
    for cookie in (COOKIE, full):
        assert re.fullmatch(r"[\x20-\x7e]+", cookie.setting(TOKEN, tls=True))


@pytest.mark.parametrize(
    "name",
    [
        *("PHPSESSID", "JSESSIONID", "connect.sid", "session", "sessionid", "ASP.NET_SessionId", "_session_id", "sid"),
        *("ASPSESSIONIDQADTCRQS", "laravel_session", "ci_session", "rack.session", ".AspNetCore.Session", "CFID"),
        *("PLAY_SESSION", "wordpress_logged_in_0af1", "session-id", "my_session_token", "koa.sess"),
    ],
)
def test_names_of_applications_sessions(name: str) -> None:
    assert is_session_name(name)


@pytest.mark.parametrize("name", ["lb_sticky", "app_backend", "SERVERID", "route", "sidebar", "obsession_level", "id"])
def test_other_names(name: str) -> None:
    assert not is_session_name(name)
