"""The chunk scanner, fed whole, cut at arbitrary places and byte by byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.engine.chunks import MAX_EXTENSIONS, MAX_LINE, MAX_TRAILERS, ChunkError, ChunkScanner

EXTENSIONS = st.sampled_from((b"", b";a=b", b" ; name=value", b'\t;q="a b;c"', b";", b";\xe9"))
SIZES = st.sampled_from(("%x", "%X", "000%x"))
TRAILERS = st.lists(
    st.sampled_from((b"X-Sum: 1\r\n", b"Content-Length: 5\r\n", b"A:\r\n", b"B: \xff\t\r\n")), max_size=3
)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A valid body: as sent, as it may be passed on, and its payload."""
    wire = payload = b""
    for data in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6)):
        size = (draw(SIZES) % len(data)).encode()
        wire += size + draw(EXTENSIONS) + b"\r\n" + data + b"\r\n"
        payload += data
    wire += draw(st.sampled_from((b"0", b"000"))) + draw(EXTENSIONS) + b"\r\n"
    return wire + b"".join(draw(TRAILERS)) + b"\r\n", wire + b"\r\n", payload


@st.composite
def cut_up(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = draw(st.lists(st.integers(0, len(data)), max_size=8))
    return [data[start:end] for start, end in pairwise([0, *sorted(places), len(data)])]


def feed(scanner: ChunkScanner, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What a scanner passes on, and what lies behind the body."""
    out = rest = b""
    for piece in pieces:
        if scanner.finished:
            rest += piece
        else:
            out += scanner.feed(piece)
            rest = scanner.rest
    return out, rest


def single(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@given(chunked_bodies(), st.binary(max_size=10), st.data())
def test_a_valid_body_passes_as_received_without_its_trailers(
    body: tuple[bytes, bytes, bytes], behind: bytes, data: st.DataObject
) -> None:
    wire, passed, payload = body
    scanner = ChunkScanner()
    assert feed(scanner, data.draw(cut_up(wire + behind))) == (passed, behind)
    assert scanner.finished
    assert scanner.payload == len(payload)


@given(chunked_bodies(), st.binary(max_size=10), st.data())
def test_decoding_gives_the_payload(body: tuple[bytes, bytes, bytes], behind: bytes, data: st.DataObject) -> None:
    wire, _, payload = body
    scanner = ChunkScanner(decode=True)
    assert feed(scanner, data.draw(cut_up(wire + behind))) == (payload, behind)
    assert scanner.finished
    assert scanner.payload == len(payload)


@given(chunked_bodies(), st.booleans())
def test_byte_by_byte_is_the_same_as_whole(body: tuple[bytes, bytes, bytes], decode: bool) -> None:
    wire, passed, payload = body
    whole, single_bytes = ChunkScanner(decode=decode), ChunkScanner(decode=decode)
    assert feed(whole, [wire]) == feed(single_bytes, single(wire)) == (payload if decode else passed, b"")


@given(chunked_bodies(), st.data())
def test_an_unfinished_body_is_not_finished(body: tuple[bytes, bytes, bytes], data: st.DataObject) -> None:
    wire, passed, _ = body
    scanner = ChunkScanner()
    out, _ = feed(scanner, data.draw(cut_up(wire[: data.draw(st.integers(0, len(wire) - 1))])))
    assert not scanner.finished
    assert passed.startswith(out)


VALID = b"3\r\nabc\r\n"
MALFORMED = {
    "no size": b"\r\n",
    "no hex": b"g\r\n",
    "prefixed": b"0x3\r\nabc\r\n",
    "signed": b"+3\r\nabc\r\n",
    "negative": b"-3\r\nabc\r\n",
    "underscore": b"1_0\r\n",
    "space before": b" 3\r\nabc\r\n",
    "space behind": b"3 \r\nabc\r\n",
    "tab behind": b"3\t\r\nabc\r\n",
    "two sizes": b"3 3\r\nabc\r\n",
    "comma": b"3,3\r\nabc\r\n",
    "16 digits": b"0000000000000003\r\nabc\r\n",
    "huge": b"ffffffffffffffff\r\n",
    "bare LF": b"3\nabc\r\n",
    "bare CR": b"3\rabc\r\n",
    "CR CR LF": b"3\r\r\nabc\r\n",
    "NUL in an extension": b"3;a=\x00\r\nabc\r\n",
    "bare LF in an extension": b"3;a\n\r\nabc\r\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n",
    "DEL in an extension": b"3;\x7f\r\nabc\r\n",
    "data too long": b"3\r\nabcd\r\n",
    "data too short": b"3\r\nab\r\n0\r\n\r\n",
    "LF behind the data": b"3\r\nabc\n0\r\n\r\n",
    "no CR LF behind the data": b"3\r\nabc0\r\n\r\n",
    "CR alone behind the data": b"3\r\nabc\r0\r\n\r\n",
    "trailer without colon": b"0\r\nabc\r\n\r\n",
    "trailer without name": b"0\r\n: a\r\n\r\n",
    "space before the trailer's colon": b"0\r\nA : b\r\n\r\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "NUL in a trailer": b"0\r\nA: \x00\r\n\r\n",
    "bare LF in a trailer": b"0\r\nA: b\nC: d\r\n\r\n",
    "bare CR in a trailer": b"0\r\nA: b\rC: d\r\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    "bare CR at the end": b"0\r\n\rx",
    "request for the last line": b"0\r\nGET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("decode", [False, True], ids=["as received", "decoded"])
@pytest.mark.parametrize("bad", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_refused_wherever_it_is_cut(bad: bytes, decode: bool) -> None:
    data = VALID + bad
    ways = [[data], single(data), *([data[:at], data[at:]] for at in range(1, len(data)))]
    for pieces in ways:
        scanner = ChunkScanner(decode=decode)
        passed = b""

        def feed_all(pieces: list[bytes] = pieces, scanner: ChunkScanner = scanner) -> None:
            nonlocal passed
            for piece in pieces:
                passed += scanner.feed(piece)

        with pytest.raises(ChunkError):
            feed_all()
        assert not scanner.finished
        valid = _valid_prefix(bad)
        allowed = b"abc" + valid[3:6] if decode else VALID + valid
        assert allowed.startswith(passed)


def _valid_prefix(bad: bytes) -> bytes:
    """Of a malformed body, what is well-formed as far as it goes: whole size lines and the data they announce."""
    for good in (b"3\r\nabc\r\n", b"3\r\nabc", b"3\r\nab\r", b"0\r\n"):
        if bad.startswith(good):
            return good
    return b""


@pytest.mark.parametrize("pieces", [1, 0], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        (b"1;%b\r\n" % (b"x" * (MAX_LINE - 4)), True),
        (b"1;%b\r\n" % (b"x" * (MAX_LINE - 3)), False),
        (b"0\r\nA:%b\r\n" % (b"x" * (MAX_LINE - 4)), True),
        (b"0\r\nA:%b\r\n" % (b"x" * (MAX_LINE - 3)), False),
        (b"1" * MAX_LINE, False),
        (b"0\r\n" + b"a" * MAX_LINE, False),
    ],
    ids=["extension", "extension too long", "trailer", "trailer too long", "endless size", "endless trailer"],
)
def test_the_limit_of_a_line_is_the_same_however_it_comes(line: bytes, accepted: bool, pieces: int) -> None:
    scanner = ChunkScanner()
    if accepted:
        feed(scanner, [line] if pieces else single(line))
        assert not scanner.finished
    else:
        with pytest.raises(ChunkError, match=r"exceeds|bad chunk line"):
            feed(scanner, [line] if pieces else single(line))


def test_extensions_are_limited_in_all() -> None:
    chunk = b"1;%b\r\nx\r\n" % (b"y" * 1023)
    scanner = ChunkScanner()
    for _ in range(MAX_EXTENSIONS // 1024):
        assert scanner.feed(chunk) == chunk
    with pytest.raises(ChunkError, match="extensions exceed"):
        scanner.feed(chunk)


def test_trailers_are_limited_in_all() -> None:
    line = b"X: %b\r\n" % (b"y" * 1019)
    scanner = ChunkScanner()
    assert scanner.feed(b"0\r\n") == b"0\r\n"
    for _ in range(MAX_TRAILERS // 1024):
        assert scanner.feed(line) == b""
    with pytest.raises(ChunkError, match="trailer fields exceed"):
        scanner.feed(line)


def test_an_incomplete_size_line_is_held_back() -> None:
    scanner = ChunkScanner()
    assert scanner.feed(VALID + b"5") == VALID
    assert scanner.feed(b";a=b\r") == b""
    assert scanner.feed(b"\nab") == b"5;a=b\r\nab"


def test_large_data_is_passed_on_as_the_same_object() -> None:
    scanner = ChunkScanner()
    assert scanner.feed(b"100000\r\n") == b"100000\r\n"
    data = bytes(256 * 1024)
    assert scanner.feed(data) is data


def test_nothing_is_nothing() -> None:
    scanner = ChunkScanner()
    assert scanner.feed(b"") == b""
    assert not scanner.finished
