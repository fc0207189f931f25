"""`lb simulate` as its users meet it: a process, every installed strategy, a log that a balancer has just written."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb_core.plugins import Plugins
from lb_core.testing import Fault, simulate
from tests.integration.lb_process import backend, free_port, get, lb
from tests.support.repository import ROOT

LOAD: dict[str, Any] = {"service": "exponential(50ms)", "requests": 20_000}


def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lb_core.cli", "simulate", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def figures(*args: str, cwd: Path | None = None) -> dict[str, Any]:
    done = run("--json", *args, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return {each["strategy"]: each for each in json.loads(done.stdout)["results"]}


def test_every_installed_strategy_can_be_simulated_and_gives_the_same_figures_again() -> None:
    names = sorted({declared.name for declared in Plugins.discover().strategies.values()})
    assert {"round_robin", "least_connections", "p2c", "ewma", "consistent_hash"} <= set(names)
    args = ("--strategies", ",".join(names), "--requests", "1000", "--slow", "2x:1")
    one, two = figures(*args), figures(*args)
    assert sorted(one) == names
    for name, each in one.items():
        assert each["errors"] == 0
        assert 0 < each["p50"] < each["p99"]
        assert {**each, "pick_ns": 0} == {**two[name], "pick_ns": 0}


def test_a_strategy_in_this_directory_beside_an_installed_one() -> None:
    found = figures(
        "--strategies",
        "lb_power_of_two:PowerOfTwo,round_robin",
        "--requests",
        "2000",
        "--slow",
        "3x:0",
        cwd=ROOT / "examples" / "first_plugin",
    )
    assert found["lb_power_of_two:PowerOfTwo"]["p99"] < found["round_robin"]["p99"] / 3


def test_the_log_of_a_balancer_is_replayed(tmp_path: Path) -> None:
    log, port = tmp_path / "access.json", free_port()
    with backend("a", latency_ms=20) as a:
        (tmp_path / "lb.yaml").write_text(
            f'listeners: {{web: "127.0.0.1:{port}"}}\n'
            f"access_log: {{format: json, file: {log}}}\n"
            f'routes: {{"*": ["{a.address}"]}}\n'
        )
        with lb("run", "-c", str(tmp_path / "lb.yaml")) as running:
            running.wait_for("Ctrl+C")
            for number in range(20):
                assert get(port, f"/{number}")[0] == 200
            running.signal(signal.SIGTERM)
            assert running.wait() == 0
    durations = [json.loads(line)["duration"] for line in log.read_text().splitlines()]
    assert len(durations) == 20
    found = figures("--strategies", "round_robin", "--log", str(log), "--backends", "1")
    assert found["round_robin"]["requests"] == len(durations)
    assert min(durations) <= found["round_robin"]["p50"] < 0.2  # those of the log, and what waiting adds


def test_progress_is_shown_where_somebody_looks() -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "lb_core.cli", "simulate", "--strategies", "round_robin", "--requests", "20000"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, timeout=60, check=True, text=True)
    os.close(follower)
    shown = os.read(leader, 65536).decode(errors="replace")
    os.close(leader)
    assert "1/1 round_robin" in shown
    assert "round_robin" in done.stdout
    assert "1/1" not in done.stdout


# what the choice of the default strategy rests on


@pytest.fixture
def untraced() -> Iterator[None]:
    """Without coverage, which takes seven times as long and has seen these lines elsewhere."""
    before = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(before)


@pytest.mark.usefixtures("untraced")
def test_with_one_backend_slower_round_robin_s_tail_is_twice_the_others() -> None:
    load = {**LOAD, "slow": {0: 1.5}}
    p99 = {name: simulate(name, **load).p99 for name in ("round_robin", "least_connections", "p2c", "ewma")}
    assert 0.35 < p99.pop("round_robin") < 1.0
    assert all(0.24 < each < 0.28 for each in p99.values()), p99


@pytest.mark.usefixtures("untraced")
def test_with_one_three_times_slower_round_robin_diverges_and_the_others_stay_under_400_ms() -> None:
    load = {**LOAD, "slow": {0: 3}}
    results = {name: simulate(name, **load) for name in ("round_robin", "least_connections", "p2c", "ewma")}
    stuck = results.pop("round_robin")
    assert stuck.diverges
    assert all(each.p99 < 0.4 and each.p99 < stuck.p99 / 3 and not each.diverges for each in results.values())


@pytest.mark.usefixtures("untraced")
def test_a_backend_that_fails_in_1_ms_draws_the_traffic_unless_it_is_ejected() -> None:
    load = {**LOAD, "faults": {0: Fault()}, "slots": 4}
    assert simulate("least_connections", **load, ejection=False).shares["b0"] == pytest.approx(0.69, abs=0.03)
    for name in ("least_connections", "p2c", "ewma"):
        assert simulate(name, **load).shares["b0"] < 0.001
