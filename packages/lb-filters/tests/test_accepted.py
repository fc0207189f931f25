"""Accept-Encoding (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_filters.accepted import chosen

BOTH = ("zstd", "gzip")


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.9", "gzip"),
        ("gzip;q=0.5,zstd;q=0.5", "zstd"),
        ("gzip ; q=0.5 , br", "gzip"),
        ("*", "zstd"),
        ("*;q=0.1, gzip", "gzip"),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=0", ""),
        ("gzip;Q=0.000", ""),
        ("*;q=0", ""),
        ("identity", ""),
        ("identity;q=0.5, gzip;q=0.4", ""),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("identity;q=0", ""),
        ("br", ""),
        ("", ""),
        (",,gzip,,", "gzip"),
        ("gzip;level=9", ""),
        ("gzip;q=5", ""),
        ("gzip;q=1.5", "gzip"),
        ("gzip;q=x, zstd;q=0.3", "zstd"),
        ("gzip gzip", ""),
        ("gzi", ""),
    ],
)
def test_what_is_chosen(accept: str, coding: str) -> None:
    assert chosen(accept, BOTH) == coding


def test_of_equal_ones_the_first_that_is_offered() -> None:
    assert chosen("gzip, zstd", ("gzip", "zstd")) == "gzip"
    assert chosen("zstd", ("gzip",)) == ""


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_any_text_is_an_answer(accept: str) -> None:
    assert chosen(accept, BOTH) in ("zstd", "gzip", "")
    if "gzip" not in accept.lower() and "*" not in accept:
        assert chosen(accept, ("gzip",)) == ""
