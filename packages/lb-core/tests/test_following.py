"""Health, modes and weights of backends, carried from the control process to the workers and to other nodes."""

from __future__ import annotations

from typing import Any

import pytest

from lb_core import Event, hookimpl
from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.health import HealthResult
from lb_core.locality import Locality, locality_of
from lb_core.plugins import Plugins
from lb_core.sharing import Note, Sharing
from lb_core.testing.together import Together, joined
from lb_core.words import MOST, Subject, Words

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


# what operators of several nodes say


class Node:
    """The control process and the workers of one node; `offset` is how far its clock is from the machine's."""

    def __init__(self, *, workers: int = 1, offset: float = 0.0, locality: Locality | None = None) -> None:
        self.tree: dict[str, Any] = {"workers": 2, **TREE}
        self.together = Together(workers, locality)
        self.together.control.clustered = True
        self.together.control.set_offset(offset)
        self.control = self.made(self.together.control)
        self.workers = [self.made(each) for each in self.together.workers]

    def made(self, sharing: Sharing) -> LoadBalancer:
        balancer = LoadBalancer(role="worker" if sharing.seat else "control", sharing=sharing)
        balancer.apply(config_from_tree(self.tree, balancer.plugins, source="test"))
        return balancer

    def add(self) -> LoadBalancer:
        """A new worker, as far as it is told how things stand."""
        self.workers.append(self.made(self.together.add()))
        self.together.welcome(self.workers[-1].sharing)
        return self.workers[-1]

    def reload(self, backends: dict[str, Any] | None = None) -> None:
        if backends is not None:
            self.tree = {"workers": 2, "routes": {"example.com": {"backends": backends}}}
        for each in (self.control, *self.workers):
            each.apply(config_from_tree(self.tree, each.plugins, source="test"))

    def order(self, mode: Any = "", *, weight: int = -1) -> None:
        """What an operator wants of the first backend."""
        pool = self.control.pools["example.com"]
        if weight < 0:
            pool.set_mode(pool.find("a"), mode, "lb backends")
        else:
            pool.set_weight(pool.find("a"), weight, operator=True)

    @property
    def first(self) -> tuple[str, int]:
        """The mode and the weight of the first backend, on which all processes agree."""
        backends = [each.pools["example.com"].find("a") for each in (self.control, *self.workers)]
        said = {(each.mode, each.configured_weight) for each in backends}
        assert len(said) == 1, said
        return said.pop()

    def cut_off(self) -> None:
        self.together.control.detach()


def apart(one: Node, other: Node) -> None:
    for each in (one, other):
        each.cut_off()


def two(**options: Any) -> tuple[Node, Node]:
    one, other = Node(), Node(**options)
    joined(one.together, other.together)
    return one, other


def test_what_an_operator_says_reaches_every_process_of_every_node() -> None:
    one, other = two()
    one.order("draining")
    one.order(weight=7)
    assert one.first == other.first == ("draining", 7)
    other.order("active")
    assert one.first == other.first == ("active", 7)


@pytest.mark.parametrize("offset", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize("turn", [False, True])
def test_who_was_cut_off_does_not_bring_back_what_was_taken_back(offset: float, turn: bool) -> None:
    one, other = two(offset=offset)
    one.order("maintenance")
    one.order(weight=0)
    apart(one, other)
    one.order("active")
    one.order(weight=3)
    pair = (other, one) if turn else (one, other)
    joined(*(each.together for each in pair))
    assert one.first == other.first == ("active", 3)
    assert one.add() is not None
    assert other.add() is not None
    assert one.first == other.first == ("active", 3)


def test_the_last_word_of_two_nodes_that_were_apart_holds_in_both() -> None:
    one, other = two()
    apart(one, other)
    one.order("maintenance")
    other.order("draining")
    joined(one.together, other.together)
    assert one.first == other.first
    assert one.first[0] in ("draining", "maintenance")
    other.order("maintenance")
    one.order("active")
    assert one.first == other.first == ("active", 1)


def test_a_reload_brings_the_weight_of_the_file_and_no_older_word_changes_it() -> None:
    one, other = two()
    one.order(weight=0)
    apart(one, other)
    one.order(weight=9)
    one.reload()
    assert one.first == ("active", 1)
    joined(one.together, other.together)
    assert one.first == ("active", 1)
    assert one.add() is not None
    for topic, message in other.together.control.snapshots():
        one.together.control.deliver(topic, message)
    assert one.first == ("active", 1)
    one.order(weight=4)
    assert one.first == other.first == ("active", 4)


def test_a_mode_outlasts_a_reload_and_what_was_said_of_a_backend_before_does_not_hold_for_the_next() -> None:
    one, other = two()
    one.order("draining")
    for each in (one, other):
        each.reload()
    assert one.first == other.first == ("draining", 1)
    apart(one, other)
    one.reload({"b": "127.0.0.1:9002"})
    one.reload({"a": "127.0.0.1:9001", "b": "127.0.0.1:9002"})
    assert one.first == ("active", 1)
    joined(one.together, other.together)
    assert one.first == ("active", 1)
    assert one.add() is not None
    assert one.first == ("active", 1)


def test_a_node_that_is_started_again_hears_the_last_word_first_or_second() -> None:
    one, other = two()
    third = Node()
    joined(one.together, third.together)
    third.cut_off()
    one.together.control.detach()
    joined(one.together, other.together)
    one.order("draining")
    for topic, message in one.together.control.snapshots():
        third.together.control.deliver(topic, message)
    one.order("active")
    assert (third.first, one.first, other.first) == (("draining", 1), ("active", 1), ("active", 1))
    for order in ((third, other), (other, third)):
        again = Node()
        for each in order:
            for topic, message in each.together.control.snapshots():
                again.together.control.deliver(topic, message)
        assert again.first == ("active", 1)


def test_an_upgraded_process_goes_on_with_every_word() -> None:
    one, other = two()
    one.order("draining")
    apart(one, other)
    one.order("active")
    one.order(weight=6)
    one.reload()
    successor = Node()
    for topic, message in one.together.control.snapshots(nodes=False):
        successor.together.control.deliver(topic, message)
    joined(successor.together, other.together)
    assert successor.first == other.first == ("active", 1)


def test_a_backend_on_loopback_is_another_one_in_another_place() -> None:
    one, other = two(locality=locality_of("another boot", 1, 1))
    one.order("draining")
    one.order(weight=5)
    assert one.first == ("draining", 5)
    assert other.first == ("active", 1)


def test_words_of_one_millisecond_have_the_same_winner_everywhere() -> None:
    subject, weight = Subject("p", "b", "mode"), Subject("p", "b", "weight")
    one, other = Words(lambda: 1.0), Words(lambda: 1.0)
    assert one.learn(subject, 1000, 2)
    assert not one.learn(subject, 1000, 1)
    assert other.learn(subject, 1000, 1)
    assert other.learn(subject, 1000, 2)
    assert not other.learn(subject, 1000, 2)
    assert one.learn(weight, 1000, -5)
    assert one.learn(weight, 1000, 0)
    assert sorted(one.all()) == [(subject, 1000, 2), (weight, 1000, 0)]


def test_a_word_is_newer_than_all_that_are_known_whatever_the_clock_says() -> None:
    pool = pair()[0].pools["example.com"]
    words, subject = Words(lambda: 1.0), Subject("p", "b", "mode")
    assert words.learn(subject, 10**15, 2)
    words.say(subject, pool.find("a"))
    assert words.stamp(subject) == 10**15 + 1


def test_words_about_what_is_gone_are_remembered_up_to_a_number() -> None:
    words = Words(lambda: 1.0)
    for number in range(MOST + 10):
        words.learn(Subject("p", str(number), "mode"), 1 + number, 0)
    words.keep(lambda subject: subject.backend == "3")
    left = [int(subject.backend) for subject, _, _ in words.all()]
    assert left == [3, *range(10, MOST + 10)]
