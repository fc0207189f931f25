"""The race for a connection, with attempts that connect, fail and hang by script."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from lb_core.engine.eyeballs import HEAD_START, race


class Opened:
    """Stands for a connection."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.abandoned = False

    def abandon(self) -> None:
        self.abandoned = True


class Script:
    """What each address does: connect after so many seconds, or raise."""

    def __init__(self, **does: float | Exception) -> None:
        self.does = does
        self.begun: list[tuple[str, float]] = []
        self.opened: list[Opened] = []
        self.cancelled: list[str] = []
        self._since = asyncio.get_running_loop().time()

    async def open(self, address: str) -> Any:
        self.begun.append((address, round(asyncio.get_running_loop().time() - self._since, 2)))
        what = self.does[address]
        if isinstance(what, Exception):
            await asyncio.sleep(0)
            raise what
        try:
            await asyncio.sleep(what)
        except asyncio.CancelledError:
            self.cancelled.append(address)
            raise
        self.opened.append(Opened(address))
        return self.opened[-1]


async def run(addresses: list[str], open_one: Any, head_start: float = HEAD_START) -> tuple[str, Any]:
    return await race(addresses, open_one, head_start)


def test_the_head_start_is_what_the_standard_recommends() -> None:
    assert HEAD_START == 0.25


async def test_the_first_that_connects_wins_and_nobody_else_begins() -> None:
    script = Script(a=0.02, b=0.0)
    address, connection = await run(["a", "b"], script.open, 0.1)
    assert (address, connection) == ("a", script.opened[0])
    assert [name for name, _ in script.begun] == ["a"]


async def test_the_next_begins_after_the_head_start_and_the_slow_one_is_ended() -> None:
    script = Script(a=5.0, b=5.0, c=0.01)
    address, connection = await run(["a", "b", "c"], script.open, 0.05)
    assert address == "c"
    assert [name for name, _ in script.begun] == ["a", "b", "c"]
    assert [when for _, when in script.begun] == pytest.approx([0, 0.05, 0.1], abs=0.03)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(script.cancelled) == ["a", "b"]
    assert not script.opened[0].abandoned
    assert connection is script.opened[0]


async def test_a_failure_starts_the_next_at_once() -> None:
    script = Script(a=OSError(errno.ECONNREFUSED, "refused"), b=OSError(errno.ENETUNREACH, "no way"), c=0.0)
    assert (await run(["a", "b", "c"], script.open, 5.0))[0] == "c"
    assert script.begun[-1][1] < 0.05


async def test_the_slower_may_still_win() -> None:
    script = Script(a=0.12, b=5.0)
    assert (await run(["a", "b"], script.open, 0.05))[0] == "a"
    await asyncio.sleep(0.01)
    assert script.cancelled == ["b"]


async def test_of_two_that_connect_at_the_same_moment_one_is_closed() -> None:
    gate = asyncio.Event()
    opened: list[Opened] = []

    async def both(address: str) -> Any:
        await gate.wait()
        opened.append(Opened(address))
        return opened[-1]

    racing = asyncio.create_task(run(["a", "b"], both, 0.01))
    await asyncio.sleep(0.05)
    gate.set()
    address, connection = await racing
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(opened) == 2
    assert {each.address for each in opened if not each.abandoned} == {address}
    assert connection in opened


async def test_everybody_failing_is_one_error_that_names_them_all() -> None:
    script = Script(a=OSError(errno.ECONNREFUSED, "refused"), b=OSError("odd"))
    with pytest.raises(ConnectionRefusedError) as error:
        await run(["a", "b"], script.open)
    assert error.value.errno == errno.ECONNREFUSED
    assert error.value.strerror == "a: Connection refused; b: odd"


async def test_what_is_no_failure_to_connect_is_raised_at_once() -> None:
    script = Script(a=5.0, b=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await run(["a", "b"], script.open, 0.01)
    await asyncio.sleep(0.01)
    assert script.cancelled == ["a"]


async def test_who_gives_up_leaves_no_attempt_behind() -> None:
    script = Script(a=5.0, b=5.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await run(["a", "b"], script.open, 0.02)
    await asyncio.sleep(0.01)
    assert sorted(script.cancelled) == ["a", "b"]
