"""CPU per request of lb beside nginx, HAProxy and Caddy: `make bench`, or `python -m benchmarks.run --help`.

Proxies are pinned to one CPU, backends and the load generator to another. A round drives every workload at every peer
for a second; the order of the peers rotates from round to round. The cost is the CPU time of a peer's whole process
tree.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import cpu
from benchmarks.backends import start_backends
from benchmarks.load import WORKLOADS, Workload, drive
from benchmarks.peers import LB, PEERS, Peer, start_peer
from benchmarks.processes import Failed, Processes, raise_file_limit
from benchmarks.report import Sample, as_json, markdown, verdicts, write_section

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

NOISY_CORES = 0.3
ERRORS_ALLOWED = 0.001
# Peers that say something on some workloads only; measuring them on all would cost minutes.
ONLY = {
    "lb-full": ("get",),
    "lb-pure": ("get", "close"),
    "nginx-buffered": ("get16k", "chunked16k", "get1m", "get100m"),
}


def main() -> int:
    """Measure, print, and return 1 when a gate fails."""
    options = _options()
    command = "make bench" + (f' ARGS="{shlex.join(sys.argv[1:])}"' if sys.argv[1:] else "")
    try:
        _check_machine(options.peers)
        raise_file_limit(4096)
        samples = _measure(
            options.peers, [WORKLOADS[name] for name in options.workloads], options.rounds, options.seconds
        )
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    table = markdown(samples, options.peers[0])
    judged = verdicts(samples)
    print(f"\n{table}\n")
    print("\n".join(str(verdict) for verdict in judged))
    noise = max(sample.foreign for sample in samples)
    if noise > NOISY_CORES:
        print(f"other programs kept up to {noise:.1f} cores busy during a sample: measure again on a quiet machine")
    if options.json:
        Path(options.json).write_text(json.dumps(as_json(samples, command), indent=1))
    if options.write:
        write_section("bench", _section(command, table, [str(verdict) for verdict in judged]))
    return 0 if all(verdict.passed for verdict in judged) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--workloads", type=_names(WORKLOADS), default=list(WORKLOADS), help=", ".join(WORKLOADS))
    parser.add_argument(
        "--peers",
        type=_names(PEERS),
        default=list(PEERS),
        help=f"{', '.join(PEERS)}; ratios are to the first",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="length of a sample")
    parser.add_argument("--json", metavar="FILE", help="write every sample to a file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    return parser.parse_args()


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is unknown; choose from {', '.join(known)}")
        return names

    return parse


def _check_machine(peers: list[str]) -> None:
    if not sys.platform.startswith("linux"):
        raise Failed("CPU time is read from Linux's /proc; this is " + sys.platform)
    if len(os.sched_getaffinity(0)) < 2:
        raise Failed("two CPUs are needed, one for the proxies and one for the load")
    needed = {"wrk": "wrk", "nginx": "nginx-light", "taskset": "util-linux"}
    needed |= {name: name for name in ("haproxy", "caddy") if name in peers}
    os.environ["PATH"] += ":/usr/sbin"
    missing = [package for program, package in needed.items() if not shutil.which(program)]
    if missing:
        raise Failed(f"missing programs: install the Debian packages {' '.join(missing)}")
    if not LB.exists() and any(name.startswith("lb") for name in peers):
        raise Failed(f"{LB} is missing: run `make install`")


def _measure(names: list[str], workloads: list[Workload], rounds: int, seconds: int) -> list[Sample]:
    with Processes() as processes:
        backends = start_backends(processes)
        peers = [start_peer(name, processes, backends) for name in names]
        for peer in peers:
            drive(processes, WORKLOADS["get"], peer.port, 1)  # connections opened, caches and learned tables filled
        plan = [(number, workload) for number in range(rounds) for workload in workloads]
        samples = []
        for step, (number, workload) in enumerate(plan):
            _progress(step, len(plan), f"round {number + 1} of {rounds}: {workload.name}")
            turn = number % len(peers)
            turned = peers[turn:] + peers[:turn]
            wanted = [peer for peer in turned if workload.name in ONLY.get(peer.name, WORKLOADS)]
            samples += [_sample(processes, number, workload, peer, seconds) for peer in wanted]
        _progress(len(plan), len(plan), "done")
        return samples


def _sample(processes: Processes, number: int, workload: Workload, peer: Peer, seconds: int) -> Sample:
    began, machine, own = time.monotonic(), cpu.machine_ns(), _own_ns()
    before = cpu.cpu_ns(cpu.tree(peer.pid))
    load = drive(processes, workload, peer.port, seconds)
    spent = cpu.cpu_ns(cpu.tree(peer.pid)) - before
    elapsed = time.monotonic() - began
    foreign = (cpu.machine_ns() - machine - (_own_ns() - own)) / 1e9 / elapsed
    if load.errors > load.requests * ERRORS_ALLOWED:
        raise Failed(f"{peer.name}: {load.errors} errors in {load.requests:.0f} requests of {workload.name}")
    return Sample(
        number,
        workload.name,
        peer.name,
        round(spent / 1000 / load.requests, 3),
        round(load.requests, 2),
        seconds,
        load.errors,
        load.p50_ms,
        load.p99_ms,
        round(max(0.0, foreign), 2),
    )


def _own_ns() -> int:
    """CPU of this process, of what it waited for (the load generator) and of everything it started."""
    times = os.times()
    return cpu.cpu_ns(cpu.tree(os.getpid())) + int((times.children_user + times.children_system) * 1e9)


def _progress(done: int, total: int, text: str) -> None:
    if sys.stderr.isatty():
        print(
            f"\r\x1b[K{done * 100 // total:3d} %  {text}",
            end="\n" if done == total else "",
            file=sys.stderr,
            flush=True,
        )
    else:
        print(f"{done * 100 // total:3d} %  {text}", file=sys.stderr, flush=True)


def _section(command: str, table: str, judged: list[str]) -> str:
    today = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}"
    gates = "\n".join(judged)
    return f"{today}, `{command}`, {machine}\n\n{table}\n\n```text\n{gates}\n```"


if __name__ == "__main__":
    raise SystemExit(main())
