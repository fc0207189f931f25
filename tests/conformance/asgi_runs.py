"""The request cases through uvicorn's own protocol, with the balancer as its ASGI application.

What uvicorn refuses never reaches us, and is refused all the same. What it takes differently is marked in the case; of
those only the invariants are checked: that the backend sees nothing malformed, and each client its own answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tests.conformance.bench import WITHIN, Bench, check_seen
from tests.conformance.case import GOOD, RequestCase, Seen
from tests.conformance.clients import Fed
from tests.conformance.request_runs import GOOD_SEEN, Run
from tests.support.wire import Cut, Message

FRAMING = ("content-length", "transfer-encoding")

OTHERWISE: dict[str, tuple[str, ...]] = {
    "takes versions and line ends that we refuse": (
        "version: HTTP/2.0",
        "version: HTTP/0.9",
        "version: none",
        "version: ICE/1.0",
        "blanks in the request line: two before the target",
        "blanks in the request line: two before the version",
        "empty lines before a request: five",
        "empty lines before a request: forty",
        "empty lines before a request: one of LF",
        "empty lines before a request: one of CR",
        "empty lines before a request: one of LF CR",
    ),
    "drops fragments": (
        "origin form: a fragment",
        "origin form: an empty fragment",
        "origin form: a fragment in the query",
        "absolute form: a fragment",
    ),
    "reads the path of an absolute target alone": (
        "absolute form: no Host beside it",
        "absolute form: a user",
        "absolute form: a user and a password",
        "absolute form: ftp",
    ),
    "reads chunks by rules of its own": (
        "chunk extensions: blanks around",
        "trailer fields: one without end",
        "trailer fields: without number",
    ),
    "ends the connection by rules of its own": (
        "hop-by-hop fields: Proxy-Connection: close",
        "HTTP/1.0: keep-alive",
    ),
    "refuses what came in one read as a whole": (
        "pipelining: a bad one behind",
        "pipelining: a doubly framed one behind",
        "pipelining: garbage behind",
    ),
    "has limits of its own": (
        "limits of a head: a target too long",
        "limits of a head: an absolute target too long",
        "limits of a head: a head too long",
        "limits of a head: a name too long",
        "limits of a head: too many fields",
        "limits of a head: too many short fields",
    ),
}
"""What uvicorn treats otherwise, by reason; only the invariants are checked. Further ones are marked in their case."""
NEVER_ANSWERED: dict[str, tuple[str, ...]] = {
    "waits for the rest of a chunk of 2**63 bytes": (
        "chunks: size of 16 digits",
        "chunks: size of 16 digits, all bits",
    ),
    "waits for the end of extensions": ("chunk extensions: without end", "chunk extensions: without number"),
    "reads no body behind an Upgrade": ("Upgrade: with a body", "Upgrade: with a chunked body", "Upgrade: with POST"),
}
"""What cannot be run at all, by reason."""
_OTHERWISE = {name for names in OTHERWISE.values() for name in names}
SKIPPED = {name for names in NEVER_ANSWERED.values() for name in names}


def by_its_own_rules(case: RequestCase) -> bool:
    """Whether uvicorn treats a case otherwise than we do."""
    return bool(case.asgi) or f"{case.rule}: {case.name}" in _OTHERWISE


def maker(bench: Bench, lane: str) -> Callable[[], Any]:
    """What makes uvicorn's side of a connection."""
    config = uvicorn.Config(
        bench.lanes[lane].balancer,
        http="httptools",
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        log_config=None,
        access_log=False,
    )
    config.load()
    state = ServerState()
    return lambda: HttpToolsProtocol(config, state, {})


def ways(case: RequestCase) -> Iterator[Run]:
    """Every run of a case."""
    raw = case.raw
    for lane in case.lanes:
        yield Run(case, lane, (raw,))
        if lane != case.lanes[0]:
            continue
        yield Run(case, lane, (GOOD + raw,), before=True)
        if len(raw) <= 1000:
            yield Run(case, lane, tuple(raw[at : at + 1] for at in range(len(raw))))
        if case.seen and case.kept and not by_its_own_rules(case) and case.followed and b"pgrade" not in raw:
            yield Run(case, lane, (raw + GOOD,), behind=True)
    for at in range(1, len(raw), max(11, len(raw) // 8)):
        yield Run(case, case.lanes[-1], (raw[:at], raw[at:]))


async def runs_of(bench: Bench, case: RequestCase) -> int:
    """Run a case in every way; the number of runs."""
    bench.recorder.seen.clear()
    runs = list(ways(case))
    makers = {lane: maker(bench, lane) for lane in case.lanes}
    await bench.watched([_run(makers[run.lane], run) for run in runs])
    for run in runs:
        seen = bench.recorder.seen.pop(run.address, [])
        if not by_its_own_rules(case):
            _check_backend(run, seen)
    assert not bench.recorder.seen, f"the backend saw requests of nobody: {dict(bench.recorder.seen)}"
    return len(runs)


async def _run(make: Callable[[], Any], run: Run) -> None:
    client = Fed(make)
    run.address = client.address.encode()
    try:
        await client.send(*run.pieces)
        await _check_client(run, client)
    except (AssertionError, Cut, TimeoutError) as problem:
        raise AssertionError(f"embedded, {run}: {problem!r}") from problem
    finally:
        client.leave()


async def _check_client(run: Run, client: Fed) -> None:
    case = run.case
    if run.before:
        answer = await client.answer(within=WITHIN)
        if answer.status == 400 and (case.refused or by_its_own_rules(case)):
            return  # uvicorn has refused both before it had passed the first on
        _check_own(answer, run, GOOD_SEEN)
    if by_its_own_rules(case):
        answer = await client.answer(case.methods[0], within=WITHIN)
        assert answer.status != 200 or answer["x-client"] == run.address
        return
    for index, status in enumerate(case.answers):
        try:
            answer = await client.answer(case.methods[index], within=WITHIN)
        except Cut:
            if status < 400:
                raise
            return  # closed without a word: uvicorn had begun to answer something
        if status >= 400:
            assert answer.status >= 400, f"status {answer.status}: {bytes(answer.raw)!r}"
            return
        _check_own(answer, run, case.seen[index])
    if run.behind:
        _check_own(await client.answer(within=WITHIN), run, GOOD_SEEN)


def _check_own(answer: Message, run: Run, asked: Seen) -> None:
    assert answer.status == 200, f"status {answer.status}: {bytes(answer.raw)!r}"
    assert answer["x-client"] == run.address, f"the answer to {answer['x-client']!r}"
    if asked.method != b"HEAD":
        assert answer.body == b"%b %b %b" % (run.address, asked.method, asked.target), f"body {answer.body!r}"


def _check_backend(run: Run, seen: list[Message]) -> None:
    case = run.case
    seen = [message for message in seen if message.complete]
    expected = [GOOD_SEEN] * run.before + list(case.seen) + [GOOD_SEEN] * run.behind
    if case.answers[-1] >= 400:
        assert len(seen) <= len(expected), f"{run}: the backend saw {[message.start for message in seen]}"
    else:
        assert len(seen) == len(expected), f"{run}: the backend saw {[message.start for message in seen]}"
    for message, request in zip(seen, expected, strict=False):
        fields = {name: values for name, values in request.fields.items() if name not in FRAMING}
        absent = tuple(name for name in request.absent if name not in FRAMING)
        check_seen(message, Seen(request.method, request.target, request.body, fields, absent), run.lane, str(run))
