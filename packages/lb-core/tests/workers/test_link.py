"""The link between two processes, over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from lb_core.workers import link as link_module
from lb_core.workers.link import Link

if TYPE_CHECKING:
    import pytest


class End:
    """One end, which keeps what it is told."""

    def __init__(self, connection: socket.socket) -> None:
        self.heard: list[Any] = []
        self.descriptors: list[list[int]] = []
        self.lost = 0
        self.link = Link(connection, self._hear, self._lose)

    def _hear(self, message: Any, descriptors: list[int]) -> None:
        self.heard.append(message)
        self.descriptors.append(descriptors)

    def _lose(self) -> None:
        self.lost += 1


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[End, End]]:
    ends = [End(each) for each in socket.socketpair()]
    try:
        yield ends[0], ends[1]
    finally:
        for each in ends:
            each.link.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_messages_arrive_in_their_order_whatever_their_size() -> None:
    sent: list[Any] = [b"x" * size for size in (0, 1, 5_000_000, 3, 200_000)] + [{"a": 1}, None]
    async with pair() as (one, other):
        for message in sent:
            one.link.send(message)
        await until(lambda: len(other.heard) == len(sent))
        assert other.heard == sent


async def test_both_may_talk_at_once_without_waiting_for_each_other() -> None:
    async with pair() as (one, other):
        for number in range(200):
            one.link.send((number, b"x" * 50_000))
            other.link.send((number, b"y" * 50_000))
        await until(lambda: len(one.heard) == len(other.heard) == 200)
        assert [number for number, _ in one.heard] == list(range(200))


async def test_descriptors_come_with_their_message() -> None:
    async with pair() as (one, other):
        files = [os.memfd_create(f"{number}") for number in range(3)]
        for number, file in enumerate(files):
            os.write(file, b"%d" % number)
        one.link.send(b"x" * 3_000_000)  # what follows has to wait
        one.link.send("two", files[:2])
        one.link.send("none")
        one.link.send("one", files[2:])
        for file in files:
            os.close(file)  # the link has copies
        await until(lambda: len(other.heard) == 4)
        assert other.heard[1:] == ["two", "none", "one"]
        found = [[os.pread(each, 9, 0) for each in given] for given in other.descriptors]
        assert found == [[], [b"0", b"1"], [], [b"2"]]
        for given in other.descriptors:
            for each in given:
                assert not os.get_inheritable(each)
                os.close(each)


async def test_the_end_of_the_other_side_is_told_once() -> None:
    async with pair() as (one, other):
        other.link.close()
        await until(lambda: one.lost)
        one.link.send("nobody hears this")
        await asyncio.sleep(0.01)
        assert (one.lost, other.lost) == (1, 0)


async def test_what_was_said_before_the_end_is_heard() -> None:
    async with pair() as (one, other):
        for number in range(50):
            other.link.send((number, b"x" * 1000))
        other.link.close()
        one.link.finish()
        assert [number for number, _ in one.heard] == list(range(50))
        assert not one.lost, "it was closed here"


async def test_a_message_that_cannot_be_taken_does_not_end_the_link(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    heard: list[Any] = []

    def hear(message: Any, descriptors: list[int]) -> None:
        if message == "bad":
            raise ValueError("no")
        heard.append(message)

    one, other = Link(ours, hear, lambda: None), End(theirs)
    try:
        other.link.send("bad")
        other.link.send("good")
        await until(lambda: heard)
        assert heard == ["good"]
        assert "could not be taken" in caplog.text
    finally:
        one.close()
        other.link.close()


async def test_what_waits_for_a_stopped_process_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "KEPT_MOST", 1_000_000)
    ours, theirs = socket.socketpair()
    one = End(ours)
    try:
        for _ in range(100):
            one.link.send(b"x" * 100_000)
        assert one.link._waiting <= 1_100_100
        assert caplog.text.count("a process takes no messages") == 1
    finally:
        one.link.close()
        theirs.close()
