"""Strategies for lb: how a route chooses among its backends.

Each is a class of a few lines whose `select_backend` keeps what it worked out for as long as `candidates` is the same
tuple. Randomness is passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import Strategy, hookimpl
from lb_strategies.ip_hash import IpHash
from lb_strategies.p2c import PowerOfTwoChoices
from lb_strategies.round_robin import RoundRobin
from lb_strategies.weighted_random import WeightedRandom
from lb_strategies.weighted_round_robin import WeightedRoundRobin

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["IpHash", "PowerOfTwoChoices", "RoundRobin", "WeightedRandom", "WeightedRoundRobin"]


@hookimpl
def register_strategies() -> Iterator[Strategy]:
    """Offer them by name."""
    yield Strategy("round_robin", RoundRobin, aliases=("roundrobin", "rr"))
    yield Strategy("weighted_round_robin", WeightedRoundRobin, aliases=("wrr",))
    yield Strategy("random", WeightedRandom)
    yield Strategy("p2c", PowerOfTwoChoices)
    yield Strategy("ip_hash", IpHash, aliases=("source", "maglev"))
