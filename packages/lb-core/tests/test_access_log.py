"""The access log: its lines, hostile bytes, and files that fail."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.backend import Backend
from lb_core.defaults import log_writer
from lb_core.defaults.access_log import BATCH, FLUSH_AT, NAMES_MOST, AccessLog
from lb_core.defaults.log_writer import LogWriter
from lb_core.errors import StartError
from lb_core.exchange import Exchange

HEAD = (
    b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Mozilla/5.0 (X11)\r\nAuthorization: Bearer secret\r\n"
    b"Referer: https://example.com/start\r\nCookie: session=secret\r\n\r\n"
)
MOMENT = 1_700_000_000.0457


class Client:
    peer, scheme, port = "192.0.2.1", "http", 80


class NamedRoute:
    name = "example.com"
    serving = None


def exchange(head: bytes = HEAD, target: bytes = b"/a?b=c", **changes: Any) -> Exchange:
    route: Any = NamedRoute()
    it = Exchange(route, Client(), "192.0.2.1", b"GET", target, b"example.com", head)
    it.raw_request_id = b"00ff"
    it.backend = Backend("web1", "10.0.0.1", 80)
    it.status, it.bytes_in, it.bytes_out, it.attempts = 200, 5, 1234, 1
    it.ended = it.started + 0.0125
    for name, value in changes.items():
        setattr(it, name, value)
    return it


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def line(path: Path, format: Any, it: Exchange) -> bytes:  # noqa: A002
    log = AccessLog(format, str(path), clock=lambda: MOMENT)
    log.on_complete(it)
    log.close()
    return path.read_bytes()


def test_json(path: Path) -> None:
    written = line(path, "json", exchange(flags=("retried", "reset")))
    assert written.endswith(b"}\n")
    assert json.loads(written) == {
        "time": "2023-11-14T22:13:20.045Z",
        "request_id": "00ff",
        "client": "192.0.2.1",
        "method": "GET",
        "host": "example.com",
        "target": "/a?b=c",
        "status": 200,
        "bytes_in": 5,
        "bytes_out": 1234,
        "duration": 0.0125,
        "route": "example.com",
        "backend": "web1",
        "attempts": 1,
        "flags": "retried reset",
        "user_agent": "Mozilla/5.0 (X11)",
        "referer": "https://example.com/start",
    }


def test_combined_log_format(path: Path) -> None:
    assert line(path, "clf", exchange()) == (
        b'192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=c HTTP/1.1" 200 1234 '
        b'"https://example.com/start" "Mozilla/5.0 (X11)"\n'
    )


def test_combined_log_format_of_a_bare_request(path: Path) -> None:
    it = exchange(b"GET / HTTP/1.0\r\n\r\n", b"/", client="", backend=None)
    assert line(path, "clf", it) == b'- - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.0" 200 1234 "-" "-"\n'


def test_without_route_or_backend(path: Path) -> None:
    read = json.loads(line(path, "json", exchange(route=None, backend=None, status=404, attempts=0)))
    assert (read["route"], read["backend"], read["status"], read["attempts"]) == ("", "", 404, 0)


@pytest.mark.parametrize("format", ["json", "clf"])
def test_credentials_are_never_written(path: Path, format: str) -> None:  # noqa: A002
    assert b"secret" not in line(path, format, exchange())


@pytest.mark.parametrize(
    ("head", "agent", "referer"),
    [
        (b"GET / HTTP/1.1\r\nuser-agent: curl/8\r\nreferer: r\r\n\r\n", "curl/8", "r"),
        (b"GET / HTTP/1.1\r\nUSER-AGENT:\t curl/8 \r\nReFerer:r\r\n\r\n", "curl/8", "r"),
        (b"GET / HTTP/1.1\r\nUser-Agent: curl/8\r\n\r\n", "curl/8", ""),
        (b"GET / HTTP/1.1\r\nReferer: r\r\n\r\n", "", "r"),
        (b"GET / HTTP/1.1\r\nX-User-Agent: no\r\nX: user-agent: no\r\n\r\n", "", ""),
        (b"GET / HTTP/1.1\r\nUser-Agent: \r\n\r\n", "", ""),
    ],
)
def test_user_agent_and_referer(path: Path, head: bytes, agent: str, referer: str) -> None:
    read = json.loads(line(path, "json", exchange(head)))
    assert (read["user_agent"], read["referer"]) == (agent, referer)


ANY = st.binary(max_size=30).filter(lambda it: not set(b"\r\n") & set(it))
ACCEPTED = st.binary(max_size=30).map(lambda it: it.translate(None, bytes(range(0x20)).replace(b"\t", b"") + b"\x7f"))
"""What llhttp lets into a head."""


@given(st.one_of(st.tuples(ACCEPTED, ACCEPTED), st.tuples(ANY, st.none())), st.text(max_size=20))
def test_whatever_the_client_sends_a_line_stays_one_readable_line(
    sent: tuple[bytes, bytes | None], client: str
) -> None:
    target, agent = sent
    # a head that was refused is not kept, but what could be read of its first line is logged
    head = b"" if agent is None else b"GET / HTTP/1.1\r\nUser-Agent: x%b\r\n\r\n" % agent
    client = client if agent is None else "192.0.2.1"
    it = exchange(head, target, client=client)
    it.raw_request_id = target
    for format in ("json", "clf"):  # noqa: A001
        log = AccessLog(format, os.devnull, clock=lambda: MOMENT)
        written = log._line(MOMENT, it)
        log.close()
        assert written.count(b"\n") == 1
        assert re.fullmatch(rb"[ -~]+\n", written)
        if format == "json":
            read = json.loads(written)
            assert read["target"] == target.decode("utf-8", "backslashreplace")
            assert read["request_id"] == read["target"]
            assert read["user_agent"] == ("" if agent is None else "x" + agent.decode("utf-8", "backslashreplace"))
        else:
            quoted = re.fullmatch(
                rb'.* - - \[[^]]*\] "GET ((?:[^"\\]|\\.)*) HTTP/1\.1" 200 1234 "-" "((?:[^"\\]|\\.)*)"\n', written
            )
            assert quoted
            assert _unescape(quoted[1]) == target
            assert _unescape(quoted[2]) == (b"-" if agent is None else b"x" + agent)


def _unescape(value: bytes) -> bytes:
    return re.sub(rb"\\(?:x([0-9a-f]{2})|(.))", lambda m: bytes.fromhex(m[1].decode()) if m[1] else m[2], value)


def test_names_are_escaped_too(path: Path) -> None:
    read = json.loads(line(path, "json", exchange(backend=Backend('we"b\n', "h", 1))))
    assert read["backend"] == 'we"b\n'


def test_names_of_backends_that_come_and_go_are_not_kept_for_ever() -> None:
    log = AccessLog("json", os.devnull)
    for number in range(NAMES_MOST + 10):
        log.on_complete(exchange(backend=Backend(f"web{number}", "h", 1)))
    log.close()
    assert len(log._names) <= NAMES_MOST


def test_the_time_moves_on(path: Path) -> None:
    moments = iter([1_700_000_000.0, 1_700_000_000.9999, 1_700_000_001.5])
    log = AccessLog("json", str(path), clock=lambda: next(moments))
    for _ in range(3):
        log.on_complete(exchange())
    log.close()
    times = [json.loads(each)["time"][-9:] for each in path.read_bytes().splitlines()]
    assert times == ["22:13:20.000Z"[-9:], "22:13:20.999Z"[-9:], "22:13:21.500Z"[-9:]]


def test_lines_wait_until_there_are_enough(path: Path) -> None:
    log = AccessLog("json", str(path))
    size = len(log._line(MOMENT, exchange()))
    enough = -(-FLUSH_AT // size // BATCH) * BATCH  # whole batches
    for _ in range(enough - 1):
        log.on_complete(exchange())
    assert not path.exists()
    log.on_complete(exchange())
    assert len(path.read_bytes()) >= FLUSH_AT
    log.on_complete(exchange())
    log.flush()
    log.flush()
    assert path.read_bytes().count(b"\n") == enough + 1
    log.close()


def test_a_file_is_appended_to_and_private(path: Path) -> None:
    path.write_bytes(b"before\n")
    assert line(path, "json", exchange()).startswith(b"before\n{")
    other = path.with_name("other.log")
    line(other, "json", exchange())
    assert other.stat().st_mode & 0o007 == 0


def test_reopen_after_rotation(path: Path) -> None:
    log = AccessLog("json", str(path))
    assert not path.exists()  # `lb check` makes an AccessLog too, and leaves nothing behind
    log.on_complete(exchange(target=b"/one"))
    log.flush()
    moved = path.rename(path.with_name("access.log.1"))
    log.on_complete(exchange(target=b"/two"))
    log.reopen()
    log.on_complete(exchange(target=b"/three"))
    log.close()
    assert [json.loads(each)["target"] for each in moved.read_bytes().splitlines()] == ["/one", "/two"]
    assert [json.loads(each)["target"] for each in path.read_bytes().splitlines()] == ["/three"]


def test_reopen_where_the_directory_is_gone_keeps_the_old_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = path.parent / "logs"
    folder.mkdir()
    (folder / "access.log").touch()
    log = AccessLog("json", str(folder / "access.log"))
    moved = folder.rename(path.parent / "old")
    log.reopen()
    assert "the old file goes on" in caplog.text
    log.on_complete(exchange())
    log.close()
    assert (moved / "access.log").read_bytes().count(b"\n") == 1


def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"access_log.file: cannot open '.*/no/access.log': No such file or directory"):
        AccessLog("json", str(tmp_path / "no" / "access.log"))


def test_a_directory_that_cannot_be_written_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(StartError, match=r"cannot open '.*/access.log': Permission denied"):
        AccessLog("json", str(tmp_path / "access.log"))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="'xml' is not json or clf"):
        AccessLog("xml")  # type: ignore[arg-type]


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLog("json", "-")
    log.on_complete(exchange())
    log.close()
    log.reopen()
    assert json.loads(capfd.readouterr().out)["status"] == 200
    os.write(1, b"still open")
    assert capfd.readouterr().out == "still open"


async def test_lifespan_flushes_every_second_and_at_the_end(path: Path) -> None:
    log = AccessLog("json", str(path))
    async with log.lifespan():
        log.on_complete(exchange(target=b"/one"))
        assert path.read_bytes() == b""
        async with asyncio.timeout(5):
            while not path.read_bytes():
                await asyncio.sleep(0.05)
        log.on_complete(exchange(target=b"/two"))
        moved = path.rename(path.with_name("access.log.1"))
        log.reopen()
        log.on_complete(exchange(target=b"/three"))
    assert [json.loads(each)["target"] for each in moved.read_bytes().splitlines()] == ["/one", "/two"]
    assert [json.loads(each)["target"] for each in path.read_bytes().splitlines()] == ["/three"]
    assert not [thread for thread in threading.enumerate() if thread.name == "lb-access-log"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
async def test_a_full_disk_is_reported_once_and_traffic_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("json", "/dev/full")
    async with log.lifespan():
        for _ in range(5):
            log.on_complete(exchange())
            log.flush()
            await asyncio.sleep(0.01)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "cannot write to /dev/full: No space left on device; lines are dropped" in caplog.text
    assert log._writer.lost > 0


def test_a_pipe_whose_reader_went_away(caplog: pytest.LogCaptureFixture, path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(str(path))
    writer.write(b"one\n")
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)
    writer.write(b"two\n")
    writer.write(b"three\n")
    assert caplog.text.count("Broken pipe") == 1
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.write(b"four\n")
    assert os.read(reader, 100) == b"four\n"
    assert "can be written again; 10 bytes were lost" in caplog.text
    os.close(reader)
    writer.close()


def test_a_reader_that_stops_holds_up_nobody(
    caplog: pytest.LogCaptureFixture, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "WAITING_MOST", 1 << 20)
    monkeypatch.setattr(log_writer, "CLOSING_MOST", 0.2)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(str(path))
    writer.start()
    writer.start()
    begin = time.monotonic()
    for _ in range(100):
        writer.write(b"x" * 65_535 + b"\n")
    assert time.monotonic() - begin < 1
    assert "the reader is too slow" in caplog.text
    assert 4 << 20 < writer.lost < 100 << 16
    writer.close()
    assert time.monotonic() - begin < 2
    assert "takes no more" in caplog.text
    os.close(reader)


def test_a_non_blocking_output_is_waited_for(path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(str(path))
    os.set_blocking(writer._descriptor, False)
    writer.start()
    writer.write(b"y" * 300_000)
    os.set_blocking(reader, True)
    received = 0
    while received < 300_000:
        received += len(os.read(reader, 65_536))
    writer.close()
    os.close(reader)
    assert writer.lost == 0
