"""Two thousand inputs of a fixed seed; and the fuzzer itself: it repeats itself, reads strictly, finds what is wrong.

The planted defects are the proof that a run without findings means something.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from lb_core.engine import chunks, request_heads, upstream
from lb_core.engine.downstream import Downstream
from lb_core.engine.forwarding import Forwarding
from lb_core.engine.special import Special
from lb_core.engine.upstream import Upstream
from tests.fuzz import lanes, run
from tests.fuzz.mutate import REQUEST, RESPONSE, VARIANTS, Input, make
from tests.fuzz.reading import Malformed, read_request, read_response
from tests.fuzz.seeds import BAD_REQUESTS, GOOD, GOOD_REQUESTS, RESPONSES, corpus

if TYPE_CHECKING:
    from tests.fuzz.outcome import Violation

SEED = 20250101
PLAIN = Input(0, REQUEST, "plain", GOOD, (), "stay")


def alone(given: Input) -> list[Violation]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run.alone(given))


@pytest.mark.slow
def test_no_invariant_breaks_in_two_thousand_inputs() -> None:
    report = run.fuzz(SEED, 2000)
    assert report.finding is None, run.describe(report.finding, SEED)
    assert report.done == 2000
    # most inputs are refused, and enough of them are not: else the invariants would hold for want of traffic
    assert report.counts["requests forwarded"] > 600
    assert report.counts["refused"] > 400
    assert report.counts["cut"] > 10
    assert report.counts["twins"] > 100


PART = b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\npart"
FOUND: dict[str, Input] = {
    # what it has found, kept: each must break nothing any more
    "a bare CR before the request line": replace(PLAIN, data=b"\r" + GOOD),
    "a bare CR before a further request": replace(PLAIN, data=GOOD + b"\r\n\r" + GOOD),
    "chunks that break, for a client of HTTP/1.0": Input(
        0,
        RESPONSE,
        "plain",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
        (),
        "stay",
        http10=True,
    ),
    "a reset within an answer without length, for a client of HTTP/1.0": Input(
        0, RESPONSE, "plain", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", (), "reset", http10=True
    ),
    "a length of 22 digits and a part of the body": Input(0, RESPONSE, "plain", PART % (b"9" * 22), (), "stay"),
    "a length with an underscore and a part of the body": Input(0, RESPONSE, "plain", PART % b"1_000", (), "stay"),
    "a length with a plus and a part of the body": Input(0, RESPONSE, "plain", PART % b"+1000", (), "stay"),
    "an empty Host from a trusted proxy, and its twin": replace(
        PLAIN, variant="trusting", data=b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_mended(name: str) -> None:
    assert alone(FOUND[name]) == []


# the fuzzer repeats itself


def test_an_index_always_makes_the_same_input() -> None:
    again = [make(7, index, corpus(), GOOD_REQUESTS) for index in range(200)]
    assert again == [make(7, index, corpus(), GOOD_REQUESTS) for index in range(200)]
    assert again != [make(8, index, corpus(), GOOD_REQUESTS) for index in range(200)]
    assert {each.direction for each in again} == {REQUEST, RESPONSE}
    assert {each.variant for each in again} == set(VARIANTS)
    assert {each.end for each in again} == {"stay", "close", "reset"}


def test_the_pieces_of_an_input_are_its_bytes() -> None:
    for index in range(300):
        given = make(9, index, corpus(), GOOD_REQUESTS)
        assert b"".join(given.pieces) == given.data
        assert all(piece for piece in given.pieces) or given.data == b""


def test_replay_prints_the_bytes_and_runs_them(capsys: pytest.CaptureFixture[str]) -> None:
    given = make(7, 3, corpus(), GOOD_REQUESTS)
    assert run.replay(7, 3) == 0
    printed = capsys.readouterr().out
    assert repr(given.data) in printed
    assert "nothing broken" in printed


# the reading everything is compared with


@pytest.mark.parametrize("raw", GOOD_REQUESTS)
def test_the_reading_accepts_valid_requests_to_their_end(raw: bytes) -> None:
    position = count = 0
    while position < len(raw):
        message = read_request(raw, position)
        assert message is not None
        assert message.complete
        assert not message.broken
        position, count = message.end, count + 1
        if message.tunnel:
            return
    assert count >= 1


def test_the_reading_takes_a_101_that_says_it_has_no_body_and_no_other_interim_length() -> None:
    for status, length, fine in ((101, 0, True), (101, 5, False), (100, 0, False)):
        raw = b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n" % (status, length)
        try:
            message = read_response(raw, 0, b"GET")
        except Malformed:
            message = None
        assert (message is not None) is fine


@pytest.mark.parametrize("raw", BAD_REQUESTS[:22])
def test_the_reading_refuses_malformed_requests(raw: bytes) -> None:
    try:
        message = read_request(raw)
    except Malformed:
        return
    assert message is not None
    refused_for_other_reasons = b"Connection: host" in raw or raw.count(b"ost:") != 1 or b"Host: a b" in raw
    assert message.broken or refused_for_other_reasons


@pytest.mark.parametrize("raw", [*GOOD_REQUESTS, *BAD_REQUESTS])
def test_an_incomplete_request_is_never_read_as_a_complete_one(raw: bytes) -> None:
    try:
        whole = read_request(raw)
    except Malformed:
        return
    end = whole.end if whole is not None else len(raw)
    for size in range(end):
        part = read_request(raw[:size])
        assert part is None or not part.complete


@pytest.mark.parametrize("raw", RESPONSES)
def test_an_incomplete_response_is_never_read_as_a_complete_one(raw: bytes) -> None:
    try:
        whole = read_response(raw, 0, b"GET")
    except Malformed:
        return
    end = whole.end if whole is not None else len(raw)
    for size in range(end):
        part = read_response(raw[:size], 0, b"GET")
        assert part is None or not part.complete


# planted defects: each is found, and shown in fewer bytes


def plant(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    monkeypatch.setattr(owner, name, make(getattr(owner, name)))


def believe_both_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transfer-Encoding beside Content-Length passes."""

    def lenient(settle: Callable[[Special, bytes], None]) -> Callable[[Special, bytes], None]:
        def call(self: Special, head: bytes) -> None:
            length, self.length = self.length, -1
            settle(self, head)
            self.length = length

        return call

    plant(monkeypatch, Special, "settle", lenient)
    monkeypatch.setattr("lb_core.engine.request_heads.httptools.HttpRequestParser", Deaf)
    monkeypatch.setattr(request_heads, "_parser", Deaf(None))


class Deaf:
    """A parser that accepts everything."""

    def __init__(self, _: object) -> None:
        pass

    def feed_data(self, data: bytes) -> None:
        """Accept it."""


def ask_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The syntax of a request head is not checked."""
    monkeypatch.setattr("lb_core.engine.request_heads.httptools.HttpRequestParser", Deaf)
    monkeypatch.setattr(request_heads, "_parser", Deaf(None))


def forget_what_connection_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields named in Connection pass."""
    plant(monkeypatch, Special, "_connection", lambda real: lambda self, value: real(self, b" keep-alive"))


def read_chunks_leniently(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size line may hold anything behind its digits."""
    monkeypatch.setattr(chunks, "_SIZE_LINE", re.compile(rb"([0-9A-Fa-f]{1,15})([^\n]*)\n").match)


def keep_trailers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trailers pass unread."""

    def lenient(real: Callable[..., bytes]) -> Callable[..., bytes]:
        def call(self: Any, pieces: Any, data: bytes, position: int) -> bytes:
            out = real(self, pieces, data, position)
            return data[: len(data) - len(self.rest)] if self.finished and pieces is None else out

        return call

    plant(monkeypatch, chunks.ChunkScanner, "_read_trailers", lenient)


def pool_after_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte on an idle connection to a backend closes nothing."""

    def lenient(real: Callable[[Upstream, bytes], None]) -> Callable[[Upstream, bytes], None]:
        def call(self: Upstream, data: bytes) -> None:
            if self.exchange is None:
                self.buffer += data
            else:
                real(self, data)

        return call

    plant(monkeypatch, Upstream, "data_received", lenient)


def believe_any_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing asks whether an ordinary response is well-formed."""
    monkeypatch.setattr(upstream, "check_ordinary_response", lambda data: True)


def end_broken_answers_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that breaks off is completed."""

    def lenient(real: Callable[..., None]) -> Callable[..., None]:
        def call(self: Forwarding, word: str) -> None:
            self.downstream.transport.write(b"0\r\n\r\n")
            self.downstream.close = True
            self.finish(1.0)

        return call

    plant(monkeypatch, Forwarding, "cut_short", lenient)


def stay_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange whose client has gone stays in flight."""
    plant(monkeypatch, Forwarding, "abandoned", lambda real: lambda self: None)


def raise_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception reaches the loop."""

    def failing(real: Callable[..., None]) -> Callable[..., None]:
        def call(self: Downstream, data: bytes) -> None:
            if b"\t" in data:
                raise RuntimeError("planted")
            real(self, data)

        return call

    plant(monkeypatch, Downstream, "data_received", failing)


def add_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client says in X-Forwarded-For stays beside ours."""
    monkeypatch.setattr(request_heads, "_SPECIAL_X", re.compile(rb"\nx[-_](?:real[-_]ip$|request[-_]id$)").match)


def take_many_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several lengths in a response the last one counts."""

    def lenient(real: Callable[[bytes, int], Any]) -> Callable[[bytes, int], Any]:
        def call(data: bytes, blank: int) -> Any:
            lines = data[:blank].split(b"\r\n")
            rest = [line for line in lines if not line.lower().startswith(b"content-length:")]
            lengths = [line for line in lines if line.lower().startswith(b"content-length:")][-1:]
            head = real(b"\r\n".join([*rest, *lengths, b"", b""]), len(b"\r\n".join([*rest, *lengths])))
            if head is not None:
                head.end = blank + 4
            return head

        return call

    plant(monkeypatch, upstream, "read_response", lenient)


def never_cut_old_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of HTTP/1.0 cannot tell a cut from an end."""
    monkeypatch.setattr("lb_core.engine.forwarding.reset", lambda transport: transport.abort())


PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], set[str]]] = {
    "both lengths": (believe_both_lengths, {"backend-malformed", "backend-requests", "backend-fields"}),
    "no parser": (ask_no_parser, {"backend-malformed", "backend-requests", "backend-fields"}),
    "Connection ignored": (forget_what_connection_names, {"backend-fields", "twin", "backend-requests"}),
    "lenient chunks": (read_chunks_leniently, {"backend-malformed", "client-stream", "client-answer", "backend-body"}),
    "trailers pass": (keep_trailers, {"backend-fields", "client-stream", "backend-malformed"}),
    "pooled with bytes left": (pool_after_too_many_bytes, {"sentinel", "client-answer", "client-stream"}),
    "responses believed": (believe_any_response, {"client-stream", "client-answer", "twin"}),
    "cuts look whole": (end_broken_answers_cleanly, {"client-stream", "client-answer", "hang"}),
    "left in flight": (stay_in_flight, {"hang", "loop-exception"}),
    "exception": (raise_at_the_end, {"loop-exception"}),
    "forwarding fields twice": (add_twice, {"backend-fields"}),
    "many lengths": (take_many_lengths, {"client-stream", "client-answer", "twin"}),
    "old clients": (never_cut_old_clients, {"client-answer"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    defect, invariants = PLANTED[name]
    defect(monkeypatch)
    monkeypatch.setattr(run, "SMALLER_MOST", 0)
    monkeypatch.setattr(lanes, "BOUND", 0.5)
    report = run.fuzz(SEED, 3000)
    assert report.finding is not None, report.line
    assert {each.invariant for each in report.finding.violations} & invariants, run.describe(report.finding, SEED)


def test_a_finding_is_made_smaller_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    add_twice(monkeypatch)
    monkeypatch.setattr(run, "SMALLER_MOST", 60)
    data = GOOD[:-2] + b"X-Padding: " + b"a" * 400 + b"\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n" + GOOD
    given = replace(PLAIN, data=data, cuts=(10, 20))
    found = alone(given)
    assert {each.invariant for each in found} == {"backend-fields"}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        less = runner.run(run.smaller(given, {"backend-fields"}))
    assert len(less.data) < 120
    assert b"X-Forwarded-For" in less.data
    text = run.describe(run.Finding(given, found, less), SEED)
    assert repr(less.data) in text
    assert f"--seed {SEED} --replay 0" in text


def test_an_input_in_pieces_reaches_the_balancer_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[bytes] = []
    real = Downstream.data_received

    def tell(self: Downstream, data: bytes) -> None:
        reads.append(data)
        real(self, data)

    monkeypatch.setattr(Downstream, "data_received", tell)
    given = replace(PLAIN, index=1, cuts=tuple(range(1, len(GOOD))))
    assert alone(given) == []
    assert reads[: len(GOOD)] == [GOOD[start:end] for start, end in pairwise([0, *given.cuts, len(GOOD)])]
