"""A body taken out of the backend's framing, passed through a transform and framed anew, however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.engine.chunks import ChunkError, ChunkScanner
from lb_core.engine.response_heads import ResponseHead
from lb_core.engine.transforming import Transforming


class Doubling:
    """Every byte twice, some of them late."""

    def __init__(self) -> None:
        self.kept = b""

    def feed(self, data: bytes) -> bytes:
        data = self.kept + data
        half = len(data) // 2
        self.kept = data[half:]
        return self._twice(data[:half])

    def finish(self) -> bytes:
        return self._twice(self.kept) + b"."

    def _twice(self, data: bytes) -> bytes:
        return b"".join(bytes([byte, byte]) for byte in data)


def head(*, length: int = -1, chunked: bool = False) -> ResponseHead:
    made = ResponseHead()
    made.length, made.chunked = length, chunked
    return made


def framed(framing: str, body: bytes) -> tuple[ResponseHead, bytes]:
    if framing == "chunked":
        data = b"".join(
            b"%x;x\r\n%b\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7)
        )
        return head(chunked=True), data + b"0\r\nTrailer: x\r\n\r\n"
    return (head(length=len(body)) if framing == "length" else head()), body


@given(
    st.binary(max_size=40),
    st.sampled_from(["length", "chunked", "close"]),
    st.lists(st.integers(0, 120), max_size=6),
    st.booleans(),
)
def test_whatever_the_framing_and_the_cuts(body: bytes, framing: str, cuts: list[int], in_chunks: bool) -> None:
    said, data = framed(framing, body)
    transforming = Transforming(Doubling(), said)
    marks = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[begin:end] for begin, end in pairwise(marks)]
    out = transforming.feed(pieces[0])
    if in_chunks:
        out = transforming.begin_chunks(out)
    for piece in pieces[1:]:
        if piece:
            assert not transforming.ended
            out += transforming.feed(piece)
    if transforming.until_close:
        assert not transforming.ended
        out += transforming.close()
    assert transforming.ended
    assert transforming.clean
    if in_chunks:
        scanner = ChunkScanner(decode=True)
        out = scanner.feed(out)
        assert scanner.finished
        assert not scanner.rest
    assert out == b"".join(bytes([byte, byte]) for byte in body) + b"."


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_what_follows_the_body_is_left_out_and_told(framing: str) -> None:
    said, data = framed(framing, b"body")
    transforming = Transforming(Doubling(), said)
    assert transforming.feed(data + b"HTTP/1.1 200 OK") == b"bbooddyy."
    assert transforming.ended
    assert not transforming.clean


def test_broken_chunks() -> None:
    with pytest.raises(ChunkError):
        Transforming(Doubling(), head(chunked=True)).feed(b"x\r\n")
