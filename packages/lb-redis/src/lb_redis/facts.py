"""Facts between nodes: what one learns about a backend, all know.

    a fact       is published at once and reaches every node in its sender's order; who is cut off misses it
    join         who joins asks, applies what the leader tells, and tells what only it knows
    gap          who finds that a node said something it did not hear asks that node
    comparison   every ten seconds the leader publishes digests of what it knows; who finds others asks for these

    ask      {"digests": …, "of": boot}         of: who shall answer; nothing for the leader, or anybody
    state    {"to": [boot …], "facts": …}       an answer to some who asked, or to everybody with "to": []
    digests  {"digests": …}

The leader answers within 50 ms, to all who have asked by then in one; another node only if nobody else has. Whoever
asks says what it knows, as digests, so where nothing has changed nothing travels.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any

from lb_redis.digest import differing, digests, within
from lb_redis.envelope import LARGEST_FACT, Envelope, Malformed, batches, facts_in, length_of, seal, unseal
from lb_redis.failures import LostRedis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lb_redis.client import Subscription
    from lb_redis.envelope import Fact
    from lb_redis.link import Link

log = logging.getLogger("lb.cluster")

MOST_WAITING = 2000
"""Messages that wait to be sent; the next is dropped, and made good for by the next comparison."""
GATHER = 0.05
SECOND_ROW = 0.4
"""Seconds after which somebody else answers for a leader that does not."""
ANSWER_WITHIN = 1.5
COMPARE_EVERY = 10.0
PING_EVERY = 2.0
GAP_AFTER = 0.3
LARGEST_SPREAD = 2.0


class Facts:
    """The channel of facts.

    `name` and `leads` say who this node is; `snapshots()` gives all facts, `deliver(topic, message)` takes one of
    another node. `hear(envelope)` gets what is of another kind. `nodes()` is how many there are.
    """

    def __init__(
        self,
        link: Link,
        *,
        name: Callable[[], str],
        leads: Callable[[], bool],
        nodes: Callable[[], int],
        snapshots: Callable[[], list[Fact]],
        deliver: Callable[[str, Any], None],
        hear: Callable[[Envelope], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._link = link
        self._name = name
        self._leads = leads
        self._nodes = nodes
        self._snapshots = snapshots
        self._deliver = deliver
        self._hear = hear
        self._jitter = jitter
        self._sequence = 0
        self._waiting: list[bytes] = []
        self._wake = asyncio.Event()
        self._heard: dict[str, int] = {}
        self._askers: dict[str, Mapping[str, Any]] = {}
        self._answering: asyncio.TimerHandle | None = None
        self._answered = asyncio.Event()
        self._told: list[Fact] = []
        self._settled: tuple[Any, Any] = ((), ())
        self._work: set[asyncio.Task[None]] = set()
        self._warned = False
        self._pong = asyncio.Event()

    # what this node says

    def publish(self, topic: str, message: object) -> None:
        """Tell a fact to the other nodes; never blocks and never raises."""
        if not self._link.joined:
            return  # the next join makes good for it
        if length_of(topic, message) > LARGEST_FACT:
            log.warning("a message of %s is too large, or no JSON, and is not told to other nodes", topic)
            self._link.figures.facts_dropped += 1
            return
        self.say("fact", {"topic": topic, "message": message})
        self._link.figures.facts_sent += 1

    def say(self, kind: str, body: Mapping[str, Any]) -> None:
        """Say something to the other nodes, as soon as what was said before is on its way."""
        self._sequence += 1
        data = seal(Envelope(self._name(), self._link.boot, self._sequence, kind, body))
        if len(self._waiting) >= MOST_WAITING:
            self._link.figures.facts_dropped += 1
            return
        self._waiting.append(data)
        self._wake.set()

    # its life while Redis is there

    async def run(self) -> None:
        """Hear and say until cancelled; ends where the link is lost."""
        link = self._link
        self._heard.clear()
        self._waiting.clear()
        self._askers.clear()
        self._settled = ((), ())
        try:
            subscription = await link.subscribe(link.keys.facts)
        except Exception as error:
            link.failed(error)
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                for part in (self._listen(subscription), self._send(), self._ping(subscription), self._keep_equal()):
                    tasks.create_task(part)
        except* LostRedis:
            pass
        finally:
            if self._answering is not None:
                self._answering.cancel()
                self._answering = None
            for task in self._work:
                task.cancel()

    async def _listen(self, subscription: Subscription) -> None:
        while True:
            try:
                found = await subscription.get_message(ignore_subscribe_messages=True, timeout=None)
            except Exception as error:
                raise self._link.failed(error) from error
            if found is None:
                continue
            if found["type"] == "pong":
                self._pong.set()
            elif found["type"] == "message":
                self._link.figures.bytes_received += len(found["data"])
                self._take(found["data"])

    async def _ping(self, subscription: Subscription) -> None:
        """See whether the subscription still lives: nothing else would tell a silent one from a dead one."""
        while True:
            await asyncio.sleep(PING_EVERY)
            self._pong.clear()
            try:
                await subscription.ping()
                async with asyncio.timeout(max(self._link.patience, PING_EVERY)):
                    await self._pong.wait()
            except Exception as error:
                raise self._link.failed(error) from error

    async def _send(self) -> None:
        channel = self._link.keys.facts
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, []
            for answer in await self._link.pipeline([("PUBLISH", channel, data) for data in waiting]):
                if isinstance(answer, Exception):
                    raise self._link.failed(answer)

    async def _keep_equal(self) -> None:
        await self._reconcile(tell=True)
        while True:
            await asyncio.sleep(COMPARE_EVERY * (0.9 + self._jitter() / 5))
            if self._leads():
                self.say("digests", {"digests": digests(self._snapshots())})

    # what others say

    def _take(self, data: object) -> None:
        try:
            envelope = unseal(data)
        except Malformed as error:
            self._link.figures.facts_dropped += 1
            if not self._warned:
                self._warned = True
                log.warning("somebody publishes what is no fact on %s: %s", self._link.keys.facts, error)
            return
        if envelope.boot == self._link.boot:
            return
        self._note_gap(envelope)
        body = envelope.body
        match envelope.kind:
            case "fact" if isinstance(body.get("topic"), str) and "message" in body:
                self._link.figures.facts_received += 1
                self._deliver(body["topic"], body["message"])
            case "state":
                self._take_state(body)
            case "ask":
                self._take_question(envelope)
            case "digests" if not self._leads():
                self._compare(body.get("digests"))
            case _:
                self._hear(envelope)

    def _note_gap(self, envelope: Envelope) -> None:
        last = self._heard.get(envelope.boot)
        if len(self._heard) > 4096:
            self._heard.clear()
        self._heard[envelope.boot] = envelope.sequence
        if last is not None and envelope.sequence > last + 1:
            self._start(self._reconcile(of=envelope.boot, after=GAP_AFTER))

    def _take_state(self, body: Mapping[str, Any]) -> None:
        to = body.get("to")
        receivers = to if isinstance(to, list) else []
        for boot in receivers:
            if isinstance(boot, str):
                self._askers.pop(boot, None)  # somebody has answered them
        if receivers and self._link.boot not in receivers:
            return
        facts = facts_in(body)
        for topic, message in facts:
            self._link.figures.facts_received += 1
            self._deliver(topic, message)
        if receivers:
            self._told += facts
            if body.get("last") is not False:
                self._answered.set()

    def _take_question(self, envelope: Envelope) -> None:
        of, known = envelope.body.get("of"), envelope.body.get("digests")
        if (of and of != self._link.boot) or not isinstance(known, dict):
            return
        first = bool(of) or self._leads()
        self._askers[envelope.boot] = known
        if self._answering is None:
            pause = GATHER if first else SECOND_ROW + self._jitter() * self._spread()
            self._answering = asyncio.get_running_loop().call_later(pause, self._answer)

    def _answer(self) -> None:
        self._answering = None
        askers, self._askers = self._askers, {}
        if not askers:
            return
        facts = self._snapshots()
        own = digests(facts)
        buckets = set().union(*(differing(known, own) for known in askers.values()))
        self._tell(within(facts, buckets), list(askers))

    def _compare(self, theirs: object) -> None:
        if not isinstance(theirs, dict):
            return
        own = digests(self._snapshots())
        pair = (theirs, own)
        if differing(theirs, own) and pair != self._settled:  # what an answer does not change is not asked for again
            self._settled = pair
            self._start(self._reconcile(after=self._jitter() * self._spread()))

    # making equal

    async def _reconcile(self, *, of: str = "", tell: bool = False, after: float = 0.0) -> None:
        """Ask, and apply what is answered; with `tell`, tell everybody what only this node knows then."""
        await asyncio.sleep(after)
        self._told = []
        self._answered.clear()
        known = digests(self._snapshots())
        self.say("ask", {"digests": known, "of": of})
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._answered.wait()
        except TimeoutError:
            pass  # alone, or the other one is gone
        if not tell:
            return
        facts = self._snapshots()
        theirs = digests(self._told)
        asked_for = {bucket for bucket in digests(facts) if bucket in theirs or bucket not in known}
        news = differing(theirs, digests(within(facts, asked_for)))
        alone = not self._answered.is_set()
        if alone or news:
            self._tell(facts if alone else within(facts, news), [])

    def _tell(self, facts: Iterable[Fact], to: list[str]) -> None:
        portions = list(batches(facts)) or [[]]
        for number, portion in enumerate(portions, 1):
            self.say("state", {"to": to, "facts": portion, "last": number == len(portions)})

    def _spread(self) -> float:
        """Over how many seconds the nodes spread what all of them might do at once."""
        return min(0.2 + self._nodes() / 200, LARGEST_SPREAD)

    def _start(self, work: Any) -> None:
        if len(self._work) >= 4:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
