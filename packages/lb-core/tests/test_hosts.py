"""Host patterns, normalised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.hosts import is_wildcard, normalise_pattern


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Example.COM.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("*.Example.com", "*.example.com"),
        ("**.example.com", "**.example.com"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("*", "*"),
        ("localhost", "localhost"),
        ("my_service", "my_service"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8:0::1]", "[2001:db8::1]"),
        ("::1", "[::1]"),
    ],
)
def test_patterns(text: str, pattern: str) -> None:
    assert normalise_pattern(text) == pattern
    assert normalise_pattern(pattern) == pattern
    assert is_wildcard(pattern) is text.startswith("*")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://example.com/x", '"http://example.com/x" is a URL: a route is a host, write "example.com"'),
        ("example.com/v2", "has a path: write the host, and the path as `path_prefix`"),
        ("example.com:8080", 'has a port: hosts are matched without it, write "example.com"'),
        ("exa mple.com", 'is not a host: "exa mple" should be 1 to 63 letters'),
        ("-a.com", "is not a host"),
        ("a..com", 'is not a host: "" should be'),
        ("", "it has 0 characters, 1 to 253 are possible"),
        ("a" * 64 + ".com", "should be 1 to 63 letters"),
        ("a." * 130 + "com", "1 to 253 are possible"),
        ("www.*.com", "a wildcard stands for whole labels at the front"),
        ("*a.com", "a wildcard stands for whole labels"),
        ("***", "a wildcard stands for whole labels"),
        ("[::zz]", "is not an IPv6 address"),
        ("a\u2028b.com", "is not an international host name"),
    ],
)
def test_what_is_no_host(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as error:
        normalise_pattern(text)
    assert message in str(error.value)


@given(st.text(max_size=40))
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    try:
        pattern = normalise_pattern(text)
    except ValueError:
        return
    assert pattern.isascii()
    assert normalise_pattern(pattern) == pattern
