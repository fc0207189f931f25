"""The parts of the demo: its backends, its client, its file, its figures and its picture."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from lb_core.backend import Backend
from lb_core.demo.backend import Site
from lb_core.demo.figures import WINDOW, Figures, Row, describe, percentile
from lb_core.demo.processes import BackendProcess, Fleet
from lb_core.demo.scene import Scene
from lb_core.demo.traffic import Traffic
from lb_core.demo.view import MARKS, Picture, status_line
from lb_core.errors import StartError
from lb_core.events import Event
from lb_core.pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def site(name: str = "blue", latency: float = 0.0) -> AsyncIterator[int]:
    server = await asyncio.start_server(Site(name, latency).serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


async def test_a_backend_answers_pipelined_requests_and_reads_bodies() -> None:
    async with site() as port:
        answer = await ask(
            port,
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
            b"HEAD /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert b"blue answers POST /a\n" in answer
    assert b"blue answers GET /health\n" in answer
    assert b"answers HEAD" not in answer
    assert answer.count(b"X-Backend: blue") == 3


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET"])
async def test_a_backend_closes_on_what_it_cannot_read(request_: bytes) -> None:
    async with site() as port:
        assert await ask(port, request_) == b""


async def test_a_backend_refuses_chunked_bodies_clearly() -> None:
    async with site() as port:
        answer = await ask(port, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 411 ")


async def test_a_backend_takes_its_time_except_for_its_health() -> None:
    async with site(latency=0.2) as port:
        start = time.monotonic()
        await ask(port, b"GET /health HTTP/1.1\r\n\r\n")
        assert time.monotonic() - start < 0.15
        await ask(port, b"GET /slow HTTP/1.1\r\n\r\n")
        assert time.monotonic() - start > 0.16


async def test_traffic_counts_every_answer_and_uses_connections_again() -> None:
    async with site() as port:
        traffic = Traffic("127.0.0.1", port, rate=200)
        sending = asyncio.create_task(traffic.run())
        await asyncio.sleep(0.5)
        sending.cancel()
        await asyncio.wait([sending])
        assert 50 <= traffic.sent <= 110
        assert (traffic.answered, traffic.lost) == (traffic.sent, 0)
        assert len(traffic._idle) < 10


async def test_traffic_counts_what_is_lost_by_its_reason() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        traffic = Traffic("127.0.0.1", server.sockets[0].getsockname()[1], rate=100)
        sending = asyncio.create_task(traffic.run())
        await asyncio.sleep(0.2)
        sending.cancel()
        await asyncio.wait([sending])
    assert traffic.answered == 0
    assert traffic.problems == {"answered 503": traffic.sent}
    assert traffic.lost == traffic.sent > 5


async def answering(answer: bytes) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "without Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "bytes read"),
        (b"", "bytes read"),
    ],
)
async def test_an_answer_that_is_none_is_lost(answer: bytes, reason: str) -> None:
    async with asynccontextmanager(answering)(answer) as port:
        traffic = Traffic("127.0.0.1", port, rate=50)
        await traffic._send(0)
    (problem,) = traffic.problems
    assert reason in problem


async def test_a_refused_connection_and_a_late_answer_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(latency=5) as port:
        monkeypatch.setattr("lb_core.demo.traffic.ANSWER_WITHIN", 0.05)
        traffic = Traffic("127.0.0.1", port, rate=50)
        await traffic._send(0)
        assert traffic.problems == {"no answer within 0.05 s": 1}
    traffic = Traffic("127.0.0.1", 1, rate=50)
    await traffic._send(0)
    assert "Connect call failed" in next(iter(traffic.problems))


async def test_a_backend_that_cannot_start_is_an_error_and_the_others_are_ended() -> None:
    good, bad = BackendProcess("good", 0), BackendProcess("bad", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bad.port = taken.getsockname()[1]
        with pytest.raises(StartError, match="'bad' did not start"):
            async with Fleet([good, bad], print, 1.0):
                pass
    assert (good.pid, bad.pid) == (0, 0)


async def test_a_killed_backend_process_comes_back_on_its_port_and_none_is_left_behind() -> None:
    told: list[str] = []
    async with Fleet([BackendProcess("blue", 0), BackendProcess("green", 0)], told.append, 0.1) as fleet:
        blue = fleet["blue"]
        port, pid = blue.port, blue.pid
        assert port != fleet["green"].port
        blue.kill()
        async with asyncio.timeout(10):
            while blue.pid in (0, pid):
                await asyncio.sleep(0.02)
            while not any("started again" in line for line in told):
                await asyncio.sleep(0.02)
        assert blue.port == port
        assert b"blue answers" in await ask(port, b"GET / HTTP/1.1\r\n\r\n")
        pids = [backend.pid for backend in fleet.backends]
    assert f"process {pid} is gone" in told[0]
    for left in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(left, 0)


def test_backend_processes_end_when_their_parent_is_killed() -> None:
    program = (
        "import asyncio, sys\n"
        "from lb_core.demo.processes import BackendProcess, Fleet\n"
        "async def main():\n"
        "    async with Fleet([BackendProcess('blue', 0)], print, 1) as fleet:\n"
        "        print(fleet['blue'].pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 5
    while running(pid):
        assert time.monotonic() < end, f"process {pid} outlived its parent"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether the process exists and is no zombie waiting for a parent that a container lacks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def scene(tmp_path: Path) -> Scene:
    backends = [BackendProcess("fast", 1), BackendProcess("slow", 1)]
    for port, backend in enumerate(backends, 9001):
        backend.port = port
    return Scene(tmp_path, 8080, backends)


def test_the_commands_shown_do_what_the_demo_does_itself(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    typed, done = scene(tmp_path / "one"), scene(tmp_path / "two")
    before = typed.path.read_text()
    for command in (typed.weight_command("slow", 0), typed.strategy_command("round_robin")):
        subprocess.run(command, shell=True, check=True)
    done.set_weight("slow", 0)
    done.set_strategy("round_robin")
    assert typed.path.read_text() == done.path.read_text() != before
    assert 'slow: {url: "http://127.0.0.1:9002", weight: 0}' in done.path.read_text()
    assert "strategy: round_robin" in done.path.read_text()


def test_an_edit_that_finds_nothing_says_so(tmp_path: Path) -> None:
    made = scene(tmp_path)
    with pytest.raises(ValueError, match="stands there 0 times"):
        made.set_weight("nobody", 0)


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles(fraction: float, expected: int) -> None:
    assert percentile([float(n) for n in range(1, 101)], fraction) == expected
    assert percentile([], fraction) == 0.0


def exchange(backend: Backend | None, seconds: float, status: int = 200) -> Any:
    return SimpleNamespace(backend=backend, duration=seconds, status=status)


def test_figures_look_back_over_the_window_and_totals_over_everything() -> None:
    now = [0.0]
    a, b = Backend("a", "127.0.0.1", 1), Backend("b", "127.0.0.1", 2)
    figures = Figures(lambda event: None, clock=lambda: now[0])
    for _ in range(30):
        figures.on_complete(exchange(a, 0.010))
    now[0] = WINDOW + 1
    for _ in range(10):
        figures.on_complete(exchange(b, 0.040))
    figures.on_complete(exchange(a, 0.500, status=502))
    figures.on_complete(exchange(None, 0.500, status=503))
    figures.on_backend_error(exchange(a, 0.0))
    row_a, row_b = figures.rows((a, b))
    assert (row_a.share, row_a.p50, row_a.errors) == (0.0, 0.0, 1)
    assert (row_b.share, row_b.p50, row_b.errors) == (1.0, 0.040, 0)
    assert figures.totals == {"a": 30, "b": 10}
    assert figures.requests_per_second() == 10


def test_a_weight_of_0_is_shown_as_draining() -> None:
    backend = Backend("a", "127.0.0.1", 1, weight=0)
    (row,) = Figures(lambda event: None).rows((backend,))
    assert (row.state, row.reason) == ("draining", "weight 0")


def test_the_reason_of_a_state_is_shown_until_the_backend_is_up() -> None:
    backend = Backend("a", "127.0.0.1", 1)
    pool = Pool("p", [backend])
    figures = Figures(lambda event: None)
    pool.set_health(backend, "down", "connection refused")
    assert (figures.rows((backend,))[0].state, figures.rows((backend,))[0].reason) == ("down", "connection refused")
    pool.set_health(backend, "up", "2 checks passed")
    assert (figures.rows((backend,))[0].state, figures.rows((backend,))[0].reason) == ("up", "")


def test_events_are_described_in_one_line() -> None:
    assert describe(Event("backend_down", "refused", route="r", backend="a")) == "a: down (refused)"
    assert describe(Event("config_refused", "line one\nline two")) == "config refused: line one"


def picture(**changes: Any) -> Picture:
    rows = [
        Row("fast", "127.0.0.1:40001", "up", "", 0.98, 12, 0.0104, 0.0140, 0),
        Row("middle", "127.0.0.1:40002", "draining", "weight 0", 0.0, 0, 0.0, 0.0, 0),
        Row("slow", "127.0.0.1:40003", "ejected", "5 failures in a row, the last: refused", 0.02, 2, 0.06, 9.999, 123),
    ]
    path = "/tmp/lb-abcd1234/lb.yaml"
    shown: dict[str, Any] = {
        "url": "http://127.0.0.1:8080",
        "config": path,
        "strategy": "least_connections",
        "rows": rows,
        "rate": 49.6,
        "sent": 123456,
        "answered": 123455,
        "lost": 1,
        "news": [(0.0, f"event {n} " + "x" * 200) for n in range(50)],
        "things": [
            ("kill fast", "kill 123456"),
            ("drain middle", f"sed -i.bak '/middle:/s/weight: 1/weight: 0/' {path}"),
            ("change the strategy", f"sed -i.bak 's/strategy: .*/strategy: round_robin/' {path}"),
        ],
        "footer": "Ctrl+C ends the demo",
    }
    return Picture(**{**shown, **changes})


def draw(width: int, height: int, **changes: Any) -> list[str]:
    console = Console(width=width, height=height, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(picture(**changes))
    return captured.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (100, 30), (120, 50), (200, 60)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    lines = draw(width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    text = "\n".join(lines)
    for whole in (
        "In flight",
        "p50",
        "p99",
        "Errors",
        "10 ms",
        "14 ms",
        "10.0 s",
        " 98%",
        "123456 sent",
        "1 lost",
        "event 49",
    ):
        assert whole in text
    for _, command in picture().things:
        assert f"    {command}" in lines


def test_every_state_has_a_mark_and_a_word_of_its_own() -> None:
    assert len({mark for mark, _ in MARKS.values()}) >= 5
    for state, (mark, _) in MARKS.items():
        lines = draw(80, 24, rows=[Row("a", "127.0.0.1:1", state, "", 1.0, 0, 0.0, 0.0, 0)])
        assert any(f"{mark} {state}" in line for line in lines)


def test_a_command_longer_than_the_terminal_is_folded_not_cut() -> None:
    command = "sed Q" + "Q" * 150
    lines = draw(80, 30, things=[("long", command)])
    assert command in "".join(line.strip() if "Q" in line else "" for line in lines)


def test_the_status_line_names_states_that_are_not_up() -> None:
    line = status_line(picture())
    assert line == "123456 sent, 123455 answered, 1 lost   fast 98%  middle 0% (draining)  slow 2% (ejected)"
