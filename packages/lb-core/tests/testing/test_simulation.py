"""`simulate`: the production's own parts under simulated time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.backend import Backend
from lb_core.defaults.least_connections import LeastConnections
from lb_core.errors import AttemptError, BackendReset, ConfigError, ConnectFailed, HeaderTimeout, PluginError
from lb_core.features import Strategy
from lb_core.hooks import hookimpl
from lb_core.pool import Pool
from lb_core.response import Response
from lb_core.settings import Settings
from lb_core.testing import Fault, Result, Scenario, simulate
from lb_core.testing.arrivals import Request, Trace
from lb_core.testing.events import BEGIN

if TYPE_CHECKING:
    from lb_core.exchange import Exchange
    from lb_core.route import Route

FAST: dict[str, Any] = {"requests": 3000, "service": "exponential(50ms)"}


class Turns:
    """Round robin, which lb-core alone does not have."""

    def __init__(self) -> None:
        self.next = 0

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        self.next += 1
        return candidates[self.next % len(candidates)]


class Dice:
    """Draws from the module's own generator."""

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        return random.choice(candidates)


class Witness(Turns):
    """Writes down everything it is told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.picks: list[tuple[float, int]] = []
        self.errors: list[AttemptError] = []
        self.responses: list[tuple[int, float]] = []
        self.ended: list[Exchange] = []

    @hookimpl
    def select_backend(  # type: ignore[override]
        self, exchange: Exchange, candidates: tuple[Backend, ...]
    ) -> Backend:
        assert abs(exchange.elapsed - (self.clock() - exchange.started)) < 1e-9
        self.picks.append((self.clock(), exchange.attempts))
        return super().select_backend(candidates)

    @hookimpl
    def on_backend_error(self, exchange: Exchange, error: AttemptError) -> None:
        assert exchange.backend is not None
        self.errors.append(error)

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        assert exchange.first_byte == self.clock()
        assert dict(exchange.response_headers) == {}
        self.responses.append((exchange.status, exchange.first_byte - exchange.started))

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        self.ended.append(exchange)


def test_the_same_seed_gives_the_same_figures() -> None:
    one, two, other = (simulate(LeastConnections, **FAST, seed=seed) for seed in (1, 1, 2))
    assert one == two
    assert one != other
    assert simulate(Dice, **FAST) == simulate(Dice, **FAST)


def test_the_generator_of_the_module_goes_on_as_if_nothing_had_been() -> None:
    random.seed(5)
    undisturbed = [random.random() for _ in range(3)]
    random.seed(5)
    found = [random.random()]
    simulate(Dice, requests=100)
    assert [*found, random.random(), random.random()] == undisturbed


def test_every_strategy_meets_the_same_requests() -> None:
    class Last(Witness):
        @hookimpl
        def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:  # type: ignore[override]
            return candidates[-1]

    one, two = Witness(), Last()
    simulate(one, **FAST, slow={0: 2})
    simulate(two, **FAST, slow={0: 2})
    began = [[(each.started, each.client) for each in sorted(it.ended, key=lambda e: e.started)] for it in (one, two)]
    assert began[0] == began[1]


def test_hooks_are_called_as_in_production_with_simulated_times() -> None:
    strategy = Witness()
    result = simulate(strategy, **FAST, warmup=0)
    assert len(strategy.responses) == len(strategy.ended) == result.requests == 3000
    assert {status for status, _ in strategy.responses} == {200}
    assert strategy.picks[0][0] > BEGIN
    assert strategy.clock is time.monotonic, "it has its own clock again"
    assert sorted(each.duration for each in strategy.ended) == list(result.latencies)
    assert all(each.attempts == 1 and each.backend is not None for each in strategy.ended)
    assert {each.backend.in_flight for each in strategy.ended if each.backend} <= set(range(9))


def test_a_class_is_built_with_the_simulated_clock() -> None:
    made: list[Witness] = []

    def build(clock: Callable[[], float], later: Any, random: random.Random, draw: Callable[[], float]) -> Witness:
        assert 0 <= draw() < 1
        assert random.random() != draw()
        assert callable(later)
        made.append(Witness(clock))
        return made[-1]

    simulate(build, **FAST)
    assert {when for when, _ in made[0].picks} >= {each.started for each in made[0].ended}


def test_shares_and_imbalance() -> None:
    even = simulate(Turns, **FAST)
    assert even.shares == {"b0": 0.25, "b1": 0.25, "b2": 0.25, "b3": 0.25}
    assert even.imbalance == pytest.approx(1.0, abs=0.1)
    uneven = simulate(Turns, **FAST, slow={2: 3})
    assert uneven.imbalance == pytest.approx(2.0, rel=0.1), "3 of 6 units of work are b2's, where 1.5 would be even"


def test_weights_reach_the_strategy() -> None:
    result = simulate("least_connections", requests=4000, load=0.0005, weights={0: 3}, backends=2)
    assert result.shares["b0"] == pytest.approx(0.75, abs=0.03)


def test_a_backlog_that_grows_is_told() -> None:
    assert simulate(Turns, requests=4000, service="exponential(50ms)", slow={0: 3}).diverges
    assert not simulate(LeastConnections, requests=4000, service="exponential(50ms)", slow={0: 3}).diverges
    assert simulate(LeastConnections, requests=4000, load=1.3).diverges


def test_a_backend_that_fails_fast_draws_the_traffic_until_it_is_ejected() -> None:
    load: dict[str, Any] = {"requests": 6000, "service": "exponential(50ms)", "faults": {0: Fault()}}
    without = simulate(LeastConnections, **load, ejection=False)
    assert without.shares["b0"] > 0.6
    assert without.errors == round(without.shares["b0"] * 6000)
    with_it = simulate(LeastConnections, **load)
    assert with_it.shares["b0"] < 0.005
    assert with_it.errors < 20


def test_ejection_takes_its_settings() -> None:
    load: dict[str, Any] = {"requests": 5000, "faults": {0: Fault()}}
    strict = simulate(Turns, **load, ejection={"consecutive_failures": 1, "duration": "10m"})
    assert strict.errors == 1


def test_refused_connections_are_retried_elsewhere() -> None:
    strategy = Witness()
    result = simulate(strategy, **FAST, faults={1: Fault("refused")}, ejection=False)
    assert result.errors == 0
    assert {type(error) for error in strategy.errors} == {ConnectFailed}
    retried = [each for each in strategy.ended if each.attempts == 2]
    assert retried
    assert all(each.flags == ("retried",) and each.backend and each.backend.name != "b1" for each in retried)
    assert simulate(Turns, **FAST, faults={1: Fault("refused")}, ejection=False, retries=0).errors == 750


def test_resets_are_retried_within_the_budget_of_production() -> None:
    strategy = Witness()
    result = simulate(strategy, **FAST, faults={n: Fault("reset", 0.5) for n in range(4)}, ejection=False)
    assert {type(error) for error in strategy.errors} == {BackendReset}
    assert 0 < result.errors < 1500
    assert strategy.ended[0].route.retrying == 0, "every place in the budget was given back"


def test_a_fault_lasts_from_then_to_then() -> None:
    strategy = Witness()
    simulate(strategy, **FAST, faults={0: Fault("status", start=2, end=4)}, ejection=False)
    when = [each.started - BEGIN for each in strategy.ended if each.status == 503]
    assert when
    assert min(when) >= 2
    assert max(when) < 4


def test_responses_that_take_too_long_are_given_up() -> None:
    strategy = Witness()
    result = simulate(strategy, requests=2000, service="bimodal(10ms, 5s, 2%)", timeout="1s", load=0.3, ejection=False)
    assert {type(error) for error in strategy.errors} == {HeaderTimeout}
    assert {each.status for each in strategy.ended} == {200, 504}
    assert result.max < 1.0


def test_a_full_backend_makes_others_work_and_then_the_queue() -> None:
    strategy = Witness()
    result = simulate(strategy, **FAST, load=2, max_connections=8, queue=200, queue_timeout="100ms")
    assert 0 < result.errors < 2000
    assert {flag for each in strategy.ended if each.status == 503 for flag in each.flags} == {"queue_full"}
    waited = [each.duration for each in strategy.ended if each.status == 503]
    assert waited == pytest.approx([0.1] * result.errors)
    assert strategy.ended[0].route.queued == 0
    short = Witness()
    simulate(short, **FAST, load=1.2, max_connections=8, queue=3)
    assert {each.duration for each in short.ended if each.status == 503} == {0.0}
    assert simulate(Turns, **FAST, load=1.2, max_connections=8, queue_timeout="0s").errors


def test_a_retry_waits_for_its_turn_too() -> None:
    faults = {0: Fault("refused", 0.5), 1: Fault("refused", 0.5)}
    result = simulate(Turns, **FAST, backends=2, faults=faults, max_connections=2, slots=2, load=0.9, ejection=False)
    assert result.requests == 3000
    assert result.errors < 1500


def test_nobody_left_is_an_error() -> None:
    result = simulate(Turns, requests=50, weights=dict.fromkeys(range(4), 0))
    assert result.errors == 50
    assert result.shares == dict.fromkeys(("b0", "b1", "b2", "b3"), 0.0)
    assert result.throughput == 0.0


def test_another_pool_may_serve() -> None:
    """What a failover does when nobody is left."""
    strategy = Witness()

    class Failover:
        def __init__(self, route: Route) -> None:
            self.spare = Pool("spare", route.pool.backends[2:])
            self.route = route

        @hookimpl
        def before_request(self, exchange: Exchange) -> None:
            if self.route.requests == 100:
                self.route.serving = self.spare
                self.route.pool.replace([])

    result = simulate(strategy, **FAST, features={"failover": Failover})
    assert result.errors == 0
    assert strategy.ended[-1].pool.name == "spare"
    assert {each.backend.name for each in strategy.ended[-500:] if each.backend} == {"b2", "b3"}


class Limit:
    """Lets so many requests a second through."""

    def __init__(self, route: Route, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.second = 0
        self.left = 0

    @hookimpl
    def before_request(self, exchange: Exchange) -> Response | None:
        if int(self.clock()) != self.second:
            self.second, self.left = int(self.clock()), 100
        self.left -= 1
        return None if self.left >= 0 else Response(429, "slow down")


def test_a_feature_sees_simulated_time() -> None:
    result = simulate(Turns, requests=3000, service="exponential(50ms)", features={"limit": Limit})
    seconds = 3000 / (0.7 * 32 / 0.05)
    assert result.requests - result.refused == pytest.approx(100 * seconds, abs=100)
    assert result.errors == 0


def test_an_installed_feature_is_built_by_its_name() -> None:
    from lb_core.features import Feature
    from lb_core.plugins import Plugins

    class LimitSettings(Settings):
        short = "rate"
        rate: int = 5

    class Module:
        @hookimpl
        def register_features(self) -> list[Feature]:
            return [Feature("limit", build, LimitSettings, replaces=lambda settings: ("ejection",))]

    seen: list[LimitSettings] = []

    def build(route: Route, settings: LimitSettings, clock: Callable[[], float] = time.monotonic) -> Limit:
        seen.append(settings)
        return Limit(route, clock)

    plugins = Plugins.discover(extra=[Module()])
    result = simulate(Turns, plugins=plugins, requests=3000, features={"limit": {"rate": 7}})
    assert seen == [LimitSettings(rate=7)]
    assert result.refused > 0
    few: dict[str, Any] = {"requests": 40, "faults": {0: Fault()}, "features": {"limit": {}}}
    assert simulate(Turns, plugins=plugins, **few).errors == 10, "it stands in the place of ejection"
    with pytest.raises(PluginError, match="no feature 'limits'; installed are"):
        simulate(Turns, plugins=plugins, features={"limits": {}})


def test_clients_that_wait_never_have_more_than_one_request_each() -> None:
    strategy = Witness()
    result = simulate(strategy, requests=2000, clients=5, think="10ms", service="50ms")
    assert result.throughput == pytest.approx(5 / 0.06, rel=0.01)
    assert not result.diverges
    assert simulate(Turns, requests=200, clients=20, service="exponential(50ms)", think="1ms").requests == 200


def test_a_trace_is_replayed() -> None:
    strategy = Witness()
    requests = [
        Request(100.0 + n / 10, 0.05 if n % 2 else -1.0, f"192.0.2.{n}", b"/%d" % n, b"POST") for n in range(20)
    ]
    result = simulate(strategy, Scenario(trace=Trace(requests), service="20ms", warmup=0))
    assert [each.started - BEGIN for each in strategy.ended] == pytest.approx([n / 10 for n in range(20)])
    assert [each.duration for each in strategy.ended] == pytest.approx([0.02, 0.05] * 10)
    assert [(each.client, each.path, each.method) for each in strategy.ended][3] == ("192.0.2.3", "/3", "POST")
    assert result.requests == 20


def test_progress_is_told() -> None:
    told: list[int] = []
    simulate(Turns, requests=5000, progress=told.append)
    assert told == [1024, 2048, 3072, 4096]


def test_strategies_of_every_form() -> None:
    class TurnsSettings(Settings):
        first: int = 0

    declared = Strategy("turns", lambda settings: Turns(), TurnsSettings)
    forms = [
        "least_connections",
        {"name": "least_connections"},
        LeastConnections,
        LeastConnections(),
        Turns(),
        declared,
    ]
    results = [simulate(form, requests=200) for form in forms]
    names = ["least_connections"] * 2 + ["LeastConnections"] * 2 + ["Turns", "turns"]
    assert [result.strategy for result in results] == names


def test_what_is_no_strategy_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean least_connections"):
        simulate("least_conections")
    with pytest.raises(ConfigError, match="has no options"):
        simulate({"name": "least_connections", "decay": "5s"})
    with pytest.raises(PluginError, match="3 is no strategy"):
        simulate(3)
    with pytest.raises(PluginError, match="mark it with @hookimpl"):
        simulate(type("Unmarked", (), {"select_backend": lambda self, candidates: candidates[0]}))


def test_a_choice_that_is_none_ends_the_run() -> None:
    class Nobody:
        @hookimpl
        def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
            return Backend("stranger", "192.0.2.9", 80)

    with pytest.raises(PluginError, match="chose <Backend stranger"):
        simulate(Nobody)


@pytest.mark.parametrize("hook", ["on_response", "on_complete", "on_backend_error"])
def test_what_a_plugin_raises_ends_the_run(hook: str) -> None:
    def fail(self: object, exchange: Exchange) -> None:
        raise LookupError(hook)

    strategy = type("Failing", (Turns,), {hook: hookimpl(fail)})
    with pytest.raises(LookupError, match=hook):
        simulate(strategy, requests=100, faults={0: Fault("reset")})


def test_a_coroutine_cannot_be_part() -> None:
    class Asks:
        def __init__(self, route: Route) -> None:
            """Nothing to keep."""

        @hookimpl
        async def before_request(self, exchange: Exchange) -> None:
            """Would wait."""

    with pytest.raises(PluginError, match="cannot wait"):
        simulate(Turns, features={"asks": Asks})


def test_a_scenario_is_given_once() -> None:
    with pytest.raises(TypeError, match="not both"):
        simulate(Turns, Scenario(), load=0.5)
    with pytest.raises(TypeError, match="did you mean backends"):
        simulate(Turns, backend=3)


def test_the_cost_of_a_pick_is_real_time() -> None:
    class Slow(Turns):
        @hookimpl
        def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
            sum(range(3000))
            return super().select_backend(candidates)

    quick, slow = simulate(Turns, requests=50), simulate(Slow, requests=50)
    assert 10 < quick.pick_ns < slow.pick_ns


def test_quantiles_of_nothing() -> None:
    result = simulate(Turns, requests=40, faults={n: Fault() for n in range(4)}, ejection=False)
    assert isinstance(result, Result)
    assert result.p99 != result.p99
    assert result.mean != result.mean
    assert result.as_data()["p99"] is None
