"""Facts between nodes: what one learns about a backend, all know.

    a fact       is published at once and reaches every node in its sender's order; who is cut off misses it
    join         who joins asks the leader, applies what that tells, and tells everybody what only it knows
    gap          who finds that a node said something it did not hear asks that node
    comparison   every ten seconds the leader publishes digests of what it knows; who finds others asks for these

    ask      {"digests": ...}              to the leader, or to everybody where none is known or it does not answer
    state    {"facts": ..., "to": boot, "digests": ...}      an answer; or what only one node knows, to everybody
    digests  {"digests": ...}

An answer comes within 50 ms from whoever is asked alone, and otherwise from whoever is first, after a random pause. Who
asks says what it knows, as digests, so where nothing has changed nothing travels.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lb_redis.digest import differing, digests, within
from lb_redis.envelope import LARGEST_FACT, Envelope, Malformed, batches, facts_in, length_of, seal, unseal
from lb_redis.failures import LostRedis

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from lb_redis.client import Subscription
    from lb_redis.envelope import Fact
    from lb_redis.link import Link

log = logging.getLogger("lb.cluster")

MOST_WAITING = 2000
"""Messages that wait to be sent; the next is dropped, and made good for by the next comparison."""
GATHER = 0.05
SECOND_ROW = 0.4
"""Seconds after which somebody else answers for a leader that does not."""
ANSWER_WITHIN = 1.0
MOST_SENDERS = 4096
MOST_AT_ONCE = 4
COMPARE_EVERY = 10.0
PING_EVERY = 2.0
GAP_AFTER = 0.3
LARGEST_SPREAD = 2.0


class Facts:
    """The channel of facts.

    `name()` is this node's and `leader()` the run that leads, empty where nobody does; `nodes()` is how many there are.
    `snapshots()` gives all facts, `deliver(topic, message)` takes one of another node; `hear(envelope)` gets what is of
    another kind.
    """

    def __init__(
        self,
        link: Link,
        *,
        name: Callable[[], str],
        leader: Callable[[], str],
        nodes: Callable[[], int],
        snapshots: Callable[[], list[Fact]],
        deliver: Callable[[str, Any], None],
        hear: Callable[[Envelope], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._link = link
        self._name = name
        self._leader = leader
        self._nodes = nodes
        self._snapshots = snapshots
        self._deliver = deliver
        self._hear = hear
        self._jitter = jitter
        self._sequence = 0
        self._waiting: list[tuple[str, bytes]] = []
        self._wake = asyncio.Event()
        self._heard: dict[str, int] = {}
        self._askers: dict[str, asyncio.TimerHandle] = {}
        self._asking = asyncio.Lock()
        self._answer: asyncio.Future[Mapping[str, Any]] | None = None
        self._compared: tuple[Any, Any] = ((), ())
        self._work: set[asyncio.Task[None]] = set()
        self._warned = False
        self.settled = False
        """Whether this node has learnt what the others knew when it joined."""
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

    def say(self, kind: str, body: Mapping[str, Any], to: str = "") -> None:
        """Say something to the other nodes, or to one run alone, after what was said before."""
        if len(self._waiting) >= MOST_WAITING:
            self._link.figures.facts_dropped += 1
            self._sequence += not to  # so that the others notice
            return
        keys = self._link.keys
        self._sequence += not to
        number = 0 if to else self._sequence
        data = seal(Envelope(self._name(), self._link.boot, number, kind, body))
        self._waiting.append((keys.mailbox(to) if to else keys.facts, data))
        self._wake.set()

    # its life while Redis is there

    async def run(self) -> None:
        """Hear and say until cancelled; ends where the link is lost."""
        link = self._link
        self._heard.clear()
        self._waiting.clear()
        self._askers.clear()
        self._compared = ((), ())
        self.settled = False
        try:
            subscription = await link.subscribe(link.keys.facts, link.keys.mailbox(link.boot))
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
            for timer in self._askers.values():
                timer.cancel()
            for task in self._work:
                task.cancel()
            with suppress(Exception):
                await subscription.aclose()

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
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, []
            for answer in await self._link.pipeline([("PUBLISH", *each) for each in waiting]):
                if isinstance(answer, Exception):
                    raise self._link.failed(answer)

    async def _keep_equal(self) -> None:
        await self._join()
        self.settled = True
        while True:
            await asyncio.sleep(COMPARE_EVERY * (0.9 + self._jitter() / 5))
            if self._leads:
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
                self._take_state(envelope)
            case "ask":
                self._take_question(envelope)
            case "digests" if not self._leads:
                self._compare(body.get("digests"))
            case _:
                self._hear(envelope)

    @property
    def _leads(self) -> bool:
        return self._leader() == self._link.boot

    def _note_gap(self, envelope: Envelope) -> None:
        if not envelope.sequence:
            return  # it was said to us alone
        last = self._heard.get(envelope.boot)
        if len(self._heard) > MOST_SENDERS:
            self._heard.clear()
        self._heard[envelope.boot] = envelope.sequence
        if last is not None and envelope.sequence > last + 1:
            self._start(self._ask_after(GAP_AFTER, envelope.boot))

    def _take_state(self, envelope: Envelope) -> None:
        to = envelope.body.get("to")
        timer = self._askers.pop(to, None) if isinstance(to, str) else None
        if timer is not None:
            timer.cancel()  # somebody has answered
        if to and to != self._link.boot:
            return
        for topic, message in facts_in(envelope.body):
            self._link.figures.facts_received += 1
            self._deliver(topic, message)
        if to and "digests" in envelope.body and self._answer is not None and not self._answer.done():
            self._answer.set_result(envelope.body)

    # questions and answers

    def _take_question(self, envelope: Envelope) -> None:
        known = envelope.body.get("digests")
        if not isinstance(known, dict) or envelope.boot in self._askers or len(self._askers) > MOST_SENDERS:
            return
        direct = not envelope.sequence
        pause = GATHER if direct or self._leads else SECOND_ROW + self._jitter() * self._spread()
        loop = asyncio.get_running_loop()
        self._askers[envelope.boot] = loop.call_later(pause, self._tell_asker, envelope.boot, known, direct)

    def _tell_asker(self, boot: str, known: Mapping[str, Any], direct: bool) -> None:
        self._askers.pop(boot, None)
        facts = self._snapshots()
        own = digests(facts)
        mailbox = boot if direct else ""  # who was asked with others lets these hear the answer
        for portion in batches(within(facts, differing(known, own))):
            self.say("state", {"to": boot, "facts": portion}, mailbox)
        self.say("state", {"to": boot, "facts": [], "digests": own}, mailbox)

    def _compare(self, theirs: object) -> None:
        if not isinstance(theirs, dict):
            return
        pair = (theirs, digests(self._snapshots()))
        if differing(*pair) and pair != self._compared:  # what an answer does not change is not asked for again
            self._compared = pair
            self._start(self._ask_after(self._jitter() * self._spread(), self._leader()))

    async def _join(self) -> None:
        """Ask, and then tell everybody what whoever answered does not know; all there is where nobody answers."""
        answer = await self._ask(self._leader())
        if answer is None and self._nodes() > 1:
            answer = await self._ask("")
        facts = self._snapshots()
        theirs = answer.get("digests") if answer is not None else None
        news = within(facts, differing(theirs, digests(facts))) if isinstance(theirs, dict) else facts
        for portion in batches(news):
            self.say("state", {"to": "", "facts": portion})

    async def _ask_after(self, seconds: float, boot: str) -> None:
        await asyncio.sleep(seconds)
        await self._ask(boot)

    async def _ask(self, boot: str) -> Mapping[str, Any] | None:
        """Ask one run, or everybody, and apply what is answered; None where nobody answers."""
        if boot == self._link.boot:
            return None
        async with self._asking:
            self._answer = asyncio.get_running_loop().create_future()
            self.say("ask", {"digests": digests(self._snapshots())}, boot)
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    return await self._answer
            except TimeoutError:
                return None
            finally:
                self._answer = None

    def _spread(self) -> float:
        """Over how many seconds the nodes spread what all of them might do at once."""
        return min(0.2 + self._nodes() / 200, LARGEST_SPREAD)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._work) >= MOST_AT_ONCE:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
