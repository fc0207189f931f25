"""What several workers serve beside what one serves: ratios inside a round, medians over rounds, and the verdict."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.report import Spread

SERVES_AT_LEAST = 1.7
COSTS_AT_MOST = 1.1
SATURATED = 0.9
"""A worker that used less of its share than this waited for the load: its figure is none."""


@dataclass(frozen=True)
class WorkersSample:
    """One proxy under load in one round.

    `share` is what each worker might use of a CPU, 0 for all of it; `used` is what the least busy worker did use;
    `rest_us` is the CPU of the generator and the backends, `foreign` how many cores other programs kept busy.
    """

    round: int
    proxy: str
    workers: int
    share: float
    requests: float
    seconds: float
    errors: int
    cpu_us: float
    rest_us: float
    used: float
    p99_ms: float
    foreign: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@dataclass(frozen=True)
class Kept:
    """What a proxy holds: memory of its processes in MB, and connections of each serving process."""

    memory_mb: float
    connections: tuple[int, ...]

    @property
    def uneven(self) -> float:
        """The most connections of a process beside the mean."""
        return max(self.connections) * len(self.connections) / sum(self.connections)


def gains(samples: list[WorkersSample], proxy: str, workers: int, *, limited: bool) -> tuple[Spread, Spread]:
    """Requests a second and CPU per request of so many workers, beside one worker of the same round."""
    own = {(s.round, s.workers): s for s in samples if s.proxy == proxy and bool(s.share) == limited}
    pairs = [(own[number, 1], own[number, workers]) for number, count in own if count == workers]
    return (
        Spread.of([several.rate / one.rate for one, several in pairs]),
        Spread.of([several.cpu_us / one.cpu_us for one, several in pairs]),
    )


def unsaturated(samples: list[WorkersSample]) -> list[str]:
    """The proxies whose workers did not use up their share in the median, and so prove nothing."""
    found = []
    for proxy, workers in dict.fromkeys((s.proxy, s.workers) for s in samples if s.share):
        own = [s for s in samples if (s.proxy, s.workers) == (proxy, workers) and s.share]
        used = statistics.median(s.used / s.share for s in own)
        if used < SATURATED:
            found.append(f"{proxy} with {workers} workers used {used:.0%} of their share")
    return found


def workers_table(samples: list[WorkersSample], kept: dict[tuple[str, int], Kept], cores: int) -> str:
    """The table as it goes onto the terminal and into the documentation."""
    lines = [
        "| each worker may use | proxy | workers | requests/s | CPU us a request | p99 ms"
        " | of what the CPUs could serve | memory MB | connections, most to mean |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    last = ""
    for share, proxy, workers in sorted(
        {(s.share, s.proxy, s.workers) for s in samples}, key=lambda key: (-key[0], key[1] != "nginx", *key[1:])
    ):
        own = [s for s in samples if (s.share, s.proxy, s.workers) == (share, proxy, workers)]
        about = f"{share:.0%} of a CPU" if share else "what it gets"
        cost = Spread.of([s.cpu_us for s in own])
        holds = kept[proxy, workers]
        reach = statistics.median(s.rate * (s.cpu_us + s.rest_us) / 1e6 / cores for s in own)
        lines.append(
            f"| {about if about != last else '':<12} | {proxy:<5} | {workers} |"
            f" {statistics.median(s.rate for s in own):,.0f} | {cost.median:.1f} ({cost.low:.1f}-{cost.high:.1f}) |"
            f" {statistics.median(s.p99_ms for s in own):.1f} | {reach:.0%} | {holds.memory_mb:.0f} |"
            f" {holds.uneven:.2f} |"
        )
        last = about
    return "\n".join(lines)


def workers_verdicts(samples: list[WorkersSample], proxies: list[str], workers: int) -> list[tuple[bool, str]]:
    """Whether lb keeps what it promises, and what the others do, each as (passed, a line)."""
    lines = []
    limited = any(s.share for s in samples)
    for proxy in proxies:
        serves, costs = gains(samples, proxy, workers, limited=limited)
        judged = proxy == "lb" and limited
        lines += [
            _line(judged, serves.median >= SERVES_AT_LEAST, proxy, f"{workers} workers serve", serves, "at least 1.70"),
            _line(judged, costs.median <= COSTS_AT_MOST, proxy, "a request costs", costs, "at most 1.10"),
        ]
    return lines


def _line(judged: bool, passed: bool, proxy: str, what: str, ratio: Spread, wanted: str) -> tuple[bool, str]:
    word = ("pass" if passed else "FAIL") if judged else "    "
    goal = f", {wanted}" if judged else ""
    text = f"{word}  {proxy:<5} {what:<16} {ratio.median:.2f} times one's ({ratio.low:.2f}-{ratio.high:.2f}{goal})"
    return passed or not judged, text
