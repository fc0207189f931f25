"""Where a worker hangs or crashes, said by a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from lb_core.workers import whereabouts

SCRIPT = """
import ctypes, time
from lb_core.workers import whereabouts
whereabouts.prepare()
def a_plugin_that_blocks():
    print("ready", flush=True)
    {what}
a_plugin_that_blocks()
"""


def started(what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT.format(what=what)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("what", ["time.sleep(30)", "while True: pass"])
def test_one_that_hangs_says_where_and_is_none_the_worse(what: str) -> None:
    process = started(what)
    descriptor = os.pidfd_open(process.pid)
    try:
        whereabouts.ask(descriptor)
        assert process.stderr is not None
        while "in a_plugin_that_blocks" not in (line := process.stderr.readline()):
            assert line, "it ended"
        assert process.poll() is None
    finally:
        os.close(descriptor)
        process.kill()
        process.communicate()


def test_one_that_crashes_says_where() -> None:
    process = started("ctypes.string_at(0)")
    _, errors = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGSEGV
    assert "in a_plugin_that_blocks" in errors


def test_without_standard_error_there_is_nothing_to_prepare() -> None:
    program = "import sys\nfrom lb_core.workers import whereabouts\nassert sys.stderr is None\nwhereabouts.prepare()\n"
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program]
    assert subprocess.run(command, check=False).returncode == 0
