"""Copies of bodies, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.engine.kept_body import KeptBody
from lb_core.engine.special import Plain, Special

BODY = bytes(range(256)) * 2


def chunked() -> Special:
    special = Special()
    special.chunked = True
    return special


@given(st.lists(st.integers(0, len(BODY) + 60), max_size=8), st.booleans())
def test_the_copy_is_the_body_however_it_is_cut(cuts: list[int], in_chunks: bool) -> None:
    if in_chunks:
        kept = KeptBody(chunked(), 512)
        data = b"100\r\n%b\r\n100;x=y\r\n%b\r\n0\r\nTrailer: t\r\n\r\n" % (BODY[:256], BODY[256:])
    else:
        kept, data = KeptBody(Plain(len(BODY), False), 512), BODY
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        assert kept.whole is None or start == len(data)
        kept.take(data[start:end])
    assert kept.whole == BODY
    assert not kept.collects


@pytest.mark.parametrize("special", [None, Plain(0, True), Plain(-1, True)])
def test_a_request_without_a_body_has_an_empty_one(special: Plain | None) -> None:
    kept = KeptBody(special, 0)
    assert kept.whole == b""
    assert not kept.collects


def test_what_is_too_long_is_given_up_at_once() -> None:
    kept = KeptBody(Plain(513, False), 512)
    assert not kept.collects
    kept.take(b"x" * 513)
    assert kept.whole is None
    kept = KeptBody(chunked(), 4)
    kept.take(b"4\r\nabcd\r\n")
    assert kept.collects
    kept.take(b"1\r\ne\r\n")
    assert not kept.collects
    kept.take(b"0\r\n\r\n")
    assert kept.whole is None
