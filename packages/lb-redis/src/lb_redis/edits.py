"""Edits: what is laid over the file of every node, kept in Redis and changed under a version.

write     applied on this node first, so that only what can be used is written; then written if the version is
          still the one it was made from, else taken back
follow    a node that hears of a newer version fetches and applies it; what it cannot apply it leaves, says so and
          goes on with what it has
put back  Redis knows an older version than this node, or none: it was restarted empty, and gets the newest again
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from lb_core import ConfigError, Event, LbError
from lb_redis.edition import EDITABLE, Edition, EditRefused, seal, unseal
from lb_redis.link import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lb_redis.edition import Patch, Version
    from lb_redis.link import Link

WRITE = Script("""
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then return {0, version} end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'document', ARGV[3])
return {1, ARGV[2]}
""")

PUT_BACK = Script("""
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if tonumber(version) >= tonumber(ARGV[1]) then return {0, version} end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'document', ARGV[2])
return {1, ARGV[1]}
""")


class EditConflict(LbError):
    """Somebody else has edited meanwhile: look at the present `version` and try again."""

    def __init__(self, expected: int, version: int) -> None:
        self.version = version
        super().__init__(f"the version is {version} now, not {expected}: somebody else has edited; look, and try again")


class Edits:
    """The edits that this node knows, and those in force on it.

    `lay(patches, source)` lays patches over the file, and raises LbError where the outcome cannot be used; `tree()` is
    what comes of it. `announce(version)` tells the other nodes.
    """

    def __init__(
        self,
        link: Link,
        *,
        lay: Callable[[Sequence[Patch], str], None],
        tree: Callable[[], dict[str, Any]],
        tell: Callable[[Event], None],
        announce: Callable[[int], None] = lambda version: None,  # noqa: ARG005
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.edition = Edition()
        """The newest that is known, whether or not this node could apply it."""
        self._link = link
        self._lay = lay
        self._tree = tree
        self._tell = tell
        self._announce = announce
        self._clock = clock
        self._lock = asyncio.Lock()
        self._in_force = Edition().present
        self._refused = 0
        self._unreadable = 0

    @property
    def applied(self) -> int:
        """The version in force here."""
        return self._in_force.number

    def read(self) -> tuple[int, dict[str, Any]]:
        """The version in force, and what may be edited as it is now: the file with the edits over it."""
        tree = self._tree()
        return self.applied, {key: tree[key] for key in EDITABLE if key in tree}

    def history(self) -> tuple[Version, ...]:
        """The last versions, the oldest first; without what was never edited."""
        return tuple(each for each in self.edition.history if each.number)

    async def write(self, patch: Patch, expected: int | None = None, who: str = "") -> int:
        """Lay a JSON merge patch over what there is, on every node; returns the new version.

        `expected` is the version that the caller has seen. Raises EditConflict where it is another one by now,
        ConfigError where the outcome cannot be used, EditRefused for what is no edit, LostRedis without Redis.
        """
        async with self._lock:
            await self._refresh(expected)
            if self.applied != self.edition.version:
                message = f"this node could not apply version {self.edition.version} of the edits"
                raise EditRefused(f"{message}: edit on one that could, or undo it")
            return await self._replace(self.edition.edited(patch, who=who, when=self._clock()))

    async def undo(self, version: int | None = None, who: str = "") -> int:
        """Make it what it was in that version, or in the one before the present; returns the new version."""
        async with self._lock:
            await self._refresh(None)
            return await self._replace(self.edition.undone(version, who=who, when=self._clock()))

    async def follow(self, version: int) -> None:
        """Redis holds this version: fetch a newer one, put back a lost one. Raises LostRedis."""
        async with self._lock:
            if version < self.edition.version:
                await self._put_back()
            elif version > self.edition.version and version != self._unreadable:
                await self._fetch(version)

    # with the lock held

    async def _refresh(self, expected: int | None) -> None:
        """Know the newest before it is changed."""
        if not self._link.joined:
            raise LbError("Redis is not there, and edits are kept in it: try again when it is")
        await self._fetch(0)
        if expected is not None and expected != self.edition.version:
            raise EditConflict(expected, self.edition.version)

    async def _replace(self, new: Edition) -> int:
        old, before = self.edition, self._in_force
        self._apply(new.present)
        try:
            done, version = await self._link.run(WRITE, (self._link.keys.edits,), (old.version, new.version, seal(new)))
        except BaseException:
            self._apply(before)
            raise
        if not done:
            self._apply(before)
            raise EditConflict(old.version, int(version))
        self.edition = new
        self._said(new)
        self._announce(new.version)
        return new.version

    async def _put_back(self) -> None:
        done, _ = await self._link.run(PUT_BACK, (self._link.keys.edits,), (self.edition.version, seal(self.edition)))
        if done:
            message = f"Redis had lost the edits: version {self.edition.version} was put back"
            self._tell(Event("edits_put_back", message, details={"version": self.edition.version}))

    async def _fetch(self, version: int) -> None:
        data = await self._link.command("HGET", self._link.keys.edits, "document")
        if data is None:
            return
        try:
            found = unseal(data)
        except EditRefused as error:
            self._unreadable = version
            self._refuse(version, str(error), error)
            return
        if found.version > self.edition.version:
            self._take(found)

    def _take(self, found: Edition) -> None:
        self.edition = found
        try:
            self._apply(found.present)
        except LbError as error:
            self._refuse(found.version, str(error), error)
            return
        self._said(found)

    def _apply(self, version: Version) -> None:
        self._lay(version.patches, f"edit {version.number}")
        self._in_force = version

    def _refuse(self, version: int, why: str, error: LbError) -> None:
        if version == self._refused:
            return
        self._refused = version
        problems = [str(each) for each in error.problems] if isinstance(error, ConfigError) else [why]
        message = f"{why}\nthis node goes on with version {self.applied} of the edits"
        self._tell(Event("edit_refused", message, details={"version": version, "problems": problems}))

    def _said(self, edition: Edition) -> None:
        made = edition.present
        message = f"version {made.number} of the edits, by {made.who or 'nobody'}, is in force"
        self._tell(Event("edit_applied", message, details={"version": made.number, "who": made.who}))
