"""The names of everything this project keeps in Redis.

All of them begin with `{name}:`. The braces put the keys of a cluster into one slot of a Redis Cluster, because scripts
use several of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the cluster with this name."""

    name: str

    def key(self, *parts: str) -> str:
        """A key of the cluster."""
        return ":".join((f"{{{self.name}}}", *parts))

    @property
    def alive(self) -> str:
        """Sorted set: node by when it was last heard of."""
        return self.key("alive")

    @property
    def nodes(self) -> str:
        """Hash: what each node tells about itself."""
        return self.key("nodes")

    @property
    def leader(self) -> str:
        """Text: who leads, for as long as the key lives."""
        return self.key("leader")

    @property
    def fence(self) -> str:
        """Number: the token of the last leader."""
        return self.key("fence")

    @property
    def edits(self) -> str:
        """Hash: `version` and `document` of what is laid over every node's file."""
        return self.key("edits")

    @property
    def secret(self) -> str:
        """Bytes: what all nodes make digests of the keys of limits with."""
        return self.key("secret")

    @property
    def facts(self) -> str:
        """Channel: what nodes tell each other."""
        return self.key("facts")

    def mailbox(self, boot: str) -> str:
        """Channel: what is said to one run of one node alone."""
        return self.key("to", boot)
