"""What things cost a real Redis: the figures the model counts with, each measured by `make simulate-cluster ARGS=--measure`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Seconds of the CPU of Redis' one thread, and bytes."""

    write: float = 8.0e-6
    """One call that writes to one subscriber."""
    copy: float = 0.45e-6
    """A published message into one subscriber's buffer."""
    publish: float = 2.0e-6
    """Reading a PUBLISH."""
    fact_bytes: float = 260.0
    """A fact on its way to one node."""
