"""What two workers serve beside one, lb and nginx: `make bench-workers`.

On a machine of two CPUs two workers at full speed leave nothing for the load generator and the backends, so requests
per second alone would show how the machine is divided. Therefore the kernel lets each worker use the same part of a
CPU (cgroups), each on a CPU of its own, so small that generator and backends are never short: two workers then have
twice what one has, and the ratio of what they serve is how well they scale. nginx measured in the same way is the
control: it must come out at two. Beside it stands the same without limits, where everything shares the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shlex
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks import cpu
from benchmarks.backends import Backends, start_backends
from benchmarks.client import Client, head
from benchmarks.held import held
from benchmarks.load import WORKLOADS, drive
from benchmarks.peers import LB, lb_config, nginx_command
from benchmarks.processes import Failed, Processes, free_port, raise_file_limit
from benchmarks.quota import Quotas
from benchmarks.report import write_section
from benchmarks.run import ERRORS_ALLOWED
from benchmarks.workers_report import Kept, WorkersSample, gains, unsaturated, workers_table, workers_verdicts

SHARE = 0.3
CONNECTIONS = 1000
CONTROL_AT_LEAST = 1.85
WORKLOAD = WORKLOADS["get"]


@dataclass(frozen=True)
class Running:
    """A proxy that runs: its first process, and those that serve."""

    proxy: str
    workers: int
    port: int
    pid: int
    serving: tuple[int, ...]


def main() -> int:
    """Measure, print, and return 1 when a limit is passed or the method did not work."""
    options = _options()
    try:
        _check_machine()
        raise_file_limit(2 * CONNECTIONS + 1000)
        samples, kept = _measure(options)
        doubtful = unsaturated(samples)
        if doubtful:
            raise Failed(
                f"{'; '.join(doubtful)}: something else kept the machine busy. Measure again, or lower --share"
            )
        _check_control(samples, options)
    except Failed as error:
        print(f"bench-workers: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    table = workers_table(samples, kept, _cores())
    judged = workers_verdicts(samples, options.proxies, options.workers)
    lines = "\n".join(line for _, line in judged)
    print(f"\n{table}\n\n{lines}")
    print(f"other programs kept up to {max(sample.foreign for sample in samples):.1f} cores busy during a sample")
    if options.write:
        command = "make bench-workers" + (f' ARGS="{shlex.join(sys.argv[1:])}"' if sys.argv[1:] else "")
        today = datetime.now(UTC).date().isoformat()
        machine = f"{_cores()} CPUs, {platform.system()}, Python {platform.python_version()}"
        write_section("workers", f"{today}, `{command}`, {machine}\n\n{table}\n\n```text\n{lines}\n```")
    return 0 if all(passed for passed, _ in judged) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-workers", description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--proxies", type=lambda text: text.split(","), default=["nginx", "lb"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="length of a sample")
    parser.add_argument("--share", type=float, default=SHARE, help="of a CPU for each worker; 0: without limits only")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    return parser.parse_args()


def _check_machine() -> None:
    os.environ["PATH"] += ":/usr/sbin"
    missing = [program for program in ("nginx", "wrk", "taskset") if not shutil.which(program)]
    if missing:
        raise Failed(f"missing programs: {' '.join(missing)}. On Debian: apt-get install nginx-light wrk util-linux")
    if _cores() < 2:
        raise Failed("two CPUs are needed")
    if not LB.exists():
        raise Failed(f"{LB} is missing: run `make install`")


def _check_control(samples: list[WorkersSample], options: argparse.Namespace) -> None:
    if options.share and "nginx" in options.proxies:
        control = gains(samples, "nginx", options.workers, limited=True)[0].median
        if control < CONTROL_AT_LEAST / 2 * options.workers:
            raise Failed(f"nginx, the control, came out at {control:.2f} times: measure again on a quiet machine")


def _measure(options: argparse.Namespace) -> tuple[list[WorkersSample], dict[tuple[str, int], Kept]]:
    with ExitStack() as stack:
        quotas = stack.enter_context(Quotas())
        processes = stack.enter_context(Processes())
        backends = start_backends(processes, cpu=_everywhere())
        running, kept = [], {}
        for proxy in options.proxies:
            for workers in (1, options.workers):
                one = _start(processes, backends, proxy, workers)
                kept[proxy, workers] = _kept(one)
                running.append(_serving(one))
        samples = []
        for number in range(options.rounds):
            for share in dict.fromkeys((options.share, 0.0)):
                turn = number % len(running)
                for one in running[turn:] + running[:turn]:
                    print(f"round {number + 1} of {options.rounds}: {one.proxy} {one.workers}", file=sys.stderr)
                    samples.append(_sample(processes, quotas, number, one, share, options.seconds))
        return samples, kept


def _start(processes: Processes, backends: Backends, proxy: str, workers: int) -> Running:
    port = free_port()
    name = f"{proxy}-{workers}"
    if proxy == "nginx":
        command = nginx_command(processes, backends, port, workers=workers)
    else:
        text = lb_config(backends, port) + (f"workers: {workers}\n" if workers > 1 else "")
        command = [str(LB), "run", "-c", str(processes.write(f"{name}.yaml", text))]
    pid = processes.start(name, command, port=port, cpu=_everywhere())
    one = Running(proxy, workers, port, pid, ())
    drive(processes, WORKLOAD, port, 1, cpu=_everywhere())  # connections opened, caches and learned tables filled
    return one


def _kept(one: Running) -> Kept:
    """Open connections that stay idle, and see which process has them, and how large all are."""
    clients = []
    try:
        for _ in range(CONNECTIONS):
            clients.append(Client(one.port))
            clients[-1].send(head("GET", "/"))
            clients[-1].receive()
        pids = cpu.tree(one.pid)
        counts = held(pids, one.port)
        if len(counts) != one.workers:
            raise Failed(f"{one.proxy} serves with {len(counts)} processes instead of {one.workers}: {dict(counts)}")
        return Kept(cpu.rss_kb(pids) / 1024, tuple(counts.values()))
    finally:
        for client in clients:
            client.close()


def _serving(one: Running) -> Running:
    """With the processes that serve, each from now on at home on a CPU of its own."""
    client = [Client(one.port) for _ in range(64)]
    for each in client:
        each.send(head("GET", "/"))
        each.receive()
    serving = tuple(held(cpu.tree(one.pid), one.port))
    for each in client:
        each.close()
    return Running(one.proxy, one.workers, one.port, one.pid, serving)


def _sample(
    processes: Processes, quotas: Quotas, number: int, one: Running, share: float, seconds: int
) -> WorkersSample:
    _place(quotas, one, share)
    pids = cpu.tree(one.pid)
    began, machine, own = time.monotonic(), cpu.machine_ns(), _own_ns()
    before, each = cpu.cpu_ns(pids), [cpu.cpu_ns([pid]) for pid in one.serving]
    load = drive(processes, WORKLOAD, one.port, seconds, cpu=_everywhere())
    spent = cpu.cpu_ns(cpu.tree(one.pid)) - before
    used = min(cpu.cpu_ns([pid]) - then for pid, then in zip(one.serving, each, strict=True))
    elapsed = time.monotonic() - began
    ours = _own_ns() - own
    if load.errors > load.requests * ERRORS_ALLOWED:
        raise Failed(f"{one.proxy} with {one.workers} workers: {load.errors} errors in {load.requests:.0f} requests")
    return WorkersSample(
        number,
        one.proxy,
        one.workers,
        share,
        load.requests,
        seconds,
        load.errors,
        spent / 1000 / load.requests,
        (ours - spent) / 1000 / load.requests,
        used / 1e9 / seconds,
        load.p99_ms,
        max(0.0, (cpu.machine_ns() - machine - ours) / 1e9 / elapsed),
    )


def _place(quotas: Quotas, one: Running, share: float) -> None:
    """Limit each worker on a CPU of its own, or let all of them run anywhere at full speed."""
    cores = sorted(os.sched_getaffinity(0))
    quotas.lift()
    for number, pid in enumerate(one.serving):
        os.sched_setaffinity(pid, {cores[number % len(cores)]} if share else cores)
        if share:
            quotas.limit(pid, share)


def _own_ns() -> int:
    """CPU of this process, of all it started, and of what has ended: the load generator."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu.cpu_ns(cpu.tree(os.getpid())) + int((ended.ru_utime + ended.ru_stime) * 1e9)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _everywhere() -> str:
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))


if __name__ == "__main__":
    raise SystemExit(main())
