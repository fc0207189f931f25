"""Instructions per request under callgrind: `make bench-instructions`.

CPU time drifts with everything else on a machine; a count of instructions does not. lb starts without being counted,
serves some requests so that connections are open and tables learned, then callgrind's counters are set to zero and
read again after a known number of requests. What runs by the clock meanwhile (sweeps, ticks) is in the count.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.backends import Backends, start_backends
from benchmarks.client import Client, head
from benchmarks.peers import LB, PURE, lb_config, lb_full_config
from benchmarks.processes import PROXY_CPU, Failed, Processes, free_port
from benchmarks.report import write_section

LIMIT = 80_000
GOAL = 60_000
CONNECTIONS = 16
START_SECONDS = 120.0
DUMP = "counted"
_summary = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE).search


Config = Callable[[Backends, int, Path], str]


def _standard(backends: Backends, port: int, log: Path) -> str:
    del log
    return lb_config(backends, port)


PURE_NAME = "without speedups"
CONFIGURATIONS: dict[str, tuple[list[str], Config]] = {
    "standard": ([str(LB)], _standard),
    PURE_NAME: (PURE[1:], _standard),
    "everything on": ([str(LB)], lb_full_config),
}


def main() -> int:
    """Count, print, and return 1 when the standard configuration is above the limit."""
    options = _options()
    counts: dict[str, float] = {}
    try:
        if not shutil.which("callgrind_control"):
            raise Failed("valgrind is missing: install the Debian package valgrind")
        for name, (command, config) in CONFIGURATIONS.items():
            keep = options.keep and f"{options.keep}.{name.replace(' ', '-')}"
            counts[name] = count(config, options.requests, command=command, keep=keep)
            print(_line(name, counts[name]), flush=True)
    except Failed as error:
        print(f"bench-instructions: {error}", file=sys.stderr)
        return 1
    passed = counts["standard"] <= GOAL and counts[PURE_NAME] <= LIMIT
    print(f"{'pass' if passed else 'FAIL'}  standard at most {GOAL:,}, {PURE_NAME} {LIMIT:,}")
    if options.write:
        today = datetime.now(UTC).date().isoformat()
        text = "\n".join(_line(name, count) for name, count in counts.items())
        write_section("instructions", f"{today}, `make bench-instructions`\n\n```text\n{text}\n```")
    return 0 if passed else 1


def _line(name: str, count: float) -> str:
    return f"{name:<17} {count:8,.0f} instructions a request"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-instructions", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument(
        "--keep", metavar="FILE", help="keep the standard configuration's profile for callgrind_annotate"
    )
    parser.add_argument("--write", action="store_true", help="put the counts into docs/performance.md")
    return parser.parse_args()


def count(config: Config, requests: int, *, command: Sequence[str] = (str(LB),), keep: str | None = None) -> float:
    """Instructions a request under a configuration; `command` is what Python is given to run lb."""
    with Processes() as processes:
        backends = start_backends(processes)
        port = free_port()
        text = config(backends, port, processes.folder / "access.log")
        pid = _start_counted(processes, command, text, port)
        clients = [Client(port) for _ in range(CONNECTIONS)]
        _send(clients, requests // 2)
        _control(pid, "--instr=on")
        _send(clients, requests // 2)
        _control(pid, "--zero")
        sent = _send(clients, requests)
        _control(pid, f"--dump={DUMP}")
        dump = _dump(processes.folder)
        if keep:
            shutil.copy(dump, keep)
        return _total(dump) / sent


def _start_counted(processes: Processes, lb: Sequence[str], config: str, port: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet"]
    command += [f"--callgrind-out-file={processes.folder}/callgrind.%p", sys.executable, *lb, "run", "-c"]
    command.append(str(processes.write("counted.yaml", config)))
    # Hashing is seeded, so that two runs count the same.
    return processes.start(
        "lb", command, port=port, cpu=PROXY_CPU, seconds=START_SECONDS, environ={"PYTHONHASHSEED": "0"}
    )


def _control(pid: int, order: str) -> None:
    command = ["callgrind_control", order, str(pid)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)} does not answer; valgrind needs ptrace to be allowed") from None
    if ended.returncode or "Error" in ended.stdout + ended.stderr:
        raise Failed(f"{' '.join(command)}: {ended.stdout}{ended.stderr}")


def _dump(folder: Path) -> Path:
    """The dump that was asked for; each says in its first lines what caused it."""
    for dump in folder.glob("callgrind.*"):
        if DUMP in dump.read_text(errors="replace")[:2000]:
            return dump
    raise Failed(f"callgrind left no dump called {DUMP!r}: {[path.name for path in folder.iterdir()]}")


def _total(dump: Path) -> int:
    summary = _summary(dump.read_text(errors="replace"))
    if not summary:
        raise Failed(f"{dump.name} holds no total")
    return int(summary[1])


def _send(clients: list[Client], requests: int) -> int:
    """Send about that many requests, one on each connection at a time; returns how many they were."""
    request = head("GET", "/")
    rounds = max(1, requests // len(clients))
    for _ in range(rounds):
        for client in clients:
            client.send(request)
        for client in clients:
            client.receive()
    return rounds * len(clients)


if __name__ == "__main__":
    raise SystemExit(main())
