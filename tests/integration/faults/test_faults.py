"""Every fault of the table: what the client gets and when, how often the backend is asked, and that all goes on."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import hookimpl
from lb_core.engine import deadlines
from tests.integration.faults.modes import CUT, FAULTS, REFUSES, TIMEOUTS, WHOLE, Fault, Outcome
from tests.support.backends import Backend, Steps, refusing, unresponsive
from tests.support.balancing import Address, Running, balancing, tree, until
from tests.support.figures import note
from tests.support.wire import Cut, request, response

if TYPE_CHECKING:
    from lb_core.backend import Backend as Candidate
    from lb_core.exchange import Exchange

BODY = b"once only"
REQUESTS = {"GET": request("/get"), "POST": request("/post", BODY)}
GOOD = response(b"good")
SLACK = 0.3
"""For a busy machine."""


came_of: dict[str, list[tuple[str, bool, int, float]]] = defaultdict(list)
"""By the name of the fault: method, whether there were two backends, status and seconds."""


@pytest.fixture(autouse=True, scope="module")
def table() -> Iterator[None]:
    """Note a row a fault for the summary."""
    yield
    for name, rows in came_of.items():
        words = [f"{method} {status or 'cut'}{' (of two)' if two else ''}" for method, two, status, _ in rows]
        if len({status for _, _, status, _ in rows}) == 1:
            words = [str(rows[0][2] or "cut")]
        took = [1000 * seconds for *_, seconds in rows]
        note(f"fault: {name}", f"{', '.join(words)} after {min(took):.0f} to {max(took):.0f} ms")


class FaultyFirst:
    """Chooses the faulty backend as long as it may be chosen."""

    @hookimpl(tryfirst=True)
    def select_backend(self, exchange: Exchange, candidates: Sequence[Candidate]) -> Candidate | None:
        return next((each for each in candidates if each.name == "faulty"), None)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at deadlines more often than in production, so that timeouts can be short."""
    monkeypatch.setattr(deadlines, "PERIOD", 0.1)


@contextmanager
def faulty(does: Steps | str) -> Iterator[tuple[Address, Backend | None]]:
    """The faulty backend's address, and itself where it is one that is sent anything."""
    if isinstance(does, str):
        with refusing() if does == REFUSES else unresponsive() as address:
            yield address, None
    else:
        backend = Backend(does)
        yield backend, backend


async def outcome(balancer: Running, data: bytes) -> tuple[int, bytes]:
    """What a client gets: the status and the body, or CUT and what came of it."""
    try:
        answer = await balancer.ask(data)
    except Cut as cut:
        return CUT, cut.message.body if cut.message is not None else b""
    return answer.status, answer.body


def check_client(expected: Outcome, status: int, body: bytes) -> None:
    assert status == expected.status
    if status == CUT:
        assert b"part".startswith(body)
    elif status == 200:
        assert body in (b"good", b"x" * 1000)
    else:
        assert status in (502, 504)


async def check_backend(fault: Fault, expected: Outcome, backend: Backend, method: str) -> None:
    """It was sent the request as often as it may be, whole each time, and let go."""
    assert len(backend.requests) == expected.times
    assert all(message.method == method.encode() for message in backend.messages)
    assert backend.received.count(BODY) == (expected.times if method == "POST" else 0)
    if fault.lets_go:
        await until(lambda: all(each.ended.is_set() for each in backend.connections), within=0.1 + SLACK)


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize("two", [False, True], ids=["alone", "of two"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_fault(fault: Fault, two: bool, method: str) -> None:
    expected = (fault.of_two if two else fault.alone)[method == "POST"]
    good = Backend(GOOD)
    options: dict[str, Any] = {"timeouts": TIMEOUTS, "ejection": False, **fault.options}
    with faulty(fault.does) as (address, backend):
        async with good, backend or nullcontext():
            backends = {"faulty": address, **({"good": good} if two else {})}
            async with balancing(config=tree(backends, **options), plugins=[FaultyFirst()]) as balancer:
                begin = time.monotonic()
                status, body = await outcome(balancer, REQUESTS[method])
                took = time.monotonic() - begin
                check_client(expected, status, body)
                assert fault.takes[0] <= took < fault.takes[1] + SLACK
                await until(lambda: balancer.completed)
                assert balancer.last.flags[-1:] == ((expected.flag,) if expected.flag else ())
                assert len(good.requests) == (two and expected.flag == "retried")
                assert good.received.count(BODY) == (len(good.requests) if method == "POST" else 0)
                if backend is not None:
                    await check_backend(fault, expected, backend, method)
                    backend.script = WHOLE
                    assert await outcome(balancer, REQUESTS[method]) == (200, b"x" * 1000), "all is well again"
    came_of[fault.name].append((method, two, status, took))
