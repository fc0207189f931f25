"""What workers count, added up in the control process; several balancers over one memory stand for the processes."""

from __future__ import annotations

import os
from typing import Any

from lb_core import LoadBalancer
from lb_core.config import Config, config_from_tree
from lb_core.plugins import Plugins
from lb_core.sharing import Memory, Sharing
from lb_core.workers.counters import Counters, Layout, Sums

PLUGINS = Plugins.discover()
TREE: dict[str, Any] = {"access_log": "off", "routes": {"a.example": ["127.0.0.1:1", "127.0.0.1:2"]}}
MORE: dict[str, Any] = {"access_log": "off", "routes": {"b.example": ["127.0.0.1:3"], **TREE["routes"]}}


def config(tree: dict[str, Any]) -> Config:
    return config_from_tree(tree, PLUGINS)


class Node:
    """A control process and two workers."""

    def __init__(self) -> None:
        self.control = LoadBalancer(config(TREE), plugins=PLUGINS)
        self.memory = Memory()
        self.sums = Sums(self.control, self.memory)
        self.workers = {seat: self._worker(seat) for seat in (1, 2)}

    def _worker(self, seat: int) -> LoadBalancer:
        memory = Memory(os.dup(self.memory.descriptor), self.memory.areas)
        sharing = Sharing(seat=seat, memory=memory)
        return LoadBalancer(self.control.config, plugins=PLUGINS, role="worker", sharing=sharing)

    def put_down(self) -> None:
        for seat, worker in self.workers.items():
            memory = worker.sharing.memory
            assert memory is not None
            memory.follow(self.memory.areas)
            Counters(memory, self.sums.counters.name, Layout(worker)).write(seat)

    def apply(self, tree: dict[str, Any]) -> None:
        self.control.apply(config(tree))
        self.sums.follow()
        for worker in self.workers.values():
            worker.apply(config(tree))

    def collect(self) -> None:
        self.sums._due = 0.0
        self.sums.collect(self.workers)

    def counted(self, host: str = "a.example") -> tuple[int, list[int], list[int]]:
        route = self.control.routes[host]
        backends = route.pool.backends
        return route.requests, [each.requests for each in backends], [each.in_flight for each in backends]


def serve(worker: LoadBalancer, requests: int, *, in_flight: int = 0, host: str = "a.example") -> None:
    route = worker.routes[host]
    route.requests += requests
    route.pool.backends[0].requests += requests
    route.pool.backends[0].in_flight = in_flight


def test_the_sum_of_the_workers_stands_in_the_control_process_s_own_objects() -> None:
    node = Node()
    serve(node.workers[1], 3, in_flight=2)
    serve(node.workers[2], 4, in_flight=1)
    node.put_down()
    node.collect()
    assert node.counted() == (7, [7, 0], [3, 0])
    node.collect()
    assert node.counted() == (7, [7, 0], [3, 0]), "nothing is added twice"
    serve(node.workers[2], 1)
    node.put_down()
    node.collect()
    assert node.counted() == (8, [8, 0], [2, 0])


def test_what_a_worker_had_counted_outlives_it_and_what_it_had_in_flight_does_not() -> None:
    node = Node()
    serve(node.workers[1], 3, in_flight=2)
    serve(node.workers[2], 4, in_flight=1)
    node.put_down()
    del node.workers[1]
    node.sums.left(1, node.workers)
    assert node.counted() == (7, [7, 0], [1, 0])
    node.workers[1] = node._worker(1)
    serve(node.workers[1], 2)
    node.put_down()
    node.collect()
    assert node.counted() == (9, [9, 0], [1, 0]), "the next one in that seat begins at nothing"


def test_a_configuration_with_other_routes_loses_no_count() -> None:
    node = Node()
    serve(node.workers[1], 3)
    node.put_down()
    node.collect()
    before = node.sums.counters.name
    node.apply(MORE)
    assert node.sums.counters.name != before
    serve(node.workers[1], 1)
    serve(node.workers[2], 5, host="b.example")
    node.collect()
    assert node.counted() == (3, [3, 0], [0, 0]), "nobody has put anything down under the new layout yet"
    node.put_down()
    node.sums.release()
    assert before not in node.memory.areas
    node.collect()
    assert node.counted() == (4, [4, 0], [0, 0])
    assert node.counted("b.example") == (5, [5], [0])


def test_a_configuration_with_the_same_routes_keeps_the_layout() -> None:
    node = Node()
    serve(node.workers[1], 3)
    node.put_down()
    node.collect()
    before = node.sums.counters.name
    node.apply({**TREE, "no_route_status": 421})
    assert node.sums.counters.name == before
    serve(node.workers[1], 1)
    node.put_down()
    node.collect()
    assert node.counted() == (4, [4, 0], [0, 0])


def test_requests_without_a_route_count_too() -> None:
    node = Node()
    node.workers[1].engine.unmatched.requests += 2
    node.workers[2].routes["a.example"].plugin_errors += 1
    node.put_down()
    node.collect()
    assert node.control.engine.unmatched.requests == 2
    assert node.control.routes["a.example"].plugin_errors == 1
