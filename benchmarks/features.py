"""Instructions a request that each feature adds by itself: `make bench-features`.

A feature is compared with the same configuration without it, under callgrind. One that works on the head, or decides
before a backend is chosen, takes a request from the engine's shortest path; that is part of its cost.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.instructions import Config, count
from benchmarks.load import STICKY_SECRET
from benchmarks.peers import lb_config
from benchmarks.processes import Failed
from benchmarks.report import write_section

if TYPE_CHECKING:
    from benchmarks.backends import Backends

LISTENER = 'listeners: {web: {address: "127.0.0.1:%d", limits: {requests: 1000000000, connections: 0}}}'
SECTIONS = {
    "access_log: json": "",
    "trusted_proxies": "",
    "health_check": "health_check: /",
    "match, one rule": "match: [{path_prefix: /never, backends: [%(first)s]}]",
    "strategy: round_robin": "strategy: round_robin",
    "strategy: p2c": "strategy: p2c",
    "strategy: ewma": "strategy: ewma",
    "strategy: ip_hash": "strategy: ip_hash",
    "strategy: consistent_hash, on path": "strategy: {name: consistent_hash, on: path}",
    "rate_limit": "rate_limit: 1000000000/60s",
    "rate_limit, headers: draft": "rate_limit: {requests: 1000000000, window: 60s, headers: draft}",
    "sticky_sessions": f'sticky_sessions: {{secret: "{STICKY_SECRET}"}}',
    "circuit_breaker, threshold": "circuit_breaker: {threshold: 5, timeout: 60s}",
    "circuit_breaker, error_ratio": "circuit_breaker: {error_ratio: 0.5, min_requests: 20, window: 10s}",
    "failover": "failover: backup.example.com",
    "split": "split: [{use: self, weight: 95}, {use: canary, weight: 5}]",
    "mirror, 0.01 %": "mirror: {use: canary, percent: 0.01}",
    "allow_clients": "allow_clients: [127.0.0.0/8]",
    "rewrite": "rewrite: {prefix: /, to: /x/}",
    "edit_headers, request add": "edit_headers: {request: {add: {X-A: b}}}",
    "edit_headers, response add": "edit_headers: {response: {add: {X-A: b}}}",
    "compression, not wanted here": "compression: true",
}
TOPS = {
    "access_log: json": 'access_log: {format: json, file: "%(log)s"}',
    "trusted_proxies": "trusted_proxies: [127.0.0.0/8]",
}


def main() -> int:
    """Count each, print, and write the table if asked."""
    parser = argparse.ArgumentParser(prog="make bench-features", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--only", default="", help="features whose name holds this")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    try:
        rows = _rows(options.requests, options.only)
    except Failed as error:
        print(f"bench-features: {error}", file=sys.stderr)
        return 1
    if options.write:
        today = datetime.now(UTC).date().isoformat()
        table = "\n".join(["| on a route | instructions a request more |", "|---|--:|", *rows])
        write_section("features", f"{today}, `make bench-features`\n\n{table}")
    return 0


def _rows(requests: int, only: str) -> list[str]:
    bare = count(lambda backends, port, _: lb_config(backends, port), requests)
    print(f"nothing                             {bare:8,.0f} instructions a request", flush=True)
    rows = []
    for name in SECTIONS:
        if only in name:
            more = count(_with(name), requests) - bare
            print(f"{name:<35} {more:+8,.0f}", flush=True)
            rows.append(f"| `{name}` | {more:+,.0f} |")
    return rows


def _with(name: str) -> Config:
    section, top = SECTIONS[name], TOPS.get(name, "")

    def config(backends: Backends, port: int, log: Path) -> str:
        first, second = backends.addresses
        words = {"first": f'"{first}"', "log": log}
        return f"""
{LISTENER % port}
{top % words if "access_log" in top else "access_log: off"}
{top if "access_log" not in top else ""}
routes:
  backup.example.com: {{backends: ["{second}"]}}
  "*":
    backends: {{one: "{first}", two: "{second}"}}
    {section % words}
pools:
  canary: {{backends: ["{second}"]}}
"""

    return config


if __name__ == "__main__":
    raise SystemExit(main())
