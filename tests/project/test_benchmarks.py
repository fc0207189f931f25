"""The benchmarks compute what they print."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import cpu
from benchmarks.gates import GATES
from benchmarks.load import WORKLOADS
from benchmarks.peers import PEERS
from benchmarks.processes import Failed, Processes, free_port
from benchmarks.report import Sample, Spread, markdown, ratios, rows, verdicts, write_section
from benchmarks.sink import OK, Sink


def sample(number: int, peer: str, cpu_us: float, workload: str = "get") -> Sample:
    return Sample(number, workload, peer, cpu_us, 1000, 1, 0, 0.5, 1.0, 0.0)


def test_a_ratio_is_taken_inside_its_round() -> None:
    drifting = [sample(0, "nginx", 10), sample(0, "lb", 12), sample(1, "nginx", 20), sample(1, "lb", 24)]
    assert ratios(drifting, "get", "lb", "nginx") == [1.2, 1.2]


def test_rows_keep_a_workload_together_and_give_quartiles() -> None:
    mixed = [
        *(sample(number, "nginx", 10) for number in range(5)),
        *(sample(0, "nginx", 50, "close") for _ in range(1)),
        *(sample(number, "lb", 10 + number) for number in range(5)),
    ]
    table = rows(mixed, "nginx")
    assert [(row.workload, row.peer) for row in table] == [("get", "nginx"), ("get", "lb"), ("close", "nginx")]
    assert table[1].ratio == Spread(1.1, 1.2, 1.3)


@pytest.mark.parametrize(("cost", "word"), [(9.0, "goal"), (13.0, "pass"), (14.0, "FAIL")])
def test_a_gate_says_goal_pass_or_fail(cost: float, word: str) -> None:
    (verdict,) = verdicts([sample(0, "nginx", 10), sample(0, "lb", cost)])
    assert str(verdict).startswith(word)
    assert verdict.passed is (word != "FAIL")


def test_a_gate_without_a_measurement_is_left_out() -> None:
    assert verdicts([sample(0, "nginx", 10)]) == []


def test_gates_name_workloads_and_peers_that_exist() -> None:
    assert {gate.workload for gate in GATES} <= WORKLOADS.keys()
    assert {gate.peer for gate in GATES} | {gate.against for gate in GATES} <= PEERS.keys()


def test_the_table_is_markdown_with_one_line_a_row() -> None:
    lines = markdown([sample(0, "nginx", 10), sample(0, "lb", 12.5)], "nginx").splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {10}
    assert "1.25" in lines[3]


def test_write_replaces_one_section_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nbelow\n")
    write_section("bench", "new\n", page)
    assert page.read_text() == "above\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nbelow\n"
    with pytest.raises(ValueError, match="no section <!-- memory:begin -->"):
        write_section("memory", "new", page)


def test_cpu_time_of_a_tree_includes_the_children() -> None:
    burn = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with subprocess.Popen([sys.executable, "-c", burn], start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 10
            while len(cpu.tree(process.pid)) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            pids = cpu.tree(process.pid)
            before = cpu.cpu_ns(pids)
            time.sleep(0.5)
            spent = cpu.cpu_ns(pids) - before
        finally:
            os.killpg(process.pid, 9)
    assert 20_000_000 < spent < 800_000_000


def test_what_was_started_is_ended_and_its_folder_removed() -> None:
    port = free_port()
    with Processes() as processes:
        pid = processes.start("sink", [sys.executable, "-m", "benchmarks.sink", str(port)], port=port, cpu=0)
        assert processes.folder.is_dir()
    assert not Path(f"/proc/{pid}").exists()
    assert not processes.folder.exists()


def test_a_command_that_does_not_listen_is_quoted_with_what_it_said() -> None:
    with Processes() as processes, pytest.raises(Failed, match="no such thing"):
        processes.start("bad", [sys.executable, "-c", "exit('no such thing')"], port=free_port(), cpu=0)


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data


REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_sink_answers_each_request_once_it_has_read_its_body(size: int) -> None:
    wire, sink = Wire(), Sink()
    sink.connection_made(wire)
    for number, request in enumerate(REQUESTS, 1):
        for begin in range(0, len(request), size):
            assert wire.sent == OK * (number - 1)
            sink.data_received(request[begin : begin + size])
        assert wire.sent == OK * number
