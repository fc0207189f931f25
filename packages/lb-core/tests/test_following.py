"""Health, modes and weights of backends, carried from the control process to a worker."""

from __future__ import annotations

from typing import Any

from lb_core import Event, hookimpl
from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.health import HealthResult
from lb_core.plugins import Plugins
from lb_core.sharing import Note, Sharing

TREE: dict[str, Any] = {
    "routes": {"example.com": {"backends": {"a": "127.0.0.1:9001", "b": "127.0.0.1:9002"}, "health_check": "/"}}
}


class Heard:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.results: list[HealthResult] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event.kind)

    @hookimpl
    def on_health_result(self, result: HealthResult) -> None:
        self.results.append(result)


class To:
    def __init__(self) -> None:
        self.others: list[Sharing] = []

    def tell(self, note: Note, *, but: int | None = None) -> None:
        for each in self.others:
            each.hear(note, 1)


def pair() -> tuple[LoadBalancer, LoadBalancer, Heard, Heard]:
    heard = Heard(), Heard()
    control, worker = (
        LoadBalancer(plugins=Plugins.discover(extra=[each]), role=role, sharing=Sharing(seat=seat))
        for each, role, seat in zip(heard, ("control", "worker"), (0, 1), strict=True)
    )
    for one, other in ((control, worker), (worker, control)):
        peers = one.sharing.peers = To()
        peers.others.append(other.sharing)
        one.apply(config_from_tree(TREE, one.plugins, source="test"))
    return control, worker, *heard


def states(balancer: LoadBalancer) -> dict[str, str]:
    return {each.name: each.state for each in balancer.pools["example.com"].backends}


def test_a_worker_follows_the_checks_of_the_control_process() -> None:
    control, worker, _, told = pair()
    pool = control.pools["example.com"]
    assert states(worker) == {"a": "starting", "b": "starting"}
    pool.set_health(pool.find("a"), "up", "passed")
    pool.set_health(pool.find("b"), "down", "refused")
    assert states(worker) == {"a": "up", "b": "down"}
    assert worker.pools["example.com"].find("b").reason == "refused"
    assert told.events == []


def test_a_worker_follows_what_an_operator_does() -> None:
    control, worker, _, _ = pair()
    mine, its = control.pools["example.com"], worker.pools["example.com"]
    mine.set_mode(mine.find("a"), "draining", "update", seconds=20)
    mine.set_weight(mine.find("b"), 5, operator=True)
    assert its.find("a").mode == "draining"
    assert 19 < its.find("a").drains_until - its.clock() <= 20
    assert its.find("b").weight == 5


def test_what_the_file_says_of_weights_is_not_told() -> None:
    control, worker, _, _ = pair()
    mine = control.pools["example.com"]
    mine.set_weight(mine.find("b"), 5)
    assert worker.pools["example.com"].find("b").weight == 1


def test_a_newcomer_is_told_health_and_modes() -> None:
    control, worker, _, _ = pair()
    pool = control.pools["example.com"]
    control.sharing.peers = None
    pool.set_health(pool.find("a"), "up")
    pool.set_mode(pool.find("b"), "maintenance", "disk")
    assert states(worker) == {"a": "starting", "b": "starting"}
    for note in control.sharing.welcome():
        worker.sharing.hear(note)
    assert states(worker) == {"a": "up", "b": "maintenance"}


def test_names_that_are_not_there_and_odd_values_change_nothing() -> None:
    control, worker, _, _ = pair()
    channel = control.sharing.channel("backends/operated", print)
    for message in (
        {"pool": "other", "backend": "a", "mode": "draining", "seconds": 1},
        {"pool": "example.com", "backend": "c", "mode": "draining", "seconds": 1},
        {"pool": "example.com", "backend": "a", "mode": "asleep", "seconds": 1},
        {"pool": "example.com", "backend": "a", "mode": "draining", "seconds": "soon"},
        {"pool": "example.com", "backend": "a", "weight": "much"},
        {},
    ):
        channel.send(message)
    assert {(each.mode, each.weight) for each in worker.pools["example.com"].backends} == {("active", 1)}


def test_probes_are_seen_by_the_plugins_of_a_worker() -> None:
    control, _, own, heard = pair()
    pool = control.pools["example.com"]
    result = HealthResult(False, "refused", 0, 0.25)
    control._report(pool)(pool.find("a"), result)
    assert own.results == heard.results == [result]


def test_events_of_workers_are_told_in_the_control_process_once() -> None:
    control, worker, told, silent = pair()
    up: list[Event] = []
    worker.tell_control = up.append
    worker.notify(Event("rate_limited", "too much", route="example.com"))
    for seat in (1, 2):
        control.hear(up[0], seat)
    assert told.events == ["rate_limited"]
    assert silent.events == []
