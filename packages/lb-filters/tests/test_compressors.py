"""Every body comes out of the decompressor as it went in, however it is cut."""

from __future__ import annotations

import io
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_filters.compressors import KEPT, Gzip, Zstd

MAKERS: dict[str, Gzip | Zstd] = {"gzip": Gzip(3), "zstd": Zstd(3)}
BODY = b"".join(b"%d, " % number for number in range(4000))


def expand(coding: str, data: bytes) -> bytes:
    if coding == "gzip":
        return zlib.decompress(data, 31)
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()


@pytest.mark.parametrize("coding", MAKERS)
@given(pieces=st.lists(st.binary(max_size=300), max_size=6), known=st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_goes_in_comes_out(coding: str, pieces: list[bytes], known: bool) -> None:
    whole = b"".join(pieces)
    body = MAKERS[coding].begin(len(whole) if known else -1)
    out = b"".join([body.feed(piece) for piece in pieces if piece])
    out += body.finish()
    assert (expand(coding, out) if out else b"") == whole


@pytest.mark.parametrize("coding", MAKERS)
def test_of_unknown_length_every_piece_can_be_read_at_once(coding: str) -> None:
    body = MAKERS[coding].begin(-1)
    reader = zlib.decompressobj(31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
    for number in range(5):
        assert reader.decompress(body.feed(b"piece %d;" % number)) == b"piece %d;" % number
    reader.decompress(body.finish())


@pytest.mark.parametrize("coding", MAKERS)
def test_of_known_length_nothing_is_flushed_before_the_end(coding: str) -> None:
    body = MAKERS[coding].begin(len(BODY))
    early = body.feed(BODY[:1000]) + body.feed(BODY[1000:2000])
    assert len(early) < 64
    assert expand(coding, early + body.feed(BODY[2000:]) + body.finish()) == BODY


@pytest.mark.parametrize("coding", MAKERS)
def test_bodies_that_overlap_do_not_mix(coding: str) -> None:
    bodies = [MAKERS[coding].begin(-1) for _ in range(KEPT + 5)]
    outs = [b""] * len(bodies)
    for part in range(3):
        for number, body in enumerate(bodies):
            outs[number] += body.feed(b"%d of %d;" % (part, number))
    for number, body in enumerate(bodies):
        outs[number] += body.finish()
        assert expand(coding, outs[number]) == b"".join(b"%d of %d;" % (part, number) for part in range(3))


@pytest.mark.parametrize("coding", MAKERS)
def test_it_is_worth_it(coding: str) -> None:
    body = MAKERS[coding].begin(len(BODY))
    assert len(body.feed(BODY) + body.finish()) < len(BODY) / 2
