"""Whole lines from several processes in one pipe."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lb_core.defaults.taking_turns import needs_turns, portions

WRITER = """
import sys
from lb_core.defaults.log_writer import LogWriter
name, lock = sys.argv[1], int(sys.argv[2])
writer = LogWriter("-", together=lock)
lines = [f"{name}-{number}-{'x' * (7000 if number % 50 == 0 else 60)}-end" for number in range(2000)]
for begin in range(0, len(lines), 100):
    writer.write("".join(f"{line}\\n" for line in lines[begin : begin + 100]).encode())
"""


@given(st.lists(st.integers(0, 9000), max_size=20))
def test_portions_are_whole_lines_and_small_where_the_lines_are(lengths: list[int]) -> None:
    lines = b"".join(b"x" * length + b"\n" for length in lengths)
    found = [bytes(each) for each in portions(lines)]
    assert b"".join(found) == lines
    for each in found:
        assert each.endswith(b"\n")
        assert len(each) <= select.PIPE_BUF or each.count(b"\n") == 1


def test_a_last_line_without_its_end_is_not_lost() -> None:
    lines = b"x" * 5000
    assert [bytes(each) for each in portions(lines)] == [lines]


def test_a_file_needs_no_turns_and_a_pipe_does(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert not needs_turns(file.fileno())
    reading, writing = os.pipe()
    assert needs_turns(writing)
    os.close(reading)
    os.close(writing)


def test_lines_of_four_processes_come_out_whole() -> None:
    lock = os.memfd_create("lock")
    reading, writing = os.pipe()
    names = ["a", "b", "c", "d"]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(lock)], stdout=writing, pass_fds=[lock])
        for name in names
    ]
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().decode().splitlines()
    assert [each.wait(10) for each in writers] == [0] * 4
    os.close(lock)
    assert all(line.endswith("-end") for line in lines)
    assert Counter(line.split("-")[0] for line in lines) == dict.fromkeys(names, 2000)
    for name in names:
        numbers = [int(line.split("-")[1]) for line in lines if line.startswith(f"{name}-")]
        assert numbers == list(range(2000)), "each process's own lines stay in their order"
