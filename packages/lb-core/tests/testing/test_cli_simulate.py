"""`lb simulate` with lb-core alone: what it prints, what it refuses, and the status it ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lb_core.cli import status_of

OWN = """
from lb_core import Backend, hookimpl

class Last:
    @hookimpl
    def select_backend(self, candidates):
        return candidates[-1]

class Broken:
    @hookimpl
    def select_backend(self, candidates):
        return candidates[len(candidates)]

class Stranger:
    @hookimpl
    def select_backend(self, candidates):
        return Backend("stranger", "192.0.2.1", 80)
"""

LINE = '{{"time":"2025-01-31T12:00:{second:06.3f}Z","duration":0.050,"client":"192.0.2.{number}","backend":"web1"}}\n'
QUICK = ("--strategies", "least_connections", "--requests", "300")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test works in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Told:
    """A command that has ended."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *args: str) -> None:
        capsys.readouterr()
        self.status = status_of(["simulate", *args])
        captured = capsys.readouterr()
        self.out, self.err = captured.out, captured.err

    @property
    def data(self) -> Any:
        """Its output, read as JSON."""
        return json.loads(self.out)


def test_a_table_with_what_was_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, *QUICK, "--slow", "1.5x:1")
    assert told.status == 0
    caption, *table = [line for line in told.out.splitlines() if line.strip()]
    assert caption == (
        "4 backends of 8 slots, b1 1.5x slower, load 70%, service lognormal(50ms, 1), 300 requests, seed 1"
    )
    assert " ".join(table[0].split()) == "STRATEGY p50 p95 p99 MAX IMBALANCE ERRORS PICK REQUESTS TO EACH"
    assert table[2].startswith(" least_connections ")
    assert len(table[2].split("%")) == 6


def test_json_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    args = (*QUICK, "--json", "--fail", "0:refused:20%:1s-2s", "--weight", "b1:3", "--max-connections", "9")
    told = Told(capsys, *args)
    assert told.status == 0
    scenario, (result,) = told.data["scenario"], told.data["results"]
    assert scenario["faults"] == {
        "0": {"kind": "refused", "probability": 0.2, "after": 0.001, "start": 1.0, "end": 2.0}
    }
    assert (scenario["weights"], scenario["max_connections"], scenario["load"]) == ({"1": 3}, 9, 0.7)
    assert result["strategy"] == "least_connections"
    assert result["requests"] == 300
    assert 0 < result["p50"] < result["p95"] < result["p99"] <= result["max"]
    (again,) = Told(capsys, *args).data["results"]
    assert {**again, "pick_ns": 0} == {**result, "pick_ns": 0}


def test_strategies_of_this_directory_and_with_options(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "own_strategies.py").write_text(OWN)
    names = "{name: least_connections}, own_strategies:Last"
    told = Told(capsys, "--strategies", names, "--requests", "200", "--json", "--load", "0.1")
    assert [each["strategy"] for each in told.data["results"]] == ["least_connections", "own_strategies:Last"]
    assert told.data["results"][1]["shares"]["b3"] == 1.0


def test_without_names_the_usual_ones_that_are_installed(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, "--requests", "50", "--json")
    assert "least_connections" in [each["strategy"] for each in told.data["results"]]


def test_a_plot(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    told = Told(capsys, *QUICK, "--plot", "out.svg")
    assert told.status == 0
    assert told.out.endswith("wrote out.svg\n")
    svg = ElementTree.parse(here / "out.svg").getroot()
    assert "least_connections" in "".join(svg.itertext())
    (here / "out.svg").unlink()
    assert Told(capsys, *QUICK, "--plot", "out.svg", "--json").data["results"]
    assert (here / "out.svg").exists()
    told = Told(capsys, *QUICK, "--plot", "missing/out.svg")
    assert told.status == 1
    assert "missing/out.svg cannot be written: No such file or directory" in told.err


def test_clients_that_wait(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, *QUICK, "--clients", "3", "--think", "10ms", "--service", "40ms")
    assert told.out.splitlines()[0].endswith("3 clients pausing 10ms, service 40ms, 300 requests, seed 1")
    assert Told(capsys, *QUICK, "--json", "--clients", "1").data["scenario"]["load"] is None


def test_a_load_that_cannot_be_served_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, "--strategies", "least_connections", "--requests", "3000", "--load", "2")
    assert "least_connections (growing)" in told.out
    assert "a longer run shows longer times" in told.out


def test_many_backends_show_the_range_of_their_shares(capsys: pytest.CaptureFixture[str]) -> None:
    assert "% to " in Told(capsys, *QUICK, "--backends", "30").out


def test_faults_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    faults = ("--fail", "0", "--fail", "1:reset:50%", "--fail", "2:refused:-10s", "--fail", "3:5s-")
    caption = Told(capsys, *QUICK, *faults, "--no-ejection", "--weight", "3:2").out.splitlines()[0]
    assert (
        "b3 weight 2, b0 answers 503, b1 resets connections to 50%, b2 refuses connections until 10s, "
        "b3 answers 503 from 5s, no ejection" in caption
    )


def test_a_log_is_replayed_at_its_own_pace_or_another(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "access.json").write_text("".join(LINE.format(second=n / 10, number=n) for n in range(100)) + "broken\n")
    args = ("--strategies", "least_connections", "--log", "access.json")
    told = Told(capsys, *args)
    assert told.status == 0
    assert "access.json:101: neither a JSON object nor the Common Log Format; skipped" in told.err
    assert "100 requests of access.json, load 1.6%" in told.out
    faster = Told(capsys, *args, "--load", "0.9", "--slots", "1", "--json")
    assert faster.data["scenario"]["load"] == pytest.approx(0.9)
    assert faster.data["results"][0]["seconds"] == pytest.approx(100 * 0.05 / 4 / 0.9, rel=0.1)
    assert Told(capsys, *args, "--requests", "10", "--json").data["results"][0]["requests"] == 10


def test_a_log_that_holds_nothing(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "bad.log").write_text("what\n" * 15 + '{"time":"2025-01-31T12:00:00Z","duration":0,"backend":""}\n')
    told = Told(capsys, *QUICK, "--log", "bad.log")
    assert told.status == 1
    assert "bad.log:10: " in told.err
    assert "bad.log:11: " not in told.err
    assert "bad.log: 5 more lines skipped" in told.err
    assert "1 request was answered without a backend" in told.err
    assert "bad.log holds no request that can be replayed" in told.err
    (here / "torn.gz").write_bytes(b"\x1f\x8b")
    assert Told(capsys, *QUICK, "--log", "torn.gz").status == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--strategies", "least_conections,p3c"), 'unknown strategy "least_conections" (did you mean'),
        (("--strategies", "least_conections,p3c"), 'unknown strategy "p3c"'),
        (("--strategies", "missing:Thing"), "cannot be imported"),
        (("--strategies", "{name: least_connections, decay: 5s}"), 'unknown key "decay"'),
        (("--strategies", "{name: [}"), "is no mapping"),
        (("--backends", "0"), "backends is 0: give a number from 1"),
        (("--backends", "many"), "is not a valid integer"),
        (("--slow", "fast"), "write 3x:1"),
        (("--slow", "3x:one"), "'one' is no backend: write its number"),
        (("--slow", "3x:7"), "slow: there is no backend 7; there are b0 to b3"),
        (("--weight", "1"), "write 1:3"),
        (("--weight", "1:many"), "write 1:3"),
        (("--fail", "1:often"), '"often" is not a share'),
        (("--fail", "1:20"), "write 20%"),
        (("--fail", "1:5s-2s"), "a start before its end"),
        (("--load", "70"), "such as 0.7"),
        (("--service", "lognornal(50ms)"), "did you mean lognormal?"),
        (("--timeout", "5"), "needs a unit"),
        (("--log", "missing.json"), "does not exist"),
    ],
)
def test_wrong_input_is_status_2_and_says_what_to_write(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    told = Told(capsys, *args)
    assert told.status == 2
    assert message in told.err
    assert not told.out


def test_a_log_and_clients_exclude_each_other(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "access.json").write_text(LINE.format(second=1, number=1))
    assert Told(capsys, *QUICK, "--log", "access.json", "--clients", "3").status == 2
    told = Told(capsys, *QUICK, "--log", "access.json", "--load", "0.5")
    assert told.status == 2
    assert "came at once" in told.err


def test_a_strategy_that_raises_is_named(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "raising_strategies.py").write_text(OWN)
    told = Told(capsys, "--strategies", "raising_strategies:Broken", "--requests", "10")
    assert told.status == 1
    assert "raising_strategies:Broken failed: IndexError: tuple index out of range" in told.err
    assert "Traceback" not in told.err
    told = Told(capsys, "--strategies", "raising_strategies:Stranger", "--requests", "10")
    assert told.status == 1
    assert "select_backend chose <Backend stranger" in told.err
