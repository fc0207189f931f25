"""Reasons to stop reading, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import permutations

import pytest

from lb_core.engine.flow import CONNECTING, PEER, PIPELINED, Reader, end_writing


class Collecting(Reader):
    """Keeps what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += data


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Collecting, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs:
        _, reader = await asyncio.get_running_loop().create_connection(Collecting, sock=ours)
        try:
            yield reader, theirs
        finally:
            reader.transport.abort()
            await asyncio.sleep(0)


async def settled(read: Callable[[], bytes], wanted: bytes) -> None:
    async with asyncio.timeout(5):
        while read() != wanted:
            await asyncio.sleep(0.005)


async def test_a_held_reader_reads_nothing_until_it_is_released() -> None:
    async with connected() as (reader, theirs):
        reader.hold(PEER)
        theirs.send(b"one")
        await asyncio.sleep(0.05)
        assert reader.read == b""
        reader.release(PEER)
        await settled(lambda: reader.read, b"one")


@pytest.mark.parametrize("order", list(permutations((PEER, CONNECTING, PIPELINED))))
async def test_the_last_reason_to_go_decides(order: tuple[int, ...]) -> None:
    async with connected() as (reader, theirs):
        for reason in (PEER, CONNECTING, PIPELINED, PEER):
            reader.hold(reason)
        theirs.send(b"one")
        for reason in order[:-1]:
            reader.release(reason)
            await asyncio.sleep(0.01)
            assert reader.read == b""
            assert reader.held
        reader.release(order[-1])
        await settled(lambda: reader.read, b"one")
        assert not reader.held


async def test_releasing_what_was_not_held_changes_nothing() -> None:
    async with connected() as (reader, theirs):
        reader.release(PEER)
        reader.hold(CONNECTING)
        reader.release(PEER)
        theirs.send(b"one")
        await asyncio.sleep(0.02)
        assert reader.read == b""
        reader.release(CONNECTING | PEER)
        await settled(lambda: reader.read, b"one")


async def test_a_connection_that_is_closing_is_left_alone() -> None:
    async with connected() as (reader, _):
        reader.hold(PEER)
        reader.transport.close()
        reader.release(PEER)
        reader.hold(CONNECTING)
        assert reader.held == CONNECTING
        reader.release(CONNECTING)
        assert not reader.held


async def test_the_end_of_writing_is_told_to_whoever_is_still_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for resets in (False, True):
            theirs = socket.create_connection(listening.getsockname())
            ours, _ = listening.accept()
            transport, reader = await asyncio.get_running_loop().create_connection(Collecting, sock=ours)
            reader.hold(PEER)  # so that nobody notices
            if resets:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                theirs.close()
            end_writing(transport)
            assert transport.is_closing() is resets
            if not resets:
                assert theirs.recv(1) == b""
                theirs.close()
            transport.abort()
            await asyncio.sleep(0)
