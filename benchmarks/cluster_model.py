"""A thousand nodes that share limits and facts through Redis, computed: `make simulate-cluster`.

Limits are simulated request by request with the nodes' own rules, facts and leaders event by event, the load of Redis
from what a real one was measured to take. docs/scale.md tells what is left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.cluster.costs import Costs
from benchmarks.cluster.drawings import drawings
from benchmarks.cluster.tables import Model
from benchmarks.processes import Failed
from benchmarks.report import write_section

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "scale.md"


def main() -> int:
    """Compute and print; with --write, put the tables and the drawings into the documentation."""
    options = _options()
    began = time.monotonic()
    try:
        model = Model(_costs(measure=options.measure), seed=options.seed, most=options.nodes, progress=_progress)
        tables = []
        for table in model.tables():
            _progress("")
            print(f"\n{table.name}\n\n{table}", flush=True)
            tables.append(table)
    except Failed as error:
        print(f"simulate-cluster: {error}", file=sys.stderr)
        return 1
    if options.write:
        for table in tables:
            write_section(table.name, str(table), PAGE)
        for name, text in drawings(model).items():
            (DOCS / "images" / name).write_text(text)
    print(f"\n{time.monotonic() - began:.0f} s, seed {options.seed}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate-cluster", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=1000, help="the most nodes to look at")
    parser.add_argument("--measure", action="store_true", help="measure the costs on a redis-server here first")
    parser.add_argument("--write", action="store_true", help="put tables and drawings into docs/scale.md")
    return parser.parse_args()


def _costs(*, measure: bool) -> Costs:
    if not measure:
        return Costs()
    from benchmarks.cluster.measured import measure as measured

    found = measured()
    print(found)
    return found


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
