"""Strategies for lb: how a route chooses among its backends; and the slow start of backends that join or recover.

Each strategy is a class of a few lines whose `select_backend` keeps what it worked out for as long as `candidates` is
the same tuple. Clocks and randomness are passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import Feature, Strategy, hookimpl
from lb_strategies import p2c, slow_start
from lb_strategies.consistent_hash import ConsistentHash, ConsistentHashSettings
from lb_strategies.ewma import Ewma, EwmaSettings
from lb_strategies.first import First
from lb_strategies.ip_hash import IpHash
from lb_strategies.p2c import P2cSettings, PowerOfTwoChoices
from lb_strategies.round_robin import RoundRobin
from lb_strategies.slow_start import SlowStart, SlowStartSettings
from lb_strategies.weighted_random import WeightedRandom
from lb_strategies.weighted_round_robin import WeightedRoundRobin

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ConsistentHash",
    "ConsistentHashSettings",
    "Ewma",
    "EwmaSettings",
    "First",
    "IpHash",
    "P2cSettings",
    "PowerOfTwoChoices",
    "RoundRobin",
    "SlowStart",
    "SlowStartSettings",
    "WeightedRandom",
    "WeightedRoundRobin",
]


@hookimpl
def register_strategies() -> Iterator[Strategy]:
    """Offer them by name."""
    yield Strategy("round_robin", RoundRobin, aliases=("roundrobin", "rr"))
    yield Strategy("weighted_round_robin", WeightedRoundRobin, aliases=("wrr",))
    yield Strategy("random", WeightedRandom)
    yield Strategy("p2c", p2c.build, P2cSettings)
    yield Strategy("ewma", Ewma, EwmaSettings, aliases=("peak_ewma",))
    yield Strategy("ip_hash", IpHash, aliases=("source", "maglev"))
    yield Strategy("consistent_hash", ConsistentHash, ConsistentHashSettings)
    yield Strategy("first", First)


@hookimpl
def register_features() -> Iterator[Feature]:
    """Offer the slow start."""
    yield Feature("slow_start", slow_start.build, SlowStartSettings)
