"""Pools of several workers: limits in the sum, who is served first, and what becomes of it in reloads and deaths."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from lb_core.backend import NO_LIMIT, Backend
from lb_core.pool import Pool
from lb_core.pool_numbers import FIRST, LOOKED, NumberedPool, size_for
from lb_core.shared_pool import PATIENCE, PoolKinds, SharedPool
from lb_core.sharing import Memory, Sharing
from lb_core.sharing.limited import LimitedBackend
from lb_core.testing.together import Together


def silent(event: object) -> None:
    """Nobody is told."""


class Node:
    """One pool in a control process and in its workers, given the same backends."""

    def __init__(self, workers: int = 2, **limits: int) -> None:
        self.together = Together(workers)
        self.in_use: set[str] = set()
        self.control = NumberedPool("p", self.together.control, self.in_use, notify=silent)
        self.pools = [SharedPool("p", worker, notify=silent) for worker in self.together.workers]
        self.apply(**(limits or {"one": 4}))

    def apply(self, **limits: int) -> None:
        for pool in (self.control, *self.pools):
            known = {backend.name: backend for backend in pool.backends}
            made = [known.get(name) or Backend(name, "h", 1, id=f"p/{name}") for name in limits]
            for backend in made:
                pool.set_limit(backend, limits[backend.name] or NO_LIMIT)
            pool.replace(made)

    def __getitem__(self, worker: int) -> Backend:
        return self.pools[worker].backends[0]

    def take(self, worker: int) -> bool:
        """As the engine does it."""
        backend = self[worker]
        if backend.in_flight >= backend.limit:
            return False
        backend.in_flight += 1
        return True

    def end(self, worker: int) -> None:
        backend = self[worker]
        backend.in_flight -= 1
        if backend.freed is not None:
            backend.freed()


class Request:
    """Waits in a pool, and takes a place in its turn."""

    def __init__(self, pool: SharedPool, served: list[str], name: str) -> None:
        self.pool, self.served, self.name = pool, served, name
        pool.wait(self)

    def take_turn(self) -> None:
        backend = self.pool.backends[0]
        if backend.in_flight >= backend.limit:
            self.pool.wait(self)
            return
        backend.in_flight += 1
        self.served.append(self.name)


async def until(condition: Callable[[], object], within: float = 2.0) -> float:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + within, "not in time"
        await asyncio.sleep(0.001)
    return time.monotonic() - begin


def test_each_process_has_the_kind_of_pool_it_needs() -> None:
    memory = Memory()
    kinds = [
        PoolKinds(sharing, notify=silent).make("p")
        for sharing in (Sharing(), Sharing(memory=memory), Sharing(seat=1, memory=memory))
    ]
    assert [type(pool) for pool in kinds] == [Pool, NumberedPool, SharedPool]


async def test_the_limit_holds_for_the_sum() -> None:
    node = Node(workers=3)
    assert [node.take(worker) for worker in (0, 1, 2, 0)] == [True] * 4
    assert [node.take(worker) for worker in (0, 1, 2)] == [False] * 3
    assert [pool.with_room(pool.candidates) for pool in node.pools] == [None] * 3
    node.end(2)
    assert [node.take(1), node.take(0)] == [True, False]


async def test_a_backend_without_limit_is_a_plain_one() -> None:
    node = Node(one=0, two=3)
    assert [type(backend) for backend in node.pools[0].backends] == [Backend, LimitedBackend]
    assert node[0].limit == NO_LIMIT
    node[0].in_flight += 7
    node.apply(one=8, two=0)
    assert [type(backend) for backend in node.pools[0].backends] == [LimitedBackend, Backend]
    assert (node[0].in_flight, node[1].limit) == (7, 1)
    node.apply(one=0, two=0)
    assert (type(node[0]), node[0].in_flight, node[1].limit) == (Backend, 7, NO_LIMIT)


async def test_a_place_that_was_claimed_and_not_taken_is_free_again() -> None:
    node = Node(one=1)
    assert node[0].limit == 1  # somebody looks, and does not take it
    assert node[1].limit == 0
    await asyncio.sleep(0)
    assert node[1].limit == 1


async def test_of_several_places_no_more_are_taken_than_there_are() -> None:
    node = Node(workers=3, one=2)
    looked = [node[worker].limit > 0 for worker in range(3)]  # all three look before anybody takes one
    assert looked == [True, True, False]


async def test_a_worker_that_dies_frees_its_places() -> None:
    node = Node(one=2)
    assert node.take(1)
    assert node.take(1)
    assert not node.take(0)
    node.together.control.seat_gone(2)
    assert node.take(0)
    assert node.take(0)


async def test_half_open_one_probe_in_all_workers() -> None:
    node = Node(one=0)
    for worker, lasting in enumerate((5, 2)):
        node[worker].in_flight = lasting
        node.pools[worker].restrict(node[worker], lasting + 1, lasting=lasting)
    assert [node.take(0), node.take(1), node.take(0)] == [True, False, False]
    node.end(0)
    assert [node.take(1), node.take(0)] == [True, False]
    node.end(1)
    for worker in (0, 1):
        node.pools[worker].restrict(node[worker], None)
        assert type(node[worker]) is Backend


async def test_a_restriction_and_a_limit_hold_together() -> None:
    node = Node(one=4)
    for worker in (0, 1):
        node[worker].in_flight = 2 - worker
        node.pools[worker].restrict(node[worker], node[worker].in_flight + 3, lasting=node[worker].in_flight)
    assert [node.take(1), node.take(0), node.take(1)] == [True, False, False]


async def test_who_waits_here_is_served_when_a_request_ends_elsewhere() -> None:
    node = Node(one=1)
    assert node.take(0)
    served: list[str] = []
    Request(node.pools[1], served, "b")
    await asyncio.sleep(0.02)
    assert served == []
    node.end(0)
    await until(lambda: served == ["b"], within=0.5)
    assert node.pools[1].queue.maxlen is None
    assert not node.pools[1].queue


async def test_who_has_waited_longest_goes_first_wherever_it_waits() -> None:
    node = Node(one=1)
    assert node.take(0)
    served: list[str] = []
    for name, worker in (("first", 1), ("second", 0), ("third", 1), ("fourth", 0)):
        Request(node.pools[worker], served, name)
        await asyncio.sleep(0.008)
    holder = 0
    for count, worker in enumerate((1, 0, 1, 0), start=1):
        node.end(holder)
        await until(lambda count=count: len(served) == count)
        holder = worker
    assert served == ["first", "second", "third", "fourth"]


async def test_a_request_that_has_just_come_does_not_pass_those_that_wait() -> None:
    node = Node(one=1)
    assert node.take(0)
    served: list[str] = []
    Request(node.pools[1], served, "waits")
    await asyncio.sleep(0.008)
    node[0].in_flight -= 1  # a place is free, and worker 1 has not looked yet
    assert not node.take(0)
    await until(lambda: served == ["waits"])


async def test_nobody_waits_for_a_worker_that_hangs() -> None:
    node = Node(one=1)
    assert node.take(0)
    Request(node.pools[1], [], "hangs")
    slots = node.pools[1]._table.slots  # type: ignore[union-attr]
    node.pools[1]._looking = True
    slots.mine[FIRST] = time.monotonic_ns() - 10 * PATIENCE
    slots.mine[LOOKED] = time.monotonic_ns() - 2 * PATIENCE
    node.end(0)
    assert node.take(0)


async def test_who_leaves_the_queue_keeps_nobody_waiting() -> None:
    node = Node(one=1)
    assert node.take(0)
    gives_up = Request(node.pools[1], [], "gives up")
    await asyncio.sleep(0.008)
    node.pools[1].leave_queue(gives_up)
    node.end(0)
    assert node.take(0)


async def test_a_request_that_was_too_slow_stays_the_first() -> None:
    node = Node(one=1)
    assert node.take(0)
    served: list[str] = []
    first, _ = Request(node.pools[1], served, "first"), Request(node.pools[1], served, "second")
    node.pools[1].queue.remove(first)
    node.pools[1].wait(first)  # what take_turn does when the place has just gone
    node.end(0)
    await until(lambda: served)
    assert served == ["first"]


async def test_a_reload_keeps_what_is_counted() -> None:
    node = Node(one=4)
    assert node.take(0)
    assert node.take(1)
    many = {"one": 4, **{f"more{number}": 1 for number in range(100)}}
    node.apply(**many)
    assert size_for(101) > size_for(1)
    assert [node.take(0), node.take(1), node.take(0)] == [True, True, False]
    node.apply(one=3)
    assert not node.take(1)
    for worker in (0, 1, 0, 1):
        node.end(worker)
    assert [node.take(0), node.take(1), node.take(1), node.take(0)] == [True, True, True, False]


async def test_a_pool_that_is_gone_counts_nowhere() -> None:
    node = Node(one=2)
    assert node.take(0)
    gone, slots = node[0], node.pools[0]._table.slots  # type: ignore[union-attr]
    for pool in (node.control, *node.pools):
        pool.close()
    assert not any(slots.mine)
    gone.in_flight -= 1
    assert not any(slots.mine)
    assert type(gone) is Backend
    assert not node.in_use


async def test_a_backend_that_control_does_not_know_is_limited_in_each_worker() -> None:
    node = Node(one=2)
    stranger = Backend("new", "h", 2, id="p/new", max_connections=1)
    node.pools[0].replace([*node.pools[0].backends, stranger])
    assert type(stranger) is Backend
    assert stranger.limit == 1


@pytest.mark.parametrize(("backends", "size"), [(0, 128), (63, 128), (64, 256), (5000, 16384)])
def test_a_pool_has_twice_the_numbers_it_needs(backends: int, size: int) -> None:
    assert size_for(backends) == size


async def test_the_memory_of_a_pool_that_is_gone_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb_core.pool_numbers.REST", 0.02)
    node = Node(one=1)
    memory = node.together.control.memory
    assert memory is not None
    (area,) = node.in_use
    node.control.close()
    assert area in memory.areas
    await until(lambda: area not in memory.areas)


async def test_a_pool_that_comes_back_in_time_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb_core.pool_numbers.REST", 0.02)
    node = Node(one=1)
    memory = node.together.control.memory
    assert memory is not None
    (area,) = node.in_use
    node.control.close()
    again = NumberedPool("p", node.together.control, node.in_use, notify=silent)
    again.replace([Backend("one", "h", 1, id="p/one")])
    await asyncio.sleep(0.05)
    assert area in memory.areas
