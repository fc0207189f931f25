"""The contract: a good strategy passes all of it, and each way of breaking it is caught by its own test."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from lb_core.backend import Backend
from lb_core.defaults.least_connections import LeastConnections
from lb_core.errors import PluginError
from lb_core.hooks import hookimpl
from lb_core.testing import StrategyContract

if TYPE_CHECKING:
    from lb_core.exchange import Exchange

Candidates = tuple[Backend, ...]


class TestLeastConnections(StrategyContract):
    """The built-in strategy, within the budget of its own."""

    operations = 400

    def make(self) -> object:
        return LeastConnections()


class Turns:
    def __init__(self) -> None:
        self.next = 0

    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        self.next += 1
        return candidates[self.next % len(candidates)]


class Shy(Turns):
    """Leaves a backend out once that failed."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[str] = set()

    @hookimpl
    def on_backend_error(self, exchange: Exchange) -> None:
        self.failed = {exchange.backend.name} if exchange.backend else set()

    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        return super().select_backend(tuple(b for b in candidates if b.name not in self.failed) or candidates)


class TestShy(StrategyContract):
    """One without weights and without chance, which looks at failures."""

    weighted = False

    def make(self) -> object:
        return Shy()


class Stuck(Turns):
    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        if not hasattr(self, "first"):
            self.first = candidates[0]
        return self.first


class Undecided(Turns):
    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        return candidates[0] if len(candidates) == 1 else None


class OutOfBounds(Turns):
    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        self.next += 1
        return candidates[self.next]


class WholeWeights(Turns):
    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        return random.choice([backend for backend in candidates for _ in range(int(backend.weight))])


class RemembersWeights(Turns):
    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        if self.next and candidates[0].weight not in (1, self.next):
            raise AssertionError("the weight has changed")
        self.next = candidates[0].weight  # type: ignore[assignment]
        return candidates[0]


class Quadratic(Turns):
    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        some = candidates[:100]
        return min(some, key=lambda backend: sum(other.in_flight for other in some))


class Collector(Turns):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Candidates] = []

    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        self.seen.append(candidates)
        return super().select_backend(candidates)


class Shared(Turns):
    turns: ClassVar[list[int]] = [0]

    @hookimpl
    def select_backend(self, candidates: Candidates) -> Backend | None:
        self.turns[0] += 1
        return candidates[self.turns[0] % len(candidates)]


class Sulking(Turns):
    @hookimpl
    def select_backend(self, exchange: Exchange, candidates: Candidates) -> Backend | None:  # type: ignore[override]
        return exchange.backend or candidates[0]


class Fragile(Turns):
    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        self.took = 1 / exchange.first_byte


class Forgotten:
    def select_backend(self, candidates: Candidates) -> Backend:
        return candidates[0]


BROKEN: list[tuple[type, str, type[Exception]]] = [
    (Forgotten, "test_it_registers_as_a_strategy", PluginError),
    (OutOfBounds, "test_one_candidate_is_chosen", IndexError),
    (Undecided, "test_the_choice_is_one_of_the_candidates", AssertionError),
    (Stuck, "test_the_same_tuple_may_come_again", AssertionError),
    (Stuck, "test_candidates_may_join_and_leave", AssertionError),
    (Sulking, "test_a_retry_goes_to_another", AssertionError),
    (WholeWeights, "test_weights_of_every_kind_are_served", IndexError),
    (RemembersWeights, "test_a_weight_may_change", AssertionError),
    (Turns, "test_weights_count", AssertionError),
    (Quadratic, "test_a_thousand_backends_are_no_burden", AssertionError),
    (Collector, "test_a_backend_that_has_gone_is_let_go", AssertionError),
    (Shared, "test_objects_do_not_share_state", AssertionError),
    (Fragile, "test_it_serves_a_simulated_load", ZeroDivisionError),
]


@pytest.mark.parametrize(("strategy", "check", "error"), BROKEN, ids=lambda it: getattr(it, "__name__", it))
def test_what_breaks_the_contract_is_caught(strategy: type, check: str, error: type[Exception]) -> None:
    class Contract(StrategyContract):
        def make(self) -> object:
            return strategy()

    with pytest.raises(error):
        getattr(Contract(), check)()


def test_every_check_catches_something() -> None:
    checks = {name for name in dir(StrategyContract) if name.startswith("test_")}
    assert checks == {check for _, check, _ in BROKEN}


def test_an_object_that_is_given_twice_is_caught() -> None:
    same = Turns()

    class Contract(StrategyContract):
        def make(self) -> object:
            return same

    with pytest.raises(AssertionError, match="new object each time"):
        Contract().test_objects_do_not_share_state()


def test_a_contract_without_make_says_what_to_write() -> None:
    with pytest.raises(NotImplementedError, match="write make"):
        StrategyContract().test_one_candidate_is_chosen()


@pytest.mark.usefixtures("untraced")
def test_pytest_runs_the_contract_of_a_plugin(pytester: pytest.Pytester) -> None:
    """As a plugin's author has it: a file, a class, `pytest`."""
    pytester.makepyfile(
        """
        from lb_core import hookimpl
        from lb_core.testing import StrategyContract

        class Last:
            @hookimpl
            def select_backend(self, candidates):
                return candidates[-1]

        class TestLast(StrategyContract):
            weighted = False

            def make(self):
                return Last()
        """
    )
    outcome: Any = pytester.runpytest("-q", "-p", "no:cacheprovider", "-p", "no:asyncio")
    outcome.assert_outcomes(passed=len([name for name in dir(StrategyContract) if name.startswith("test_")]))
