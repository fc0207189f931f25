"""Every strategy keeps the contract of lb_core.testing, with all of its options."""

from __future__ import annotations

import lb_strategies as lbs
from lb_core.testing import StrategyContract


class TestRoundRobin(StrategyContract):
    weighted = False

    def make(self) -> object:
        return lbs.RoundRobin()


class TestWeightedRoundRobin(StrategyContract):
    def make(self) -> object:
        return lbs.WeightedRoundRobin()


class TestRandom(StrategyContract):
    def make(self) -> object:
        return lbs.WeightedRandom()


class TestPowerOfTwoChoices(StrategyContract):
    def make(self) -> object:
        return lbs.PowerOfTwoChoices()


class TestPowerOfTwoChoicesByLatency(StrategyContract):
    def make(self) -> object:
        return lbs.Ewma(scanned=0)


class TestEwma(StrategyContract):
    def make(self) -> object:
        return lbs.Ewma()


class TestIpHash(StrategyContract):
    def make(self) -> object:
        return lbs.IpHash()


class TestConsistentHash(StrategyContract):
    def make(self) -> object:
        return lbs.ConsistentHash()


class TestConsistentHashOnACookie(StrategyContract):
    def make(self) -> object:
        return lbs.ConsistentHash(lbs.ConsistentHashSettings(on="cookie:id", bounded=2))


class TestFirst(StrategyContract):
    weighted = False

    def make(self) -> object:
        return lbs.First()
