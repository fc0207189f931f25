"""One response case, run in every way, and what must be true of each run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from tests.conformance.bench import WITHIN, Bench
from tests.conformance.case import GOOD, ResponseCase
from tests.conformance.clients import Connected, Fed
from tests.conformance.recorder import Script
from tests.conformance.splitting import places
from tests.support.wire import Cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.wire import Message

_numbers = count(1)
LANES = ("plain", "touched")


@dataclass(slots=True)
class Run:
    """One way to send a case."""

    case: ResponseCase
    lane: str
    pieces: list[bytes]
    before: bool = False
    """A good request stands before the one that is answered so."""
    behind: bool = False
    """One stands behind it."""
    socket: bool = False
    alone: bool = False
    """What comes too much comes while nobody uses the connection."""

    def __str__(self) -> str:
        pieces = [piece if len(piece) < 500 else piece[:500] + b"..." for piece in self.pieces[:60]]
        return f"{self.case.rule}: {self.case.name}, {self.lane}{' by socket' * self.socket}, as {pieces!r}"


def ways(case: ResponseCase) -> Iterator[Run]:
    """Every run of a case; the splits take turns on the two lanes, one of which changes every response."""
    raw = case.raw
    for lane in LANES:
        yield Run(case, lane, [raw])
        yield Run(case, lane, [raw], socket=True)
        yield Run(case, lane, [raw], before=True, behind=True)
        if len(raw) <= 1000:
            yield Run(case, lane, [raw[at : at + 1] for at in range(len(raw))], alone=case.ends > 0)
    yield Run(case, "plain", [raw], before=True, behind=True, socket=True)
    for number, at in enumerate(sorted(places(raw))):
        alone = 0 < case.ends <= at
        lane = LANES[number % 2]
        behind = number % 5 == 0 and not alone
        yield Run(case, lane, [raw[:at], raw[at:]], before=number % 3 == 0, behind=behind, alone=alone)


async def runs_of(bench: Bench, case: ResponseCase) -> int:
    """Run a case in every way; the number of runs."""
    bench.recorder.seen.clear()
    runs = list(ways(case))
    await bench.watched([_run(bench, run) for run in runs if not run.alone], together=24)
    for run in runs:
        if run.alone:
            await _run(bench, run)
    return len(runs)


async def _run(bench: Bench, run: Run) -> None:
    client = await bench.connect(run.lane) if run.socket else Fed(bench.maker(run.lane))
    target = b"/said/%d" % next(_numbers)
    script = bench.recorder.scripts[target] = Script(run.pieces, run.case.end)
    try:
        await client.send(GOOD * run.before + run.case.request.replace(b"%b", target) + GOOD * run.behind)
        await _check_client(run, client, script)
        await _check_link(run, script)
        _check_backend(run, bench, client.address.encode())
    except (AssertionError, Cut, TimeoutError) as problem:
        raise AssertionError(f"{run}: {problem!r}") from problem
    finally:
        client.leave()
        del bench.recorder.scripts[target]


async def _check_client(run: Run, client: Fed | Connected, script: Script) -> None:
    case = run.case
    if run.before:
        await _check_good(client)
    try:
        answer = await client.answer(case.request.split(b" ", 1)[0], within=WITHIN)
    except Cut as cut:
        if not case.cut:
            raise
        came = b"" if cut.message is None else cut.message.body[:5]
        if not b"hello".startswith(came):
            raise AssertionError(f"{came!r} before the cut") from cut
        return
    assert not case.cut, f"whole, and should be cut: {bytes(answer.raw)!r}"
    _check_answer(run, client, answer)
    if not case.kept:
        assert await client.end(within=WITHIN) == b""
        return
    if run.behind:
        await _check_good(client)
    if run.alone:
        await _check_link(run, script)
    await client.send(GOOD)
    await _check_good(client)


def _check_answer(run: Run, client: Fed | Connected, answer: Message) -> None:
    case = run.case
    assert answer.status == case.status, f"status {answer.status}: {bytes(answer.raw)[:500]!r}"
    assert answer.version == b"HTTP/1.1"
    interim = tuple(each.status for each in client.interim)
    assert interim == case.interim, f"interim responses {interim}"
    if case.body is None:
        assert b"hello" not in answer.raw, "bytes of a response that was refused"
        assert b"poison" not in answer.raw
    else:
        assert answer.body == case.body, f"body {answer.body!r}"
        touched = answer.all("x-touched")
        assert touched == ([b"response"] if run.lane == "touched" else []), touched
    assert len(answer.all("content-length")) + len(answer.all("transfer-encoding")) <= 1
    assert not answer.trailers
    for name, values in case.fields.items():
        assert answer.all(name) == list(values), f"{name} is {answer.all(name)}"
    present = [name for name in case.absent if name in answer]
    assert not present, f"the client saw {present}"
    closes = b"close" in answer.all("connection")
    assert closes == (not case.kept), f"connection: {answer.all('connection')}"


async def _check_good(client: Fed | Connected) -> None:
    answer = await client.answer(within=WITHIN)
    assert answer.status == 200, bytes(answer.raw)
    assert answer.body == b"%b GET /good" % client.address.encode(), "another's answer"


async def _check_link(run: Run, script: Script) -> None:
    """The backend's connection goes on or is closed, and was not used again where it must not be."""
    assert script.asked == 1, f"asked {script.asked} times"
    link = script.link
    assert link is not None
    if run.case.reused:
        assert not link.ended.is_set(), "the backend's connection was closed"
        return
    async with asyncio.timeout(WITHIN):
        await link.ended.wait()
    assert link.served == script.served, "the backend's connection was used again"


def _check_backend(run: Run, bench: Bench, address: bytes) -> None:
    seen = bench.recorder.seen.pop(address)
    kept = run.case.kept and not run.case.cut
    expected = run.before + 1 + ((run.behind + 1) if kept else 0)
    assert len(seen) == expected, f"the backend saw {[message.start for message in seen]}"
