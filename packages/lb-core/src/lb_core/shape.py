"""What a process is from its start to its end: alone or one of several, in a cluster or in none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core.sections import Config


def shape_of(config: Config) -> tuple[bool, bool]:
    """Whether a configuration asks for several processes, and for several nodes."""
    return config.workers != 1, config.section("cluster") is not None


def changes_of(now: tuple[bool, bool] | None, config: Config) -> str:
    """What a configuration wants that a process of this shape cannot become; empty where there is nothing."""
    workers, cluster = shape_of(config)
    several, clustered = now or (workers, cluster)
    changes = []
    if workers != several:
        have = "workers carry the traffic" if several else "one process does everything"
        changes.append(f"the file says `workers: {config.workers}`, and here {have}")
    if cluster != clustered:
        changes.append(
            "the file has a `cluster`, and this node is in none"
            if cluster
            else "the file has no `cluster`, and this node is in one"
        )
    return "; ".join(changes)
