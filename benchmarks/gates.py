"""The figures lb promises, as ratios of CPU per request inside one run. docs/performance.md explains them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """On a workload, `peer` may cost at most `limit` times what `against` costs; `goal` is where we want to be."""

    workload: str
    peer: str
    against: str
    goal: float
    limit: float


GATES = (
    Gate("get", "lb", "nginx", 1.0, 1.35),
    Gate("get", "lb-full", "nginx", 1.25, 1.6),
    Gate("get16k", "lb", "nginx", 0.7, 1.0),
    Gate("chunked16k", "lb", "nginx", 0.7, 1.0),
    Gate("post1k", "lb", "nginx", 1.0, 1.25),
    Gate("post16k", "lb", "nginx", 1.0, 1.25),
    Gate("get1m", "lb", "nginx", 0.35, 1.0),
    Gate("get100m", "lb", "nginx", 0.35, 1.0),
    Gate("post1m", "lb", "nginx", 0.35, 1.0),
    Gate("close", "lb", "nginx", 1.3, 2.0),
    # Large bodies aside, where the kernel does most of the work of all of them.
    *(
        Gate(workload, "lb", "caddy", 0.33, 0.5)
        for workload in ("get", "get16k", "chunked16k", "post1k", "post16k", "close")
    ),
)
