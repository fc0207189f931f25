"""What the model says, as tables: each is computed from a seed, the costs, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

from benchmarks.cluster.accuracy import LIMIT, NODES, SHAPES, WINDOW, Error, case, each_window, error, percent
from benchmarks.cluster.facts import facts_at_half, failures, most_facts, spread
from benchmarks.cluster.leader import ENDINGS, changes, quantile
from benchmarks.cluster.load import BUSY, Fleet, KeyCurve, Load, load
from benchmarks.cluster.storm import storm
from benchmarks.cluster.traffic import Traffic
from lb_redis.roster import PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.cluster.costs import Costs

KEYS = 10_000_000
PER_NODE = 1000.0
"""Requests a second at one node."""
MEGA = 1e6
TABLES = (
    "limits",
    "sizes",
    "windows",
    "times",
    "redis",
    "skews",
    "facts",
    "membership",
    "leader",
    "storms",
    "costs",
)


@dataclass(frozen=True)
class Table:
    """Rows under a header; `name` is that of its section on the page."""

    name: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def __str__(self) -> str:
        align = ["---", *["--:"] * (len(self.header) - 1)]
        lines = [self.header, tuple(align), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass
class Model:
    """The tables, and what the drawings need of them. `scale` below 1 leaves out the large cases, for a quick look."""

    costs: Costs
    seed: int = 1
    most: int = 1000
    progress: Callable[[str], None] = lambda _: None
    errors: dict[int, dict[str, Error]] = field(default_factory=dict)
    curves: dict[int, KeyCurve] = field(default_factory=dict)

    @property
    def nodes(self) -> list[int]:
        """The numbers of nodes that are looked at."""
        return [count for count in NODES if count <= self.most]

    def tables(self) -> list[Table]:
        """All of them."""
        return [
            self.limits(),
            self.sizes(),
            self.spread_of_errors(),
            self.times(),
            self.redis(),
            self.skews(),
            self.facts(),
            self.membership(),
            self.leader(),
            self.storms(),
            self.measured(),
        ]

    # limits

    def limits(self) -> Table:
        """The error by the number of nodes."""
        for nodes in self.nodes:
            self.progress(f"limits of {nodes} nodes")
            self.errors[nodes] = {shape: error(case(shape, nodes), self.seed) for shape in SHAPES}
        rows = [(f"{nodes:,}", *(str(found[shape]) for shape in SHAPES)) for nodes, found in self.errors.items()]
        return Table("limits", ("nodes", *SHAPES), rows)

    def sizes(self) -> Table:
        """The error by the size of the limit, at a hundred nodes."""
        nodes, rows = min(100, self.most), []
        for each in (1, 3, 10, 30, 100):
            limit = each * nodes
            self.progress(f"a limit of {limit:,}")
            found = [error(case(shape, nodes, limit), self.seed, 1) for shape in SHAPES]
            rows.append((f"{each}", f"{limit:,}", *map(str, found)))
        return Table("sizes", ("requests a node", "limit", *SHAPES), rows)

    def spread_of_errors(self) -> Table:
        """How the error of a window is distributed."""
        rows = []
        for nodes in self.nodes[:4]:
            self.progress(f"windows of {nodes} nodes")
            for shape in ("even", "uneven"):
                values = each_window(case(shape, nodes), range(self.seed, self.seed + 6))
                middle = [values[min(len(values) - 1, int(part * len(values)))] for part in (0.0, 0.05, 0.5, 0.95, 1.0)]
                rows.append((f"{nodes}, {shape}", *map(percent, middle)))
        return Table("windows", ("nodes, traffic", "least", "5 %", "median", "95 %", "most"), rows)

    def times(self) -> Table:
        """The error by the exchange's interval, and by latency."""
        nodes = min(100, self.most)
        base = {shape: case(shape, nodes, 10 * nodes) for shape in SHAPES}
        rows: list[tuple[str, ...]] = []
        for interval in (0.02, 0.05, 0.1, 0.2, 0.5):
            self.progress(f"exchanges every {interval * 1000:g} ms")
            found = [error(replace(one, interval=interval), self.seed, 1) for one in base.values()]
            rows.append((f"every {interval * 1000:g} ms, 0.5 ms away", *map(str, found)))
        for latency in (0.002, 0.005, 0.01, 0.02):
            self.progress(f"Redis {latency * 1000:g} ms away")
            found = [error(replace(one, latency=latency), self.seed, 1) for one in base.values()]
            rows.append((f"every 50 ms, {latency * 1000:g} ms away", *map(str, found)))
        return Table("times", ("exchange", *SHAPES), rows)

    # Redis

    def curve(self, nodes: int) -> KeyCurve:
        """How often keys are said among so many nodes, simulated once."""
        if nodes not in self.curves:
            self.curves[nodes] = KeyCurve(Fleet(nodes), self.seed, self.progress)
        return self.curves[nodes]

    def load(self, nodes: int, *, per_node: float = PER_NODE, skew: float = 1.0, keys: int = KEYS) -> Load:
        """What Redis bears under so much traffic."""
        return load(Traffic(keys, nodes * per_node, skew), Fleet(nodes), self.curve(nodes), self.costs)

    def redis(self) -> Table:
        """The load of Redis by the number of nodes."""
        header = (
            "nodes",
            "requests/s",
            "calls/s",
            "keys said/s",
            "MB/s in",
            "MB/s out",
            "memory MB",
            "cores",
            "Redis processes",
        )
        rows = []
        for nodes in self.nodes:
            found = self.load(nodes)
            rows.append((f"{nodes:,}", f"{nodes * PER_NODE:,.0f}", *_load_cells(found)))
        return Table("redis", header, rows)

    def skews(self) -> Table:
        """The load of Redis by how the requests are spread over the keys."""
        nodes = self.nodes[-1]
        rows = []
        for skew in (0.6, 0.8, 1.0, 1.2):
            for keys in (100_000, KEYS):
                found = self.load(nodes, skew=skew, keys=keys)
                first = Traffic(keys, nodes * PER_NODE, skew).part(1)
                rows.append((f"{keys:,}, {skew:g}", f"{first:.2%}".replace("%", " %"), *_load_cells(found)))
        header = (
            "keys, exponent",
            "the most active",
            "calls/s",
            "keys said/s",
            "MB/s in",
            "MB/s out",
            "memory MB",
            "cores",
            "Redis processes",
        )
        return Table("skews", header, rows)

    # facts, nodes, leader

    def facts(self) -> Table:
        """How a failing backend becomes known."""
        rows = []
        for nodes in (*self.nodes, *((3000, 10_000) if self.most >= 1000 else ())):
            for requests in (1.0, 100.0):
                told = spread(failures(Random(self.seed), nodes, requests), self.costs, 0.0005)
                rows.append(
                    (
                        f"{nodes:,}, {requests:g}/s",
                        f"{told.publishers:,}",
                        f"{told.everywhere * 1000:,.0f} ms",
                        f"{told.redis_seconds * 1000:,.0f} ms",
                        f"{told.bytes / MEGA:,.1f}",
                    )
                )
        return Table("facts", ("nodes, requests to it", "tell it", "known by all after", "Redis' CPU", "MB sent"), rows)

    def membership(self) -> Table:
        """What the nodes' own words cost, and how many facts go through."""
        rows = []
        for nodes in (*self.nodes, *((3000, 10_000) if self.most >= 1000 else ())):
            listed = nodes * min(nodes, PER_SECOND)
            cpu = nodes * self.costs.beat + listed * self.costs.listed
            rows.append(
                (
                    f"{nodes:,}",
                    f"{nodes:,}",
                    f"{cpu:.1%}".replace("%", " %"),
                    f"{listed * self.costs.listed_bytes / MEGA:,.1f}",
                    f"{max(1.0, nodes / PER_SECOND):g} s",
                    f"{facts_at_half(nodes, self.costs):,.0f}",
                    f"{most_facts(nodes, self.costs):,.0f}",
                )
            )
        header = (
            "nodes",
            "beats/s",
            "of a core",
            "MB/s out",
            "lists are as old as",
            "facts/s, half a core",
            "facts/s at most",
        )
        return Table("membership", header, rows)

    def leader(self) -> Table:
        """How long nobody leads."""
        rows = []
        for nodes in dict.fromkeys((self.nodes[0], self.nodes[-1])):
            self.progress(f"leaders of {nodes} nodes")
            for ending in ENDINGS:
                found = changes(Random(self.seed), nodes, ending, times=300)
                cells = [f"{quantile(found.nobody, part):.1f} s" for part in (0.05, 0.5, 0.95, 1.0)]
                rows.append((f"{nodes:,}, {ending}", *cells, f"{quantile(found.two, 1.0):.1f} s"))
        return Table(
            "leader", ("nodes, the leader is", "5 %", "median", "95 %", "longest", "two at once, longest"), rows
        )

    def storms(self) -> Table:
        """What happens when Redis comes back empty."""
        rows = []
        for nodes in self.nodes:
            keys = 2 * Traffic(KEYS, PER_NODE).distinct(PER_NODE * WINDOW)
            needed = self.load(nodes)
            for processes in dict.fromkeys((1, needed.processes)):
                found = storm(
                    Random(self.seed), nodes, keys / processes, self.costs, steady=min(0.9, needed.cpu / processes)
                )
                rows.append(
                    (
                        f"{nodes:,}, {processes}",
                        f"{nodes * keys / MEGA:,.2f}",
                        f"{found.connected:.1f} s",
                        f"{found.said_again:.1f} s" if found.said_again < 120 else "minutes",
                        f"{found.queue * 1000:,.0f} ms",
                    )
                )
        header = ("nodes, Redis processes", "million keys said again", "all connected", "all said", "longest queue")
        return Table("storms", header, rows)

    def measured(self) -> Table:
        """The costs that all of it is counted with."""
        costs = self.costs
        rows = [
            ("a pipeline, read and answered", _us(costs.pipeline), ""),
            (
                "one call of the exchange's script",
                _us(costs.call),
                f"{costs.call_bytes_in:.0f} in, {costs.call_bytes_out:.0f} out",
            ),
            ("each key in it", _us(costs.key), f"{costs.key_bytes_in:.0f} in, {costs.key_bytes_out:.0f} out"),
            ("a key of a window, kept", "", f"{costs.memory_key:.0f} of memory"),
            ("a fact published", _us(costs.publish), ""),
            ("writing to one subscriber", _us(costs.write), ""),
            ("a fact for one subscriber", _us(costs.copy), f"{costs.fact_bytes:.0f} out"),
            ("a beat of a node", _us(costs.beat), ""),
            ("a node in the list of all", _us(costs.listed), f"{costs.listed_bytes:.0f} out"),
            ("a connection, greeted and subscribed", _us(costs.join), ""),
        ]
        return Table("costs", ("what", "Redis' CPU, us", "bytes"), rows)


def _load_cells(found: Load) -> tuple[str, ...]:
    return (
        f"{found.calls:,.0f}",
        f"{found.keys:,.0f}",
        f"{found.bytes_in / MEGA:,.1f}",
        f"{found.bytes_out / MEGA:,.1f}",
        f"{found.memory / MEGA:,.0f}",
        f"{found.cpu:.2f}",
        f"{found.processes}" if found.holds else f"more than {found.processes}",
    )


def _us(seconds: float) -> str:
    return f"{seconds * MEGA:.2f}" if seconds < 10e-6 else f"{seconds * MEGA:.0f}"


__all__ = ["BUSY", "KEYS", "LIMIT", "PER_NODE", "Model", "Table"]
