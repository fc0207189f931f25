"""This node's part in the cluster: everything put together, and the order in which it happens.

    start     the balancer serves by its file, whether Redis is there or not; nobody leads
    enter     a connection: the first beat gives this node its name, then it counts as joined; the edits are applied,
              facts are asked for and told
    beat      once a second, and at once when this node drains: see beat.py
    lost      the parts stop; what was learnt stays; the leader leads until its lease is over
    stop      this node leaves the list and gives the lease back

`parts` are what else runs while Redis is there: `run()` of each is a coroutine that is started then, and cancelled when
Redis is lost.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from lb_core import Event, LbError
from lb_redis.beat import beat, leave
from lb_redis.edits import Edits
from lb_redis.election import Election
from lb_redis.exchange import Exchange
from lb_redis.facts import Facts
from lb_redis.failures import LostRedis
from lb_redis.lease import Lease
from lb_redis.link import Link
from lb_redis.neighbours import Neighbours, for_all
from lb_redis.roster import Roster, tell

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from lb_core import LoadBalancer, Member
    from lb_redis.beat import Beat
    from lb_redis.edition import Patch
    from lb_redis.envelope import Envelope
    from lb_redis.roster import Change
    from lb_redis.settings import ClusterSettings

log = logging.getLogger("lb.cluster")

LEAST_PAUSE = 0.05
ORDERS = ("drain", "resume")


class Part(Protocol):
    """What runs while Redis is there."""

    async def run(self) -> None:
        """Until it is cancelled."""


class RedisCluster:
    """The cluster, as `balancer.sharing.cluster`; `edits` are its edits, `link.figures` what it costs."""

    every = 1.0
    """Seconds between two beats."""

    def __init__(self, balancer: LoadBalancer, settings: ClusterSettings) -> None:
        self.balancer = balancer
        self.settings = settings
        self.link = Link(settings, tell=self._said, enter=self._enter, boot=balancer.node.run)
        sharing = balancer.sharing
        self.lease = Lease(self.link.boot, settings.lease)
        self.election = Election(self.lease, set_leads=sharing.set_leads, tell=balancer.notify)
        self.roster = Roster(self.link.boot, every=self.every)
        self.facts = Facts(
            self.link,
            name=lambda: self.name,
            leader=lambda: self._leader,
            nodes=lambda: sharing.nodes,
            snapshots=lambda: for_all(sharing.snapshots()),
            deliver=sharing.deliver,
            hear=self._hear,
        )
        self.neighbours = Neighbours(sharing.locality, sharing.snapshots, self.facts.say)
        self.edits = Edits(
            self.link,
            lay=self._lay,
            tree=self._tree,
            tell=balancer.notify,
            announce=lambda version: self.facts.say("edit", {"version": version}),
        )
        self.exchange = Exchange(sharing, self.link, tell=self._slow)
        self.parts: list[Part] = [self.facts, self.neighbours]
        self.wanted = settings.node or balancer.node.name
        self.name = self.wanted
        self._joined = ""
        self._section: object = settings
        self._running: list[asyncio.Task[None]] = []
        self._work: set[asyncio.Task[None]] = set()
        self._now = asyncio.Event()

    @property
    def token(self) -> int:
        """The token under which this node leads, higher than that of any leader before; 0 where it does not lead."""
        return self.lease.token

    # for the core

    def members(self) -> list[Member]:
        """Every node that is known, this one included, by name."""
        own = self.balancer.node.member()
        others = [each for each in self.roster.members(self._leader) if not each.own]
        mine = self._complete(own)
        return sorted([*others, mine], key=lambda each: each.name)

    def publish(self, topic: str, message: Any) -> None:
        """Send a channel's message to the other nodes; never blocks and never raises."""
        self.facts.publish(topic, message)

    def order(self, node: str, what: str) -> None:
        """Ask another node to `drain` or to `resume`; raises LbError for one that is not known or not there."""
        if what not in ORDERS:
            raise LbError(f"{what!r} is no order: {' or '.join(ORDERS)}")
        if not self.link.joined:
            raise LbError("Redis is not there, so no other node can be reached: ask that node itself")
        boot = self.roster.boot_of(node)
        if not boot or not self.roster.is_alive(node):
            there = ", ".join(each.name for each in self.members() if each.state != "gone")
            raise LbError(f"there is no node {node!r}; there are {there}")
        self.facts.say("order", {"what": what}, boot)

    # its life

    async def run(self) -> None:
        """Take part until cancelled; then leave."""
        link, sharing = self.link, self.balancer.sharing
        link.on_joined.append(self._start_parts)
        link.on_lost.append(self._stop_parts)
        self.balancer.node.on_change.append(self._now.set)
        self.election.start()
        sharing.attach(self)
        keeping = asyncio.create_task(link.keep())
        exchanging = asyncio.create_task(self.exchange.keep())
        try:
            await asyncio.wait([keeping])  # it goes on when we are cancelled: there is a word to be said yet
        finally:
            self.balancer.node.on_change.remove(self._now.set)
            self._stop_parts()
            exchanging.cancel()
            await self.exchange.farewell()
            await self._leave()
            keeping.cancel()
            await asyncio.gather(keeping, exchanging, *self._work, return_exceptions=True)
            self.election.stop()
            sharing.cluster = None

    async def _leave(self) -> None:
        if self.link.joined:
            with suppress(LostRedis, TimeoutError):
                async with asyncio.timeout(self.link.patience):
                    await leave(self.link, self.name)

    def _start_parts(self) -> None:
        runs = [self._beats(), *(part.run() for part in self.parts)]
        self._running = [asyncio.create_task(self._guarded(run)) for run in runs]

    def _stop_parts(self) -> None:
        running, self._running = self._running, []
        for task in running:
            task.cancel()

    async def _guarded(self, run: Coroutine[Any, Any, None]) -> None:
        """Run a part; where it fails the link is made anew, and the part begins again with it."""
        try:
            await run
        except LostRedis:
            pass
        except Exception as error:
            log.exception("a part of the cluster has failed")
            self.link.failed(error)

    # beats

    async def _enter(self) -> None:
        if self._joined:
            self.roster.be_patient()
        await self._beat()
        others = self.roster.others
        taken = "" if self.name == self.wanted else f" (another node is called {self.wanted}: give each its own `node`)"
        self._joined = f"as {self.name}{taken}, with {others} other{'' if others == 1 else 's'}"

    async def _beats(self) -> None:
        while True:
            self._now.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every):
                    await self._now.wait()
            await asyncio.sleep(LEAST_PAUSE)
            await self._beat()

    async def _beat(self) -> Beat:
        lease, node = self.lease, self.balancer.node
        asked = lease.ask() if lease.due() else None
        found = await beat(
            self.link,
            self.wanted,
            self.name,
            tell(self._complete(node.member()), node.predecessor),
            lease=0.0 if asked is None else lease.seconds,
            highest=lease.highest,
            everybody=self.roster.due(),
            secret=self.exchange.secret,
            predecessor=node.predecessor,
        )
        self.name = node.name = found.name
        self.exchange.sample(found.offset, found.doubt)
        self.exchange.agree(found.secret)
        self.election.heard(found.holder, asked)
        if self.link.joined and not found.known:
            self.roster.be_patient()  # Redis was emptied
        change = self.roster.look() if found.told is None else self.roster.take(found.told)
        if not found.succeeded:  # who is there the next process tells
            self._changed(change)
        expected = 1 + self.roster.others if self.roster.patient else 0
        self.balancer.sharing.set_nodes(max(found.nodes, expected))
        self._look_at_section()
        if found.edits != self.edits.edition.version:
            await self.edits.follow(found.edits)
        return found

    def _look_at_section(self) -> None:
        """A reload may have changed what only a new start takes up; that it is gone altogether the core says."""
        section = self.balancer.config.section("cluster")
        if section is self._section:
            return
        self._section = section
        if section is not None and section != self.settings:
            message = "the section `cluster` has changed, which is taken up by a new start only"
            self.balancer.notify(Event("restart_needed", f"{message}: send SIGUSR2, which loses nothing, or restart"))

    def _changed(self, change: Change) -> None:
        for name in change.joined:
            self.balancer.notify(Event("node_joined", f"{name} is there", details={"node": name}))
        for name, said_so in change.left:
            how = "has left" if said_so else "has not been heard of for some seconds"
            self.balancer.notify(Event("node_left", f"{name} {how}", details={"node": name, "said_so": said_so}))

    @property
    def _leader(self) -> str:
        """The run that leads, as far as is known."""
        return self.lease.holder.boot if self.lease.holder is not None else ""

    def _complete(self, member: Member) -> Member:
        version = f"{member.config}+{self.edits.applied}" if self.edits.applied else member.config
        return replace(member, name=self.name, config=version, leader=self.lease.leads, own=True)

    # what is heard

    def _said(self, reason: str | None) -> None:
        where = str(self.settings.redis)
        if reason is None:
            self.balancer.notify(Event("cluster_joined", f"{self._joined}; Redis is {where}"))
        else:
            message = f"{where}: {reason}\ntraffic goes on; limits hold for this node's share until Redis is back"
            self.balancer.notify(Event("cluster_lost", message, details={"redis": where, "reason": reason}))

    def _slow(self, reason: str | None) -> None:
        where = str(self.settings.redis)
        if reason is None:
            self.balancer.notify(Event("cluster_in_time", f"{where} answers in time again"))
        else:
            message = f"{where}: {reason}\ntraffic goes on; limits hold for this node's share meanwhile"
            self.balancer.notify(Event("cluster_slow", message, details={"redis": where, "reason": reason}))

    def _hear(self, envelope: Envelope) -> None:
        self.neighbours.hear(envelope)
        match envelope.body:
            case {"kind": "order", "what": "drain"}:
                self.balancer.node.drain(f"asked on {envelope.sender}")
            case {"kind": "order", "what": "resume"}:
                self.balancer.node.resume(f"asked on {envelope.sender}")
            case {"kind": "edit", "version": int(version)} if version > self.edits.edition.version:
                task = asyncio.create_task(self._guarded(self.edits.follow(version)))
                self._work.add(task)
                task.add_done_callback(self._work.discard)

    # edits

    def _lay(self, patches: Sequence[Patch], source: str) -> None:
        self.balancer.set_overlay(self.balancer.overlay.with_patches(patches, source))

    def _tree(self) -> dict[str, Any]:
        return self.balancer.overlay.over(self.balancer.document).tree
