"""From samples to a table: medians, quartiles, and ratios taken inside a round.

Absolute figures drift by 40 % within minutes on a shared machine. Peers of one round are measured within seconds of
each other, so the ratio of a round holds, and the median over rounds is what is quoted.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gates import GATES, Gate

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


@dataclass(frozen=True)
class Sample:
    """One workload at one peer in one round; `foreign` is how many cores other programs kept busy meanwhile."""

    round: int
    workload: str
    peer: str
    cpu_us: float
    requests: float
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float
    foreign: float


@dataclass(frozen=True)
class Spread:
    """A median between its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Summarise at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    workload: str
    peer: str
    cpu_us: Spread
    ratio: Spread
    rate: float
    p99_ms: float
    errors: int


@dataclass(frozen=True)
class Verdict:
    """A gate and the ratio that was measured for it."""

    gate: Gate
    ratio: float

    @property
    def passed(self) -> bool:
        """Whether the limit holds."""
        return self.ratio <= self.gate.limit

    def __str__(self) -> str:
        gate = self.gate
        word = "goal" if self.ratio <= gate.goal else "pass" if self.passed else "FAIL"
        return (
            f"{word}  {gate.workload:<11} {gate.peer:<8} {self.ratio:5.2f} x {gate.against:<6}"
            f" (goal {gate.goal:.2f}, at most {gate.limit:.2f})"
        )


def ratios(samples: Iterable[Sample], workload: str, peer: str, against: str) -> list[float]:
    """The ratio of two peers' CPU per request, one a round."""
    cost = {(sample.round, sample.peer): sample.cpu_us for sample in samples if sample.workload == workload}
    rounds = sorted({number for number, name in cost if name == peer})
    return [cost[number, peer] / cost[number, against] for number in rounds if (number, against) in cost]


def rows(samples: list[Sample], reference: str) -> list[Row]:
    """The table, workloads and peers in the order they were measured first."""
    table = []
    for workload, peer in dict.fromkeys((sample.workload, sample.peer) for sample in samples):
        own = [sample for sample in samples if (sample.workload, sample.peer) == (workload, peer)]
        compared = ratios(samples, workload, peer, reference)
        table.append(
            Row(
                workload,
                peer,
                Spread.of([sample.cpu_us for sample in own]),
                Spread.of(compared or [float("nan")]),
                statistics.median(sample.requests / sample.seconds for sample in own),
                statistics.median(sample.p99_ms for sample in own),
                sum(sample.errors for sample in own),
            )
        )
    return sorted(table, key=lambda row: [line.workload for line in table].index(row.workload))


def verdicts(samples: list[Sample]) -> list[Verdict]:
    """Every gate whose workload and peers were measured."""
    found = []
    for gate in GATES:
        measured = ratios(samples, gate.workload, gate.peer, gate.against)
        if measured:
            found.append(Verdict(gate, statistics.median(measured)))
    return found


def markdown(samples: list[Sample], reference: str) -> str:
    """The table as it goes into the documentation and onto the terminal."""
    lines = [
        f"| workload | proxy | CPU us a request | quartiles | ratio to {reference} | quartiles"
        " | requests/s | p99 ms | errors |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    last = ""
    for row in rows(samples, reference):
        cpu, ratio = row.cpu_us, row.ratio
        digits = 1 if cpu.median < 1000 else 0
        lines.append(
            f"| {row.workload if row.workload != last else '':<10} | {row.peer:<7} | {cpu.median:8.{digits}f} |"
            f" {cpu.low:.{digits}f}-{cpu.high:.{digits}f} | {ratio.median:5.2f} | {ratio.low:.2f}-{ratio.high:.2f} |"
            f" {row.rate:.{0 if row.rate > 100 else 1}f} | {row.p99_ms:.1f} | {row.errors} |"
        )
        last = row.workload
    return "\n".join(lines)


def as_json(samples: list[Sample], command: str) -> dict[str, object]:
    """Everything that was measured, for a program."""
    return {
        "command": command,
        "samples": [asdict(sample) for sample in samples],
        "gates": [
            {**asdict(verdict.gate), "ratio": verdict.ratio, "passed": verdict.passed} for verdict in verdicts(samples)
        ],
    }


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` on a page."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, opened, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{page} has no section {begin} … {end}: add the two lines where the result should stand")
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")
