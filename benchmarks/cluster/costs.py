"""What things cost a real Redis, in seconds of its one thread and in bytes: the figures that the model counts with.

`make simulate-cluster ARGS=--measure` measures them again (measured.py); those that stand here were measured so, with
Redis 7.0 on a machine of two CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """An exchange is a pipeline of calls of the script, each with a batch of keys; a fact is a message to all nodes."""

    pipeline: float = 25.0e-6
    """Reading a pipeline, and answering it."""
    call: float = 7.0e-6
    """A call with no key."""
    key: float = 3.0e-6
    """Each key of a batch."""
    call_bytes_in: float = 185.0
    call_bytes_out: float = 37.0
    key_bytes_in: float = 24.0
    key_bytes_out: float = 16.0
    memory_key: float = 82.0
    """Memory of one key in one window."""

    publish: float = 14.0e-6
    """A fact that is published."""
    write: float = 8.0e-6
    """A call to the system that sends one subscriber what is there for it."""
    copy: float = 0.35e-6
    """A fact into one subscriber's buffer."""
    fact_bytes: float = 202.0
    """A fact on its way to one node."""

    beat: float = 46.0e-6
    """What a node says once a second."""
    listed: float = 2.1e-6
    """Each node of the list that a node asks for."""
    listed_bytes: float = 171.0
    join: float = 54.0e-6
    """A connection made, greeted and subscribed."""
