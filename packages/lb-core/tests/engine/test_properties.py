"""What holds for every input of the engine's pure parts: heads, their rules, the host grammar, chunked bodies.

test_chunks.py and test_heads.py hold the cases by name; here the inputs are made up.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from hypothesis import assume, example, given
from hypothesis import strategies as st

from lb_core.engine.chunks import ChunkError, ChunkScanner
from lb_core.engine.heads import cut
from lb_core.engine.request_heads import RequestHead, read_request
from lb_core.engine.response_heads import (
    ResponseHead,
    check_ordinary_response,
    plain_status,
    read_response,
)
from lb_core.errors import RequestError
from lb_core.table import normalise

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
NAMES = st.text(TOKEN, min_size=1, max_size=12).map(str.encode)
VALUES = st.binary(max_size=20).map(lambda raw: bytes(byte for byte in raw if byte in b"\t" or 32 <= byte != 127))
PLAIN_FIELDS = st.tuples(NAMES, VALUES).map(lambda field: b"X-A-%b: %b" % field)
SPECIAL_FIELDS = st.sampled_from(
    (
        b"Connection: close",
        b"Connection: keep-alive",
        b"connection: X-A, Keep-Alive",
        b"Connection: upgrade",
        b"Connection:",
        b"Connection: host",
        b"Connection: a b",
        b"Content-Length: 5",
        b"content-length:\t007 ",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Content_Length: 9",
        b"Transfer-Encoding: chunked",
        b"TRANSFER-ENCODING:\tChunked",
        b"Transfer-Encoding: gzip, chunked",
        b"TE: trailers",
        b"Trailer: X",
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"Keep-Alive: 5",
        b"Expect: 100-continue",
        b"Expect: 200-ok",
        b"X-Forwarded-For: 192.0.2.1",
        b"x_forwarded_for: 192.0.2.1",
        b"X-Request-Id: abc",
        b"X-Request-Id: a b",
        b"Forwarded: for=a",
        b"Host: other.example",
        b"Proxy-Connection: keep-alive",
        b" folded",
        b"No colon",
        b"X-A : b",
        b"X-A: b\0",
        b"X-A: b\rc",
        b"X-A: b\nc",
    )
)
LINES = st.lists(st.one_of(PLAIN_FIELDS, SPECIAL_FIELDS), max_size=6)
FIRST_LINES = st.sampled_from(
    (
        b"GET / HTTP/1.1",
        b"POST /a?b=c HTTP/1.1",
        b"GET /old HTTP/1.0",
        b"OPTIONS * HTTP/1.1",
        b"GET http://example.com/x HTTP/1.1",
        b"HEAD /%00 HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1",
        b"GET /a#b HTTP/1.1",
        b"GET / HTTP/1.2",
        b"GET /a b HTTP/1.1",
    )
)

Verdict = tuple[object, ...]


def heads(first: bytes, lines: list[bytes], *, host: bytes = b"Host: example.com") -> bytes:
    return b"\r\n".join([first, host, *lines, b"", b""])


def judge(head: bytes, behind: bytes = b"") -> tuple[RequestHead | None, tuple[int, str]]:
    """What is read from a head, or how it is refused."""
    data = head + behind
    try:
        return read_request(data, data.index(b"\r\n\r\n"), 100), (0, "")
    except RequestError as error:
        return None, (error.status, error.word)


def said(request: RequestHead | None) -> Verdict:
    """What the engine goes by, in a form that can be compared."""
    if request is None:
        return ()
    method, target, host, _, special, _ = request
    if special is None:
        return method, target, host, False, -1, b"", False, False, ()
    return (
        method,
        target,
        host,
        special.chunked,
        special.length,
        special.upgrade,
        special.http10,
        special.close,
        tuple(sorted({name for name in special.cuts if name != b"connection:"})),
    )


# requests


@given(FIRST_LINES, LINES, st.binary(max_size=30))
def test_what_follows_a_head_changes_nothing_about_it(first: bytes, lines: list[bytes], behind: bytes) -> None:
    head = heads(first, lines)
    assume(head.index(b"\r\n\r\n") == len(head) - 4)
    request, refusal = judge(head)
    other, other_refusal = judge(head, behind)
    assert (said(request), refusal) == (said(other), other_refusal)
    if request is not None and other is not None:
        assert request[3] == other[3]
        without_close = head[:-2].replace(b"\nConnection: close\r\n", b"\n", 1)
        assert request[3] == head[:-2] or (request[3] == without_close and request[4] is not None)
        assert request[5] == other[5] == len(head)


@given(FIRST_LINES, LINES, PLAIN_FIELDS, st.data())
def test_an_irrelevant_field_changes_nothing(
    first: bytes, lines: list[bytes], added: bytes, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(lines)))
    # a folded line belongs to the line before it: either way the head is refused, but as what may differ
    request, refusal = judge(heads(first, lines))
    other, other_refusal = judge(heads(first, [*lines[:place], added, *lines[place:]]))
    assert said(request) == said(other)
    assert refusal[0] == other_refusal[0]


@given(FIRST_LINES, LINES)
def test_the_general_path_agrees_with_the_ordinary_one(first: bytes, lines: list[bytes]) -> None:
    """A field that is always cut takes a head to the general path, and changes nothing else."""
    request, refusal = judge(heads(first, lines))
    other, other_refusal = judge(heads(first, [b"TE: trailers", *lines]))
    assert refusal[0] == other_refusal[0]
    if request is not None and other is not None:
        cuts = said(request)[-1]
        assert isinstance(cuts, tuple)
        assert said(other)[:-1] == said(request)[:-1]
        assert said(other)[-1] == tuple(sorted({*cuts, b"te:"}))


@given(FIRST_LINES, LINES)
def test_the_case_of_names_changes_nothing(first: bytes, lines: list[bytes]) -> None:
    changed = [line.partition(b":")[0].swapcase() + b"".join(line.partition(b":")[1:]) for line in lines]
    request, refusal = judge(heads(first, lines))
    other, other_refusal = judge(heads(first, changed))
    assert (said(request), refusal[0]) == (said(other), other_refusal[0])


@given(FIRST_LINES, LINES)
def test_a_request_never_has_two_framings(first: bytes, lines: list[bytes]) -> None:
    request, _refusal = judge(heads(first, lines))
    if request is None:
        return
    low = b"\n" + request[3].lower()
    codings, lengths = low.count(b"\ntransfer-encoding:"), low.count(b"\ncontent-length:")
    assert codings + lengths <= 1
    special = request[4]
    chunked, length = (special.chunked, special.length) if special is not None else (False, -1)
    assert (codings, lengths) == (chunked, length >= 0)


@given(st.binary(max_size=120))
@example(b"GET / HTTP/1.1\r\nHost:a\r\nA:\x80")
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """Nothing but RequestError comes out of a head, whatever stands in it."""
    data = raw + b"\r\n\r\n"
    request, refusal = judge(data)
    assert request is not None or refusal[0] in (400, 405, 417, 431, 505)
    if request is not None:
        assert re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", request[0])
        assert re.fullmatch(rb"[!-~\x80-\xff]+", request[1])
        assert b"\0" not in request[3]


@given(FIRST_LINES, st.lists(PLAIN_FIELDS, max_size=5), st.data())
def test_a_control_character_in_a_head_is_refused(first: bytes, lines: list[bytes], data: st.DataObject) -> None:
    head = heads(first, [*lines, b"X-Last: b"])
    place = data.draw(st.integers(1, len(head) - 5))
    byte = data.draw(st.sampled_from(b"\0\x01\x08\x0b\x0c\x1f\x7f"))
    assert judge(head[:place] + bytes((byte,)) + head[place:])[0] is None


# cutting


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.lists(NAMES, max_size=4))
def test_a_cut_takes_every_line_of_these_names_and_no_other(
    fields: list[tuple[bytes, bytes]], names: list[bytes]
) -> None:
    lines = [b"%b: %b\r\n" % field for field in fields]
    chosen = {name.lower() for name in names} | {name.lower() for name, _ in fields[::3]}
    kept = [line for (name, _), line in zip(fields, lines, strict=True) if name.lower() not in chosen]
    head = b"GET / HTTP/1.1\r\n"
    assert cut(head + b"".join(lines), [name + b":" for name in chosen]) == head + b"".join(kept)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.lists(NAMES, max_size=4))
def test_cutting_twice_is_cutting_once(fields: list[tuple[bytes, bytes]], names: list[bytes]) -> None:
    head = b"GET / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields)
    chosen = [name.lower() + b":" for name in names]
    once = cut(head, chosen)
    assert cut(once, chosen) == once
    assert cut(head, [*chosen, *chosen]) == once


# responses

STATUS_LINES = st.sampled_from(
    (
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 404",
        b"HTTP/1.1 500 \xe9",
        b"HTTP/1.1 99 Low",
        b"HTTP/1.1 600 High",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/2.0 200 OK",
        b"http/1.1 200 OK",
    )
)


def answer(first: bytes, lines: list[bytes]) -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


def meant(head: ResponseHead | None) -> Verdict:
    """What a response head says."""
    if head is None:
        return ()
    cuts = tuple(sorted(set(head.cuts) - {b"keep-alive:"}))
    return head.status, head.length, head.chunked, head.keep, head.upgrade, cuts


@given(STATUS_LINES, LINES, PLAIN_FIELDS, st.binary(max_size=20))
def test_neither_an_irrelevant_field_nor_what_follows_changes_a_response(
    first: bytes, lines: list[bytes], added: bytes, behind: bytes
) -> None:
    raw = answer(first, lines)
    assume(raw.index(b"\r\n\r\n") == len(raw) - 4)
    mine = meant(read_response(raw, len(raw) - 4))
    assert meant(read_response(raw + behind, len(raw) - 4)) == mine
    more = answer(first, [*lines, added])
    assert meant(read_response(more, len(more) - 4)) == mine
    cut_later = answer(first, [*lines, b"Keep-Alive: 5"])
    assert meant(read_response(cut_later, len(cut_later) - 4)) == mine


@given(STATUS_LINES, LINES)
def test_a_response_never_has_two_framings(first: bytes, lines: list[bytes]) -> None:
    raw = answer(first, lines)
    assume(raw.index(b"\r\n\r\n") == len(raw) - 4)
    head = read_response(raw, len(raw) - 4)
    if head is not None:
        low = raw.lower()
        codings, lengths = low.count(b"\ntransfer-encoding:"), low.count(b"\ncontent-length:")
        assert (codings, lengths) == (head.chunked, head.length >= 0)
        assert codings + lengths <= 1


@given(STATUS_LINES, st.lists(st.one_of(PLAIN_FIELDS, SPECIAL_FIELDS), max_size=3), st.binary(max_size=9))
def test_what_the_fast_path_takes_the_general_path_takes_too(first: bytes, lines: list[bytes], body: bytes) -> None:
    """Its three questions are whether the status is plain, the one framing a length, and llhttp content."""
    raw = answer(first, [*lines, b"Content-Length: %d" % len(body)])
    assume(raw.index(b"\r\n\r\n") == len(raw) - 4)
    special = [line for line in lines if re.match(rb"(?i)connection|content-length|transfer|te|trailer|upgrade", line)]
    if plain_status(raw + body) is None or special or not check_ordinary_response(raw + body):
        return
    head = read_response(raw + body, len(raw) - 4)
    assert head is not None
    assert (head.status, head.length, head.chunked) == (plain_status(raw), len(body), False)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_response_or_are_not(raw: bytes) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + raw + b"\r\n\r\n"
    read_response(data, data.index(b"\r\n\r\n"))  # None or a head, never an exception


# hosts

HOST_PARTS = st.sampled_from(
    ("a", "B", "-", ".", "_", "~", "%41", "%", "[", "]", "::1", "1", ":", "80", "65536", "@", "/", "\\", " ", "\t", "é")
)
HOSTS = st.lists(HOST_PARTS, max_size=8).map(lambda parts: "".join(parts).encode())


def host_of(raw: bytes) -> bytes | None:
    try:
        return normalise(raw)
    except RequestError as error:
        return None if error.word == "bad_host" else b"refused otherwise"


@given(HOSTS)
def test_case_blanks_port_and_dot_do_not_matter(raw: bytes) -> None:
    host = host_of(raw)
    assert host_of(b" \t" + raw + b" ") == host
    assert host_of(raw.upper()) == host
    assert host_of(raw.lower()) == host
    name = raw.strip(b" \t")
    if host and not name.endswith((b"]", b".")) and b":" not in name:
        assert host_of(name + b":8080") == host
        assert host_of(name + b".") == host


@given(HOSTS)
def test_a_host_that_passes_is_its_own_normal_form(raw: bytes) -> None:
    host = host_of(raw)
    if host is not None and not host.endswith(b"."):
        assert host_of(host) == host
        assert re.fullmatch(rb"(?:[a-z0-9\-._~!$&'()*+,;=%]*|\[[0-9a-z:.\-_~!$&'()*+,;=]+\])", host)


@given(st.binary(max_size=30))
def test_no_host_holds_what_could_end_it(raw: bytes) -> None:
    host = host_of(raw)
    if host is not None:
        assert not set(host) & set(b' \t\r\n\0/\\@?#"<>{}')


@given(st.ip_addresses(v=6), st.integers(0, 65535))
def test_an_ipv6_address_is_one_host_in_every_spelling(address: IPv6Address, port: int) -> None:
    spellings = (address.compressed, address.exploded, address.compressed.upper(), address.exploded.upper())
    assert {host_of(f"[{each}]:{port}".encode()) for each in spellings} == {f"[{address.compressed}]".encode()}


@given(st.integers(0, 200_000))
def test_ports_end_at_65535(port: int) -> None:
    assert (host_of(b"a:%d" % port) is not None) == (port <= 65535)


# chunks

CHUNK_PARTS = st.sampled_from(
    (
        b"0",
        b"5",
        b"a",
        b"\r\n",
        b"\r",
        b"\n",
        b"hello",
        b";x=y",
        b" ",
        b"\t",
        b"X: y",
        b":",
        b"\0",
        b"-",
        b"fffffffffffffff",
    )
)


def scan(pieces: list[bytes], *, decode: bool = False) -> tuple[bytes, bool, bytes] | None:
    """What passed, whether the body ended, and what lies behind it; None where it is malformed."""
    scanner = ChunkScanner(decode=decode)
    out = rest = b""
    try:
        for piece in pieces:
            if scanner.finished:
                rest += piece
            else:
                out += scanner.feed(piece)
                rest = scanner.rest
    except ChunkError:
        return None
    return out, scanner.finished, rest


@given(st.lists(CHUNK_PARTS, max_size=14).map(b"".join), st.data())
def test_any_body_is_judged_the_same_in_pieces(body: bytes, data: st.DataObject) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]
    whole, bytewise = scan([body]), scan([body[at : at + 1] for at in range(len(body))])
    assert scan(pieces) == whole == bytewise
    assert scan(pieces, decode=True) == scan([body], decode=True)


@given(st.lists(CHUNK_PARTS, max_size=14).map(b"".join))
def test_what_passes_is_a_body_by_itself(body: bytes) -> None:
    """The next reader finds the same payload and the same end, and nothing is left to argue about."""
    found = scan([body])
    if found is None or not found[1]:
        return
    passed, _, rest = found
    assert scan([passed]) == (passed, True, b"")
    assert body.endswith(rest)
    payload = scan([body], decode=True)
    again = scan([passed], decode=True)
    assert payload is not None
    assert again is not None
    assert again[0] == payload[0]
