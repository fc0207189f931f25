"""`simulate`: one strategy through one scenario.

    arrivals --> Flow: before_request, select_backend --> Machine: slots, faults --> on_response, on_complete --> Tally

Real are the strategy and the features with their hook chains, Route, Pool, Backend and Exchange; simulated are time,
clients, and what backends do. Requests and the work they need are drawn before anybody chooses, so that all strategies
meet the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from lb_core.backend import Backend
from lb_core.chain import compile_chain
from lb_core.defaults.ejection import Ejection, EjectionSettings
from lb_core.errors import PluginError
from lb_core.route_sections import Retry, Timeouts
from lb_core.testing.arrivals import Load, Request, stream
from lb_core.testing.backends import Machine
from lb_core.testing.building import fit, maker_of, simulated_time
from lb_core.testing.events import Agenda
from lb_core.testing.exchanges import SimulatedExchange
from lb_core.testing.fakes import route_over
from lb_core.testing.figures import Result, Tally
from lb_core.testing.flow import Flow
from lb_core.testing.picking import cost_of_pick
from lb_core.testing.scenario import Scenario, scenario_of
from lb_core.testing.service import parse_distribution
from lb_core.traffic import traffic_manager
from lb_core.units import parse_duration

if TYPE_CHECKING:
    from lb_core.choices import Installed
    from lb_core.plugins import Plugins
    from lb_core.route import Route
    from lb_core.testing.building import Maker

PROGRESS_EVERY = 1024


def simulate(
    strategy: object,
    scenario: Scenario | None = None,
    *,
    plugins: Plugins | None = None,
    progress: Callable[[int], object] | None = None,
    **settings: Any,
) -> Result:
    """Send a load through a strategy and say how long requests took; the same for the same seed.

    `strategy` is a name or a mapping as in a configuration, a class, or an object, which is used as it is. The scenario
    is given whole or as `settings`, the fields of Scenario: `simulate("p2c", backends=4, load=0.7, slow={0: 3})`.
    `plugins` are those that names are looked up in, else the installed ones; `progress` is told how many requests have
    come. Raises ConfigError, PluginError or ValueError for what cannot be simulated.
    """
    if scenario is not None and settings:
        raise TypeError("give a scenario or its settings, not both")
    scenario = scenario or scenario_of(settings)
    name, make = maker_of(strategy, lambda: plugins or _installed())
    with _seeded(scenario.seed):
        run = _Run(name, make, scenario, plugins, progress)
        with simulated_time((part for _, part in run.route.parts), run.agenda.clock):
            return run.result()


class _Run:
    """One run: everything made for it, and the end of it."""

    def __init__(
        self,
        name: str,
        make: Maker,
        scenario: Scenario,
        plugins: Plugins | None,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.name = name
        self.scenario = scenario
        self.agenda = Agenda()
        self.progress = progress
        self.tally = Tally(scenario.count)
        self.machines = dict(_machines(scenario))
        self.offers = _offers(self.agenda, scenario.seed)
        self.strategy = make(self.offers)
        self.route = self._route(plugins)
        self.flow = Flow(self.agenda, self.route, self.machines, stream(scenario.seed, "faults"), self._done)
        self.load = Load(scenario.distribution, scenario.seed, scenario.addresses)
        self.requests = self._requests()
        self.thinks = parse_distribution(scenario.think).sampler(stream(scenario.seed, "think"))

    def result(self) -> Result:
        """Run it."""
        scenario, tally, agenda = self.scenario, self.tally, self.agenda
        begin = agenda.now
        if scenario.clients:
            for _ in range(min(scenario.clients, scenario.requests)):
                agenda.at(begin + self.thinks(), self._next_of_a_client, None)
        else:
            self._plan()
        agenda.run(lambda: tally.open > 0 or tally.begun < tally.expected)
        if self.route.plugin_errors:  # pragma: no cover  (nothing here is contained)
            raise PluginError(f"{self.name}: a plugin failed; see the log")
        machines = self.machines.values()
        taken = sum(machine.taken for machine in machines)
        busy = [machine.work for machine in machines]
        return Result(
            strategy=self.name,
            requests=tally.begun,
            errors=tally.errors,
            refused=tally.refused,
            seconds=agenda.now - begin,
            shares={machine.backend.name: machine.taken / (taken or 1) for machine in machines},
            imbalance=max(busy) * len(busy) / (sum(busy) or 1),
            diverges=tally.diverges(scenario.slots * scenario.backends) and not scenario.clients,
            latencies=tally.sorted(scenario.warmup),
            pick_ns=self._pick(),
        )

    def _route(self, plugins: Plugins | None) -> Route:
        scenario = self.scenario
        timeouts = Timeouts(
            queue=parse_duration(scenario.queue_timeout), response_header=parse_duration(scenario.timeout)
        )
        retry = Retry(attempts=scenario.retries)
        route = route_over(self.machines, timeouts=timeouts, retry=retry, queue=scenario.queue)
        route.pool.clock = self.agenda.clock
        features = [(name, part) for name, part in self._features(route, plugins) if part is not None]
        manager = traffic_manager((), (self.name, self.strategy), features)
        route.attach(manager)
        # as the engine compiles them, but a plugin that raises ends the run
        route.on_backend_error = compile_chain(manager.hook.on_backend_error)
        route.on_response = compile_chain(manager.hook.on_response)
        route.on_complete = compile_chain(manager.hook.on_complete)
        if route.before_is_async:
            raise PluginError("a simulation cannot wait: leave out the feature whose before_request is a coroutine")
        route.parts = ((self.name, self.strategy), *features)
        return route

    def _features(self, route: Route, plugins: Plugins | None) -> Iterator[tuple[str, object]]:
        scenario, ejection = self.scenario, self.scenario.ejection is not False
        for name, value in scenario.features.items():
            if callable(value):
                yield name, fit(value, route, offers=self.offers)
                continue
            known = (plugins or _installed()).features
            if name not in known:
                raise PluginError(f"there is no feature {name!r}; installed are {', '.join(sorted(known))}")
            settings = known[name].settings.model_validate(value)
            ejection = ejection and "ejection" not in known[name].replaces(settings)
            yield name, fit(known[name].build, route, settings, offers=self.offers)
        if ejection:
            yield "ejection", self._ejection(route)

    def _ejection(self, route: Route) -> Ejection:
        settings = EjectionSettings.model_validate(self.scenario.ejection)
        uniform = stream(self.scenario.seed, "ejection").uniform
        later, clock = self.agenda.later, self.agenda.clock
        return Ejection(route.pool, settings, later=later, clock=clock, jitter=lambda: uniform(0.9, 1.1))

    def _requests(self) -> Iterator[Request]:
        scenario = self.scenario
        if scenario.trace is not None:
            return self.load.recorded(scenario.trace)
        return self.load.poisson(scenario.load * scenario.capacity, scenario.seed)

    def _plan(self) -> None:
        """Enter the next request of an open load."""
        request = next(self.requests)
        self.agenda.at(self.flow.begun + request.when, self._arrived, request)

    def _arrived(self, request: Request) -> None:
        tally = self.tally
        tally.begin()
        if tally.begun < tally.expected:
            self._plan()
        if not tally.begun % PROGRESS_EVERY and self.progress is not None:
            self.progress(tally.begun)
        self.flow.begin(request)

    def _next_of_a_client(self, _: object) -> None:
        if self.tally.begun < self.tally.expected:
            self.tally.begin()
            self.flow.begin(self.load.request(self.agenda.now))

    def _done(self, ended: SimulatedExchange) -> None:
        self.tally.end(ended.status, ended.ended - ended.started)
        if self.scenario.clients:
            self.agenda.at(self.agenda.now + self.thinks(), self._next_of_a_client, None)

    def _pick(self) -> float:
        """The cost of a pick of this strategy, with some requests in flight."""
        manager = traffic_manager((), (self.name, self.strategy), ())
        select = compile_chain(manager.hook.select_backend)
        backends, chance = tuple(self.machines), stream(self.scenario.seed, "picking")
        for backend in backends:
            backend.in_flight = chance.randrange(self.scenario.slots + 1)
        asked = [SimulatedExchange(self.flow, self.load.request(0.0)) for _ in range(100)]
        return cost_of_pick(cast("Callable[[Any, Any], object]", select), asked, self.route.pool.candidates or backends)


def _machines(scenario: Scenario) -> Iterator[tuple[Backend, Machine]]:
    for number in range(scenario.backends):
        backend = Backend(
            f"b{number}",
            f"10.0.{number >> 8}.{number & 255}",
            8080,
            id=f"simulated/b{number}",
            weight=scenario.weights.get(number, 1),
            max_connections=scenario.max_connections,
        )
        yield backend, Machine(backend, scenario.slots, scenario.slow.get(number, 1.0), scenario.faults.get(number))


def _offers(agenda: Agenda, seed: int) -> dict[str, object]:
    chance = stream(seed, "strategy")
    return {"clock": agenda.clock, "later": agenda.later, "random": chance, "draw": chance.random}


def _installed() -> Installed:
    from lb_core.plugins import Plugins

    return Plugins.discover()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let those who use the module `random` directly draw the same numbers each time, and leave it as it was."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
