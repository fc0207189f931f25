"""One request case, run in every way, and what must be true of each run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance.bench import WITHIN, Bench, check_seen
from tests.conformance.case import GOOD, RequestCase, Seen
from tests.conformance.clients import Connected, Fed
from tests.conformance.splitting import places
from tests.support.wire import Cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.wire import Message

_REQUEST_LINE = re.compile(rb"(?:\r\n)*[^\r\n]*\r\n").match
_MARK = b"Keep-Alive: timeout=5\r\n"
GOOD_SEEN = Seen(target=b"/good")


@dataclass(slots=True)
class Run:
    """One way to send a case."""

    case: RequestCase
    lane: str
    pieces: tuple[bytes, ...]
    before: bool = False
    """A good request stands before the case."""
    behind: bool = False
    """One stands behind it."""
    socket: bool = False
    address: bytes = b""
    kept: bool = False
    """Whether the connection went on."""

    def __str__(self) -> str:
        return f"{self.case.rule}: {self.case.name}, {self.lane}{' by socket' * self.socket}, as {list(self.pieces)!r}"

    @property
    def requests(self) -> list[Seen]:
        """What the backend must see, in order."""
        good = [GOOD_SEEN]
        return good * self.before + list(self.case.seen) + good * (self.behind and bool(self.case.kept))


def marked(raw: bytes) -> bytes | None:
    """The case with a harmless field that makes its request take the general path; None where none can be put in."""
    found = _REQUEST_LINE(raw)
    return None if found is None else raw[: found.end()] + _MARK + raw[found.end() :]


def ways(case: RequestCase) -> Iterator[Run]:
    """Every run of a case.

    The roads are the lanes, each with and without the mark. Every road gets the case whole and pipelined; the splits
    take turns, so that each place is split once and every road gets its share.
    """
    data = (case.raw, marked(case.raw) if case.marked else None)
    roads = [(lane, each) for lane in case.lanes for each in data if each is not None]
    for number, (lane, each) in enumerate(roads):
        yield Run(case, lane, (each,))
        yield Run(case, lane, (GOOD + each,), before=True)
        if case.followed:
            yield Run(case, lane, (each, GOOD), behind=True)
            yield Run(case, lane, (GOOD + each + GOOD,), before=True, behind=True)
        if len(each) <= 1000 and number in (0, len(roads) - 1):
            yield Run(case, lane, tuple(each[at : at + 1] for at in range(len(each))))
    for number, lane in enumerate(case.lanes):
        each = roads[number][1]
        yield Run(case, lane, (each,), socket=True)
        yield Run(case, lane, (GOOD + each + GOOD * case.followed,), before=True, behind=case.followed, socket=True)
    for at in range(1, max(len(each) for _, each in roads)):
        lane, each = roads[at % len(roads)]
        if at in places(each):
            before = at % 3 == 0
            yield Run(case, lane, (GOOD * before + each[:at], each[at:]), before=before)


async def runs_of(bench: Bench, case: RequestCase) -> int:
    """Run a case in every way; the number of runs."""
    bench.recorder.seen.clear()
    runs = list(ways(case))
    await bench.watched([_run(bench, run) for run in runs])
    for run in runs:
        _check_backend(run, bench.recorder.seen.pop(run.address, []))
    assert not bench.recorder.seen, f"the backend saw requests of nobody: {dict(bench.recorder.seen)}"
    return len(runs)


async def _run(bench: Bench, run: Run) -> None:
    client = await bench.connect(run.lane) if run.socket else Fed(bench.maker(run.lane))
    run.address = client.address.encode()
    try:
        await client.send(*run.pieces)
        await _check_client(run, client)
    except (AssertionError, Cut, TimeoutError) as problem:
        raise AssertionError(f"{run}: {problem!r}") from problem
    finally:
        client.leave()


async def _check_client(run: Run, client: Fed | Connected) -> None:
    case = run.case
    if run.before:
        _check_own(await client.answer(within=WITHIN), run, b"GET", b"/good")
    for index, status in enumerate(case.answers):
        answer = await client.answer(case.methods[index], within=WITHIN)
        assert answer.status == status, f"status {answer.status} for {status}: {bytes(answer.raw)!r}"
        if status == 200:
            _check_own(answer, run, case.seen[index].method, case.seen[index].target)
        elif case.refused and case.kept is False:
            assert answer["connection"] == b"close"
        run.kept = b"close" not in answer.all("connection") if case.kept is None else case.kept
    if run.behind and case.kept:
        _check_own(await client.answer(within=WITHIN), run, b"GET", b"/good")
    if run.kept:
        assert not client.ended, "the connection was closed"
        if case.answers[-1] == 101:
            return
        await client.send(GOOD)
        _check_own(await client.answer(within=WITHIN), run, b"GET", b"/good")
    else:
        rest = await client.end(within=WITHIN)
        assert rest == b"", f"bytes behind the last answer: {rest!r}"


def _check_own(answer: Message, run: Run, method: bytes, target: bytes) -> None:
    """The answer of the backend is the one to this client's own request."""
    assert answer.status == 200, f"status {answer.status}: {bytes(answer.raw)!r}"
    assert answer["x-client"] == run.address, f"the answer to {answer['x-client']!r}"
    if method != b"HEAD":
        assert answer.body == b"%b %b %b" % (run.address, method, target), f"body {answer.body!r}"
    assert answer.all("x-touched") == ([b"response"] if run.lane == "touched" else [])


def _check_backend(run: Run, seen: list[Message]) -> None:
    expected = run.requests
    if run.kept and run.case.answers[-1] != 101:
        expected = [*expected, GOOD_SEEN]  # the one that showed that the connection goes on
    if run.case.partial:
        seen = [message for message in seen if message.complete]
    assert len(seen) == len(expected), f"{run}: the backend saw {[bytes(message.raw) for message in seen]}"
    for message, request in zip(seen, expected, strict=True):
        check_seen(message, request, run.lane, str(run))
        assert message.complete, f"{run}: a request without its end"
