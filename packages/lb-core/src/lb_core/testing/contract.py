"""What every strategy keeps, as tests to inherit.

    class TestCheapest(StrategyContract):
        def make(self):
            return Cheapest()

pytest then runs all of them on objects that `make` gives; an attribute of the class adapts a check where the strategy
means something else.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from lb_core.chain import compile_chain
from lb_core.errors import BackendReset
from lb_core.pool import Pool
from lb_core.testing.backends import Fault
from lb_core.testing.building import simulated_time
from lb_core.testing.events import Agenda
from lb_core.testing.fakes import exchange, pool
from lb_core.testing.operations import operations
from lb_core.testing.simulation import simulate
from lb_core.traffic import traffic_manager

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.exchange import Exchange

Candidates = tuple["Backend", ...]
Pick = Callable[["Exchange", Candidates], "Backend"]


class StrategyContract:
    """Tests for a strategy; inherit and say how it is made."""

    operations: ClassVar[int] = 50_000
    """Python operations that a pick among 1,000 backends may take; a scan of all of them needs about 10,000."""
    weighted: ClassVar[bool] = True
    """Whether backends of twice the weight get more requests when nothing is in flight and every client comes once."""
    remembers: ClassVar[int] = 64
    """Changes of the candidates, within an hour, after which nothing may be left of a backend that has gone."""

    def make(self) -> object:
        """A new object of the strategy."""
        raise NotImplementedError(f"{type(self).__name__}: write make(self), which returns the object to test")

    def test_it_registers_as_a_strategy(self) -> None:
        """It has a `select_backend` marked with @hookimpl, and no hook that does not exist."""
        self._pick()

    def test_one_candidate_is_chosen(self) -> None:
        """Where there is no choice, the only one is the answer."""
        only = pool(n=1)
        pick = self._pick()
        assert all(pick(_asked(number), only) is only[0] for number in range(10))

    def test_the_choice_is_one_of_the_candidates(self) -> None:
        """However many there are and whatever is in flight."""
        for count in (2, 3, 5, 16, 17, 100):
            candidates = pool(n=count)
            pick = self._pick()
            for number in range(50):
                chosen = self._choose(pick, _asked(number), candidates)
                chosen.in_flight += number % 3
                candidates[number % count].in_flight = number % 7

    def test_the_same_tuple_may_come_again(self) -> None:
        """Also after another one: the tuple of a retry comes and goes."""
        candidates, others = pool(n=4), pool(n=3)
        pick = self._pick()
        for number in range(40):
            self._choose(pick, _asked(number), candidates if number % 3 else others)

    def test_candidates_may_join_and_leave(self) -> None:
        """One leaves, two join, all are replaced: only those of the moment are chosen."""
        everybody = pool(n=12)
        pick = self._pick()
        for start, end in ((0, 4), (0, 3), (0, 6), (3, 6), (6, 12), (11, 12), (0, 12)):
            candidates = everybody[start:end]
            for number in range(30):
                self._choose(pick, _asked(number), candidates)

    def test_a_retry_goes_to_another(self) -> None:
        """The candidates of a retry lack the backend that was tried; that one must not be chosen."""
        serving = Pool("testing", pool(n=4))
        hooks = _Hooks(self.make())
        for number in range(40):
            asked = exchange(client=f"192.0.2.{number}", backends=serving.backends)
            failed = asked.backend = self._choose(hooks.select_backend, asked, serving.candidates)
            asked.attempts = 1
            asked.error = BackendReset("the connection was reset")
            if hooks.on_backend_error is not None:
                hooks.on_backend_error(asked, asked.error)
            assert self._choose(hooks.select_backend, asked, serving.others(failed)) is not failed

    def test_weights_of_every_kind_are_served(self) -> None:
        """From 1 to 1,000, and fractions as during a slow start."""
        for weights in ((1, 1000), (7, 3, 11), (0.1, 1, 1), (0.1, 0.37), (1e-3, 1000), (2.5,) * 20):
            candidates = pool(n=len(weights))
            for backend, weight in zip(candidates, weights, strict=True):
                backend.weight = weight
            pick = self._pick()
            for number in range(50):
                self._choose(pick, _asked(number), candidates).in_flight += 1

    def test_a_weight_may_change(self) -> None:
        """The same backends in another tuple, with other weights: a slow start goes on."""
        backends = pool(n=3)
        pick = self._pick()
        for step in range(1, 11):
            backends[0].weight = step / 10
            candidates = (*backends,)
            for number in range(10):
                self._choose(pick, _asked(number), candidates)

    def test_weights_count(self) -> None:
        """The heavier of two gets more requests, unless `weighted` says that weights mean nothing here."""
        heavy, light = candidates = pool(heavy={"weight": 4}, light={})
        pick = self._pick()
        counts = Counter(self._choose(pick, _asked(number), candidates).name for number in range(400))
        if self.weighted:
            assert counts[heavy.name] > 1.5 * counts[light.name], (
                f"{dict(counts)} for weights 4 and 1; set weighted = False if that is meant"
            )

    def test_a_thousand_backends_are_no_burden(self) -> None:
        """A pick is counted in Python operations, after the first ones, which may make a table."""
        candidates = pool(n=1000)
        pick = self._pick()
        for number in range(3):
            pick(_asked(number), candidates).in_flight += 1
        asked = [_asked(number) for number in range(20)]
        each = operations(lambda: [pick(one, candidates) for one in asked]) / len(asked)
        assert each <= self.operations, f"a pick among 1,000 takes {each:.0f} operations, allowed are {self.operations}"

    def test_a_backend_that_has_gone_is_let_go(self) -> None:
        """What is kept for candidates of before goes when others have come, or when an hour has passed."""
        strategy, agenda = self.make(), Agenda()
        pick = _Hooks(strategy).select_backend
        with simulated_time([strategy], agenda.clock):
            gone = weakref.ref(self._served_once(pick))
            for change in range(self.remembers):
                agenda.now += 3600 / self.remembers
                candidates = pool(n=2)
                for number in range(4):
                    pick(_asked(change + number), candidates)
        gc.collect()
        assert gone() is None, f"after {self.remembers} changes of the candidates a backend of the first is still kept"

    def test_objects_do_not_share_state(self) -> None:
        """Every route has an object of its own, which knows its own backends only."""
        one, two = self.make(), self.make()
        assert one is not two, "make() must give a new object each time"
        before = _class_state(one)
        picks = [(_Hooks(each).select_backend, pool(n=3 + place)) for place, each in enumerate((one, two))]
        for number in range(60):
            pick, candidates = picks[number % 2]
            self._choose(pick, _asked(number // 2), candidates)
        assert _class_state(one) == before, "an attribute of the class changes while an object is used"
        if _repeats(self.make):
            alone, beside = _Hooks(self.make()).select_backend, _Hooks(self.make()).select_backend
            backends = pool(n=4)
            other, strangers = _Hooks(self.make()).select_backend, pool(n=5)
            for number in range(60):
                other(_asked(number), strangers)
                assert beside(_asked(number), backends) is alone(_asked(number), backends)

    def test_it_serves_a_simulated_load(self) -> None:
        """Requests in flight, answers, failures, retries, an ejection and a full backend: every hook is called."""
        faults = {1: Fault("status", 0.5, start=0.5), 2: Fault("refused", start=1, end=2), 3: Fault("reset", 0.5)}
        faults[4] = Fault("reset", 0.5)
        result = simulate(self.make(), backends=6, requests=2000, faults=faults, max_connections=12, load=0.6)
        assert result.requests == 2000
        assert sum(result.shares.values()) > 0.99

    def _choose(self, pick: Pick, asked: Exchange, candidates: Candidates) -> Backend:
        chosen = pick(asked, candidates)
        assert any(chosen is each for each in candidates), (
            f"select_backend gave {chosen!r}, which is not one of the {len(candidates)} candidates"
        )
        return chosen

    def _served_once(self, pick: Pick) -> Backend:
        candidates = pool(n=3)
        for number in range(6):
            pick(_asked(number), candidates)
        return candidates[0]

    def _pick(self) -> Pick:
        return _Hooks(self.make()).select_backend


class _Hooks:
    """The hooks of a strategy, called as a route calls them."""

    def __init__(self, strategy: object) -> None:
        hook = traffic_manager((), ("strategy", strategy), ()).hook
        select: Any = compile_chain(hook.select_backend)
        self.select_backend: Pick = select
        self.on_backend_error = compile_chain(hook.on_backend_error)


def _asked(number: int) -> Exchange:
    """A request of a client of its own."""
    client = f"198.18.{number >> 8 & 255}.{number & 255}"
    return exchange(f"/{number}?id={number}", client=client, headers={"Cookie": f"id={number}", "X-Id": str(number)})


def _class_state(strategy: object) -> dict[str, str]:
    """What the class itself holds beside its methods, in words."""
    held = {name: value for each in reversed(type(strategy).__mro__) for name, value in vars(each).items()}
    return {name: repr(value) for name, value in held.items() if name[:2] != "__" and not hasattr(value, "__get__")}


def _repeats(make: Callable[[], object]) -> bool:
    """Whether new objects choose the same, so that nothing is left to chance."""
    candidates = pool(n=7)
    choices = {tuple(map(_Hooks(make()).select_backend, asked, [candidates] * 60)) for asked in [_sixty()] * 8}
    return len(choices) == 1


def _sixty() -> list[Exchange]:
    return [_asked(number) for number in range(60)]
