"""What processes tell each other about a circuit, and which of two things told is the newer.

    open      left alone for `remaining` seconds; 0 while it is half open, with the probes that have passed so far
    passed    a probe has passed
    closed    all is well again

A stamp is milliseconds of the clock that all share, and more than any stamp known of the same circuit. Of two processes
that decide at the same millisecond the one that opens is right: that does no harm which the next probe does not mend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lb_breaker.circuit import Circuit, State

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 365 * 86400.0
"""Seconds; what another process says is not believed beyond."""


def next_stamp(now: float, known: int) -> int:
    """A stamp for something decided at `now`, seconds of the common clock, where `known` is the last one."""
    return max(int(now * 1000), known + 1)


def is_news(message: Mapping[str, Any], known: int, is_open: bool) -> bool:
    """Whether a message says more than is known: `known` is the last stamp, `is_open` what came with it."""
    return (_stamp(message), message.get("state") == "open") > (known, is_open)


def is_about(message: Mapping[str, Any], known: int) -> bool:
    """Whether a message continues what is known."""
    return _stamp(message) == known


def opened(circuit: Circuit, stamp: int, now: float) -> dict[str, Any]:
    """The message about a circuit that is open, or half open."""
    return {
        "state": "open",
        "stamp": stamp,
        "remaining": round(circuit.remaining(now), 3),
        "timeout": circuit.timeout,
        "passes": circuit.passes,
        "probes": circuit.probes,
        "passed": circuit.passed if circuit.state is State.HALF_OPEN else 0,
        "reason": circuit.reason,
    }


def passed(stamp: int) -> dict[str, Any]:
    """The message about a probe that has passed and closed nothing yet."""
    return {"state": "passed", "stamp": stamp}


def closed(stamp: int) -> dict[str, Any]:
    """The message about a circuit that is closed."""
    return {"state": "closed", "stamp": stamp}


def follow(circuit: Circuit, message: Mapping[str, Any], now: float) -> float:
    """Open a circuit as another process has; returns the seconds until it is tried again, 0.0 for now."""
    circuit.timeout = _seconds(message, "timeout")
    circuit.passes = max(1, int(message.get("passes", 1)))
    circuit.probes = max(1, int(message.get("probes", 1)))
    circuit.open(now, str(message.get("reason", "")))
    circuit.followed = True
    remaining = min(_seconds(message, "remaining"), circuit.timeout)
    circuit.since = now + remaining - circuit.timeout
    return remaining


def _stamp(message: Mapping[str, Any]) -> int:
    return int(message.get("stamp", 0))


def _seconds(message: Mapping[str, Any], key: str) -> float:
    return min(max(float(message.get(key, 0.0)), 0.0), LONGEST)
