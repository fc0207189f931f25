"""The nursery, in processes of its own: it forks, reports, and ends with whoever made it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

CONTROL = """
import asyncio, os, signal, socket, sys, time
from lb_core.errors import StartError
from lb_core.workers.nursery import Nursery

def work(link, seat):
    link.setblocking(True)
    link.sendall(b"%d" % seat)
    said = link.recv(100)
    if said == b"raise":
        raise ValueError("as it was told")
    return int(said or 0)

nursery = Nursery(work, lambda: print("let go", flush=True))
reports = []

async def until(count):
    while len(reports) < count:
        await asyncio.sleep(0.005)

async def fork(seat):
    ours, theirs = socket.socketpair()
    nursery.fork(seat, theirs)
    theirs.close()
    await until(len(reports) + 1)
    assert ours.recv(10) == b"%d" % seat
    return ours

async def main():
    nursery.follow()
    nursery.on_forked = lambda seat, pid, pidfd: reports.append(("forked", seat, pid, pidfd))
    nursery.on_ended = lambda seat, status: reports.append(("ended", seat, os.waitstatus_to_exitcode(status)))
    nursery.on_lost = lambda: reports.append(("lost",))
{body}

asyncio.run(main())
"""


def run(body: str, within: float = 15) -> tuple[int, str, str]:
    text = "".join(f"    {line}\n" for line in body.strip().splitlines())
    command = [sys.executable, "-c", CONTROL.format(body=text)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
    return done.returncode, done.stdout, done.stderr


def test_it_reports_who_was_forked_and_how_each_ended() -> None:
    status, said, errors = run(
        """
one, two, three = await fork(1), await fork(7), await fork(3)
one.sendall(b"0")
await until(4)
two.sendall(b"42")
await until(5)
signal.pidfd_send_signal(reports[2][3], signal.SIGKILL)
await until(6)
print(*[each[:3] for each in reports[3:]], flush=True)
nursery.close()
"""
    )
    assert (status, errors) == (0, "")
    assert said == "let go\n('ended', 1, 0) ('ended', 7, 42) ('ended', 3, -9)\n"


def test_an_exception_in_a_worker_is_status_1_with_its_traceback() -> None:
    status, said, errors = run(
        """
one = await fork(1)
one.sendall(b"raise")
await until(2)
print(reports[1], flush=True)
nursery.close()
"""
    )
    assert status == 0
    assert "('ended', 1, 1)" in said
    assert "ValueError: as it was told" in errors


def test_signals_for_everybody_are_ignored() -> None:
    status, said, _ = run(
        """
one = await fork(1)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN):
    os.kill(nursery.pid, number)
    os.kill(reports[0][2], number)
one.sendall(b"5")
await until(2)
two = await fork(2)
two.sendall(b"6")
await until(4)
print(reports[1], reports[3], flush=True)
nursery.close()
"""
    )
    assert status == 0
    assert "('ended', 1, 5) ('ended', 2, 6)" in said


def test_its_end_is_told() -> None:
    status, said, _ = run(
        """
os.kill(nursery.pid, signal.SIGKILL)
await until(1)
print(reports, nursery.alive, flush=True)
nursery.close()
"""
    )
    assert status == 0
    assert "[('lost',)] False" in said


def test_it_ends_when_whoever_made_it_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    status, _, _ = run(
        f"""
one = await fork(1)
open({str(pids)!r}, "w").write(f"{{nursery.pid}} {{reports[0][2]}}")
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert status == -9
    end = time.monotonic() + 5
    while any(map(lives, pids.read_text().split())):
        assert time.monotonic() < end, "the nursery, or its worker at the end of its link, lives on"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (
            "threading.Thread(target=time.sleep, args=(9,), daemon=True, name='busy').start()",
            "threads run already (busy)",
        ),
        ("", "an event loop runs already"),
    ],
)
def test_it_is_not_made_too_late(before: str, said: str) -> None:
    script = (
        "import asyncio, threading, time\n"
        "from lb_core.workers.nursery import Nursery\n"
        "from lb_core.errors import StartError\n"
        f"{before}\n"
        "def make():\n"
        "    try:\n"
        "        Nursery(lambda link, seat: 0)\n"
        "    except StartError as error:\n"
        "        print(error)\n"
        "async def late():\n"
        "    make()\n"
        f"{'make()' if before else 'asyncio.run(late())'}\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def lives(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_closed_standard_output_is_no_obstacle() -> None:
    body = "    ours = await fork(3)\n    ours.send(b'0')\n    await until(2)\n    print(reports[1], file=sys.stderr)\n"
    script = CONTROL.format(body=body)
    command = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert (done.returncode, done.stderr) == (0, "('ended', 3, 0)\n")
