"""The bench itself: its splits are real, its judge is strict, and its tables hold positive controls for every rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lb_core.engine.downstream import Downstream
from lb_core.engine.upstream import Upstream
from tests.conformance import request_cases, response_cases
from tests.conformance.case import GOOD, RequestCase, ResponseCase
from tests.conformance.clients import Fed
from tests.conformance.recorder import Script
from tests.conformance.splitting import places
from tests.conformance.strict import Violation, check_request
from tests.support.wire import Message, response

if TYPE_CHECKING:
    from tests.conformance.bench import Bench

ONLY_REFUSED = {"other protocols", "authority form"}
"""Rules without a positive control: nothing of the kind is served."""
GOOD_HEAD = (
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
    b"X-Forwarded-Host: a\r\nX-Forwarded-Port: 80\r\nVia: 1.1 lb\r\nX-Request-Id: 1\r\n"
)


def test_every_rule_has_a_positive_control() -> None:
    rules: dict[str, set[bool]] = {}
    for case in request_cases.CASES:
        rules.setdefault(case.rule, set()).add(case.refused)
    for said in response_cases.CASES:
        rules.setdefault(said.rule, set()).add(said.status == 502 or said.cut)
    breaking = {
        "chunks of a response",
        "a response that breaks off",
    }  # their controls stand under the coding and the length
    assert {rule for rule, found in rules.items() if False not in found} == ONLY_REFUSED | breaking


@pytest.mark.parametrize("cases", [request_cases.CASES, response_cases.CASES], ids=["requests", "responses"])
def test_names_are_unique_and_sources_given(cases: list[RequestCase] | list[ResponseCase]) -> None:
    names = [(case.rule, case.name) for case in cases]
    assert len(set(names)) == len(names)
    assert all(case.source.startswith("RFC ") for case in cases)
    assert all(case.cve == "" or case.cve.startswith("CVE-") for case in cases)


def test_a_short_head_is_split_everywhere_and_a_long_one_at_its_edges() -> None:
    assert places(GOOD) == set(range(1, len(GOOD)))
    long = b"GET / HTTP/1.1\r\nX-A: " + b"b" * 1000 + b"\r\nContent-Length: 5\r\n\r\nhello"
    framing = long.index(b"Content-Length")
    assert {15, 16, framing, framing + 1, len(long) - 6, len(long) - 7, 97, 194} <= places(long)
    assert len(places(long)) < 120


def recording(monkeypatch: pytest.MonkeyPatch, kind: type) -> list[bytes]:
    """What every read of this kind of connection brings."""
    reads: list[bytes] = []
    received = kind.data_received  # type: ignore[attr-defined]

    def data_received(self: object, data: bytes) -> None:
        reads.append(data)
        received(self, data)

    monkeypatch.setattr(kind, "data_received", data_received)
    return reads


@pytest.mark.parametrize("at", [1, 15, 40, len(GOOD) - 1])
def test_a_split_request_comes_in_two_reads(bench: Bench, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    reads = recording(monkeypatch, Downstream)

    async def ask() -> None:
        client = Fed(bench.maker("plain"))
        await client.send(GOOD[:at], GOOD[at:])
        assert (await client.answer()).status == 200
        client.leave()

    bench.run(ask())
    # the second time Downstream is called with both, as it puts them together
    assert reads[:2] == [GOOD[:at], GOOD[at:]]


@pytest.mark.parametrize("at", [1, 15, 40])
def test_a_split_response_comes_in_two_reads(bench: Bench, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    reads = recording(monkeypatch, Upstream)
    raw = response(b"hello")

    async def ask() -> None:
        client = Fed(bench.maker("limited"))  # whose pool holds no connection from before
        bench.recorder.scripts[b"/good"] = Script([raw[:at], raw[at:]], "close")
        await client.send(GOOD)
        assert (await client.answer()).body == b"hello"
        client.leave()
        del bench.recorder.scripts[b"/good"]

    bench.run(ask())
    assert reads == [raw[:at], raw[at:]]


def message(raw: bytes) -> Message:
    """A head as the recorder reads it."""
    start, *lines = raw.split(b"\r\n")[:-2]
    fields = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
    return Message(start, fields, bytearray(raw))


def test_the_judge_passes_what_is_right() -> None:
    check_request(message(GOOD_HEAD + b"\r\n"))
    check_request(message(GOOD_HEAD + b"Content-Length: 5\r\n\r\n"))


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 05",
        b"Transfer-Encoding: gzip, chunked",
        b"Host: b",
        b"X A: b",
        b"X-A: b\0",
        b"X-A: b\nX-B: c",
        b"X_Forwarded_For: 192.0.2.1",
        b"X-Forwarded-For: 192.0.2.1",
        b"TE: trailers",
        b"Connection: close",
        b"Upgrade: h2c",
        b"X-Request-Id: 2",
        b"Via: 1.0 other",
    ],
)
def test_the_judge_objects(line: bytes) -> None:
    with pytest.raises(Violation):
        check_request(message(GOOD_HEAD + line + b"\r\n\r\n"))


@pytest.mark.parametrize(
    "start", [b"GET  / HTTP/1.1", b"GET /#a HTTP/1.1", b"GET http://a/ HTTP/1.1", b"GET / HTTP/1.0"]
)
def test_the_judge_objects_to_a_request_line(start: bytes) -> None:
    with pytest.raises(Violation):
        check_request(message(GOOD_HEAD.replace(b"GET / HTTP/1.1", start) + b"\r\n"))
