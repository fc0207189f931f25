"""What `make bench-workers` sets, sees and concludes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import cpu
from benchmarks.backends import Backends
from benchmarks.held import held
from benchmarks.peers import nginx_command
from benchmarks.processes import Failed, Processes
from benchmarks.quota import CGROUPS, PERIOD_US, Quotas
from benchmarks.workers_report import Kept, WorkersSample, gains, unsaturated, workers_table, workers_verdicts


def sample(
    number: int, workers: int, rate: float, *, proxy: str = "lb", cost: float = 20.0, used: float = 0.3
) -> WorkersSample:
    return WorkersSample(number, proxy, workers, 0.3, rate, 1.0, 0, cost, 10.0, used, 5.0, 0.0)


def test_a_gain_is_taken_inside_its_round() -> None:
    drifting = [sample(0, 1, 100), sample(0, 2, 190), sample(1, 1, 200), sample(1, 2, 380)]
    serves, costs = gains(drifting, "lb", 2, limited=True)
    assert serves.median == pytest.approx(1.9)
    assert costs.median == 1.0


@pytest.mark.parametrize(("rate", "cost", "passed"), [(190, 20.0, True), (160, 20.0, False), (190, 23.0, False)])
def test_lb_is_judged_and_others_are_not(rate: float, cost: float, passed: bool) -> None:
    lb = [sample(0, 1, 100), sample(0, 2, rate, cost=cost)]
    nginx = [sample(0, 1, 100, proxy="nginx"), sample(0, 2, 110, proxy="nginx", cost=50.0)]
    judged = workers_verdicts([*nginx, *lb], ["nginx", "lb"], 2)
    assert all(one for one, line in judged if "nginx" in line)
    assert all(one for one, line in judged if "lb" in line) is passed


def test_workers_that_waited_for_the_load_prove_nothing() -> None:
    assert unsaturated([sample(0, 1, 100), sample(0, 2, 190)]) == []
    (told,) = unsaturated([sample(0, 1, 100), sample(0, 2, 190, used=0.2)])
    assert "lb with 2 workers used 67%" in told


def test_the_table_says_what_the_machine_could_have_served() -> None:
    kept = {("lb", 1): Kept(40.0, (1000,)), ("lb", 2): Kept(80.0, (600, 400))}
    text = workers_table([sample(0, 1, 10_000), sample(0, 2, 20_000)], kept, 2)
    one, two = text.splitlines()[2:]
    assert " 15% " in one  # 10,000 a second at 30 us on two CPUs
    assert " 30% " in two
    assert two.rstrip().endswith("1.20 |")


def test_connections_are_counted_where_they_were_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            f"import socket,time; s=[socket.create_connection(('127.0.0.1',{port})) for _ in range(3)]; time.sleep(30)"
        )
        with subprocess.Popen([sys.executable, "-c", code]) as client:
            accepted = [server.accept()[0] for _ in range(3)]
            try:
                assert held([os.getpid(), client.pid], port) == {os.getpid(): 3}
            finally:
                client.kill()
                for each in accepted:
                    each.close()


@pytest.mark.parametrize("unified", [True, False])
def test_a_share_is_written_as_the_kernel_wants_it(tmp_path: Path, unified: bool) -> None:
    root = tmp_path if unified else tmp_path / "cpu"
    if unified:
        (tmp_path / "cgroup.controllers").write_text("cpu")
    else:
        root.mkdir()
    quotas = Quotas(tmp_path)
    quotas.limit(123, 0.25)
    group = root / "lb-bench-123"
    assert (group / "cgroup.procs").read_text() == "123"
    name = "cpu.max" if unified else "cpu.cfs_quota_us"
    assert (group / name).read_text().split()[0] == str(PERIOD_US // 4)
    quotas.lift()
    assert (group / name).read_text().split()[0] == ("max" if unified else "-1")


def test_what_may_not_be_set_is_told_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="--share 0"):
        Quotas(tmp_path / "nothing").limit(123, 0.5)


@pytest.mark.timed
@pytest.mark.skipif(
    not os.access(CGROUPS / "cpu", os.W_OK) and not os.access(CGROUPS / "cgroup.procs", os.W_OK),
    reason="the control groups of this machine may not be changed",
)
def test_a_real_process_gets_no_more_than_its_share() -> None:
    with Quotas() as quotas, subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            quotas.limit(process.pid, 0.2)
            began, before = time.monotonic(), cpu.cpu_ns([process.pid])
            time.sleep(0.5)
            used = (cpu.cpu_ns([process.pid]) - before) / 1e9 / (time.monotonic() - began)
        finally:
            process.kill()
    assert 0.02 < used < 0.3
    assert not list(CGROUPS.glob(f"**/lb-bench-{process.pid}"))


def test_several_workers_of_nginx_have_a_listening_socket_each() -> None:
    with Processes() as processes:
        backends = Backends((1, 2), 3)
        for workers, options in ((1, "backlog=8192;"), (2, "backlog=8192 reuseport;")):
            text = Path(nginx_command(processes, backends, 8000 + workers, workers=workers)[2]).read_text()
            assert f"worker_processes {workers};" in text
            assert f"listen 127.0.0.1:{8000 + workers} {options}" in text
