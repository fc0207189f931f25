"""A line made in C is the line Python makes; what needs a closer look is left to Python."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_core.backend import Backend
from lb_core.defaults.access_log import AccessLog
from lb_core.exchange import Exchange
from lb_speedups import log_json

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: Mozilla/5.0\r\nReferer: http://b/\r\n"
WORDS = (b"2026-11-24T09:00:00", b"id", b"192.0.2.1", b"GET", b"a", b"/", b"r", b"b", HEAD)
NUMBERS = (7, 200, 0, 100, 1234, 1)


class Route:
    name = "example.com"
    serving = None


def exchange(**changes: Any) -> Exchange:
    client: Any = SimpleNamespace(peer="192.0.2.1", scheme="http", port=80)
    route: Any = Route()
    made = Exchange(
        route,
        client,
        changes.get("client", "192.0.2.1"),
        changes.get("method", b"GET"),
        changes.get("target", b"/a?b"),
        changes.get("host", b"example.com"),
        changes.get("head", HEAD),
    )
    made.raw_request_id = changes.get("request_id", b"0f")
    made.backend = changes.get("backend", Backend("web1", "10.0.0.1", 80))
    made.status, made.attempts = changes.get("status", 200), 1
    made.bytes_in, made.bytes_out = changes.get("bytes_in", 0), changes.get("bytes_out", 1 << 40)
    made.ended = made.started + changes.get("seconds", 0.001234)
    return made


def lines(log: AccessLog, made: Exchange, now: float) -> tuple[bytes | None, bytes]:
    assert log_json is not None
    return log._ordinary(log_json, now, made), log._json(now, made)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> AccessLog:
    return AccessLog("json", str(tmp_path_factory.mktemp("log") / "access.log"))


def test_an_ordinary_exchange(log: AccessLog) -> None:
    compiled, plain = lines(log, exchange(), 1_800_000_000.25)
    assert compiled == plain
    assert json.loads(plain)["user_agent"] == "Mozilla/5.0"


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([b"/", b"/a?b=%20", b'/"', b"/\\", b"/\xe4", b"/\t", b"/" + b"x" * 5000]),
    st.sampled_from([b"id", b'"', b"\x7f", b"x" * 200]),
    st.sampled_from(["192.0.2.1", "2001:db8::1", "", "\u20ac"]),
    st.sampled_from(
        [
            HEAD,
            b"",
            b"GET / HTTP/1.1\r\nHost: a\r\n",
            b"GET / HTTP/1.1\r\nuser-agent: x\r\n",
            b"GET / HTTP/1.1\r\nUser-Agent:x\r\n",
            b"GET / HTTP/1.1\r\nUser-Agent: \r\nReferer: \r\n",
            b"GET / HTTP/1.1\r\nUser-Agent:  x \r\nReferer:y\r\n",
            b"GET / HTTP/1.1\r\nUser-Agent: a\r\nUser-Agent: b\r\nReferer: c\r\nReferer: d\r\n",
            b"GET / HTTP/1.1\r\nX: User-Agent: a\r\nUser-Agent: \xe4\r\n",
            b'GET / HTTP/1.1\r\nUser-Agent: "\r\n',
            b"GET / HTTP/1.1\r\nUser-Agent: a\tb\r\n",
        ]
    ),
    st.integers(100, 599),
    st.floats(0, 1e6),
    st.floats(0, 4e9),
    st.integers(0, 1 << 62),
)
def test_any_exchange(
    log: AccessLog,
    target: bytes,
    request_id: bytes,
    client: str,
    head: bytes,
    status: int,
    seconds: float,
    now: float,
    size: int,
) -> None:
    made = exchange(
        target=target, request_id=request_id, client=client, head=head, status=status, seconds=seconds, bytes_out=size
    )
    compiled, plain = lines(log, made, now)
    assert compiled in (None, plain)


def test_odd_names_and_flags_are_left_to_python(log: AccessLog) -> None:
    odd = exchange(backend=Backend('we"b', "10.0.0.1", 80))
    compiled, plain = lines(log, odd, 1.0)
    assert compiled is None
    assert json.loads(plain)["backend"] == 'we"b'
    flagged = exchange()
    flagged.flag("retried")
    assert lines(log, flagged, 1.0)[0] is None
    log.on_complete(flagged)
    assert log._buffer.endswith(b'"flags":"retried","user_agent":"Mozilla/5.0","referer":"http://b/"}\n')


def test_without_it_lines_are_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = exchange()
    written = []
    for compiled in (log_json, None):
        monkeypatch.setattr("lb_core.defaults.access_log.log_json", compiled)
        path = tmp_path / f"{len(written)}.log"
        log = AccessLog("json", str(path), clock=lambda: 5.0)
        log.on_complete(made)
        log.close()
        written.append(path.read_bytes())
    assert written[0] == written[1] != b""


@pytest.mark.parametrize(
    ("words", "numbers", "error"),
    [
        (WORDS[:-1], NUMBERS, TypeError),
        ((*WORDS[:-1], "text"), NUMBERS, TypeError),
        (WORDS, (*NUMBERS[:-1], "1"), TypeError),
        (WORDS, (*NUMBERS[:-1], 1 << 70), OverflowError),
    ],
)
def test_wrong_arguments_are_errors(words: Any, numbers: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        log_json(*words, *numbers)


def test_what_is_no_ordinary_number_or_text_is_left_to_python() -> None:
    assert log_json(*WORDS, *NUMBERS) is not None
    assert log_json(*WORDS, -1, *NUMBERS[1:]) is None
    assert log_json(*WORDS[:5], b"/\x00", *WORDS[6:], *NUMBERS) is None
    assert log_json(*WORDS[:5], b"/" + b"x" * 4096, *WORDS[6:], *NUMBERS) is None
