"""Areas of shared memory: found by name in another process, zeroed, sparse, and given back."""

from __future__ import annotations

import logging
import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from lb_core.sharing import Memory

if TYPE_CHECKING:
    import pytest

OTHER = """
import sys
from lb_core.sharing import Memory
memory = Memory(int(sys.argv[1]), {"counts": (int(sys.argv[2]), int(sys.argv[3]))})
area = memory.area("counts", 8)
area.cast("q")[1] = area.cast("q")[0] + 1
"""


def blocks(memory: Memory) -> int:
    return os.fstat(memory.descriptor).st_blocks * 512


def test_another_process_sees_what_is_written() -> None:
    memory = Memory()
    numbers = memory.area("counts", 16).cast("q")
    numbers[0] = 41
    place = [str(number) for number in memory.areas["counts"]]
    command = [sys.executable, "-c", OTHER, str(memory.descriptor), *place]
    subprocess.run(command, check=True, pass_fds=[memory.descriptor], timeout=30)
    assert numbers[1] == 42


def test_areas_begin_on_pages_and_do_not_overlap() -> None:
    memory = Memory()
    first, second = memory.area("a", 1), memory.area("b", mmap.PAGESIZE + 1)
    first[:], second[:] = b"\1" * len(first), b"\2" * len(second)
    assert set(first) == {1}
    assert set(second) == {2}
    assert [begin % mmap.PAGESIZE for begin, _ in memory.areas.values()] == [0, 0]


def test_the_same_name_is_the_same_area() -> None:
    memory = Memory()
    memory.area("a", 100)[0] = 7
    assert memory.area("a", 50)[0] == 7


def test_another_size_is_another_area_that_is_empty() -> None:
    memory = Memory()
    memory.area("a", 100)[0] = 7
    assert memory.area("a", mmap.PAGESIZE * 2)[0] == 0


def test_a_page_takes_memory_when_it_is_written() -> None:
    memory = Memory()
    area = memory.area("large", 1 << 30)
    before = blocks(memory)
    area[1 << 29] = 1
    assert before == 0
    assert 0 < blocks(memory) <= 1 << 16


def test_what_is_released_is_given_back_and_used_again_zeroed() -> None:
    memory = Memory()
    area = memory.area("a", 1 << 20)
    area[:] = b"\7" * len(area)
    place = memory.areas["a"]
    assert blocks(memory) >= 1 << 20
    memory.release("a")
    assert blocks(memory) == 0
    assert not any(memory.area("b", 1 << 20))
    assert memory.areas == {"b": place}


def test_a_worker_without_the_area_counts_alone_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    control = Memory()
    worker = Memory(os.dup(control.descriptor), {})
    with caplog.at_level(logging.WARNING, "lb.sharing"):
        worker.area("counts", 8)[0] = 1
    assert "'counts'" in caplog.text
    assert control.area("counts", 8)[0] == 0


def test_a_worker_follows_the_areas_of_a_new_configuration() -> None:
    control = Memory()
    control.area("old", 8)[0] = 1
    worker = Memory(os.dup(control.descriptor), control.areas)
    assert worker.area("old", 8)[0] == 1
    control.release("old")
    control.area("new", 8)[0] = 2
    worker.follow(control.areas)
    assert worker.area("new", 8)[0] == 2
