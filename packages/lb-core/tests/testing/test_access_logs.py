"""Logs as load: what lb itself writes, what others write, and lines that cannot be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lb_core.backend import Backend
from lb_core.defaults.access_log import AccessLog
from lb_core.testing import exchange
from lb_core.testing.access_logs import UNKNOWN, parse_log, read_log

CLF = '192.0.2.%d - - [31/Jan/2025:12:00:%02d +0000] "GET /a?b=%d HTTP/1.1" 200 512 "-" "curl/8"'


def line(**changed: Any) -> str:
    usual = {
        "time": "2025-01-31T12:00:01.250Z",
        "duration": 0.25,
        "client": "192.0.2.1",
        "target": "/",
        "method": "GET",
    }
    return json.dumps({**usual, "backend": "web1", **changed})


def test_what_lb_writes_is_read_back(tmp_path: Path) -> None:
    for form in ("json", "clf"):
        path = tmp_path / f"access.{form}"
        moments = iter((1_700_000_000.25, 1_700_000_001.5))
        log = AccessLog(form, str(path), clock=lambda moments=moments: next(moments))  # type: ignore[misc]
        for number in (1, 2):
            asked = exchange(f"/{number}?q=1", client=f"192.0.2.{number}", method="POST")
            asked.backend, asked.status = Backend("web1", "192.0.2.9", 80), 200
            asked.started, asked.ended = 50.0, 50.125
            log.on_complete(asked)
        log.close()
        found = read_log(path)
        assert not found.bad
        assert [(each.client, each.target, each.method) for each in found.requests] == [
            ("192.0.2.1", b"/1?q=1", b"POST"),
            ("192.0.2.2", b"/2?q=1", b"POST"),
        ]
        if form == "json":
            assert [each.when for each in found.requests] == pytest.approx([1_700_000_000.125, 1_700_000_001.375])
            assert [each.work for each in found.requests] == [0.125, 0.125]
        else:
            assert [each.when for each in found.requests] == [1_700_000_000.5, 1_700_000_001.5]
            assert [each.work for each in found.requests] == [UNKNOWN, UNKNOWN]


def test_requests_are_ordered_by_when_they_came() -> None:
    """The log is in the order in which they ended."""
    found = parse_log(
        [line(time="2025-01-31T12:00:05Z", duration=0.5), line(time="2025-01-31T12:00:06Z", duration=4.0)]
    )
    assert [each.work for each in found.requests] == [4.0, 0.5]
    assert found.trace.seconds == pytest.approx(2.5)


def test_lines_of_one_second_are_spread_over_it() -> None:
    found = parse_log([CLF % (n, 7 if n < 5 else 8, n) for n in range(1, 6)])
    offsets = [each.when - found.requests[0].when for each in found.requests]
    assert offsets == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.375])


def test_bad_lines_have_their_number_and_a_reason() -> None:
    lines = [
        line(),
        "",
        "hello",
        "{broken",
        line(duration=-1),
        line(duration="fast"),
        line(duration=True),
        line(time="yesterday"),
        line(time=3),
        line(time="2025-01-31T12:00:00"),
        "{}",
        (CLF % (1, 1, 1)).replace("Jan", "Foo"),
        CLF % (1, 1, 1),
    ]
    found = parse_log(lines)
    assert len(found.requests) == 2
    assert [number for number, _ in found.bad] == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    reasons = [reason for _, reason in found.bad]
    assert reasons[0] == "neither a JSON object nor the Common Log Format"
    assert reasons[1].startswith("not JSON: ")
    assert reasons[2:5] == [f"duration is {it}, not a number of seconds" for it in ("-1", "'fast'", "True")]
    assert reasons[5] == "time is 'yesterday', not like 2025-01-31T12:00:00.000Z"
    assert reasons[8] == "no time and no duration"
    assert reasons[9].startswith("time is '31/Foo/2025")


def test_requests_without_a_backend_are_left_out() -> None:
    found = parse_log([line(), line(backend="", status=429), line(backend="")])
    assert (len(found.requests), found.unserved, found.bad) == (1, 2, [])


def test_no_more_than_asked_for_are_read() -> None:
    assert len(parse_log([line()] * 9, most=4).requests) == 4
    assert len(parse_log([CLF % (1, 1, n) for n in range(9)], most=5).requests) == 5


def test_a_packed_log_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "access.json.gz"
    path.write_bytes(gzip.compress(f"{line()}\n{line()}\n".encode()))
    assert len(read_log(path).requests) == 2
    with pytest.raises(FileNotFoundError):
        read_log(tmp_path / "missing")
