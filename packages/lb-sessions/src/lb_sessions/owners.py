"""Whose clients a token's bearers are: the tokens of one pool's backends.

A token is the HMAC of a backend's id, so it says nothing about the backend, nobody can make one up, and it stays the
same over restarts, reloads and other addresses. Tokens are computed when a pool has other backends, never for a
request.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from lb_sessions.cookie import DIGITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lb_core import Backend, Pool


def token_of(secret: bytes, backend: Backend) -> bytes:
    """The token of a backend's clients."""
    return hmac.digest(secret, backend.id.encode(), "sha256").hex()[:DIGITS].encode()


class Owners:
    """The backends of one pool by their tokens. `ready` holds those that are candidates."""

    __slots__ = ("_by_token", "_pool", "_secret", "_tokens", "backends", "candidates", "ready")

    def __init__(self, pool: Pool, secret: bytes) -> None:
        self._pool = pool
        self._secret = secret
        self._tokens: Mapping[Backend, bytes] = {}
        self._by_token: dict[bytes, Backend] = {}
        self.backends: tuple[Backend, ...] | None = None
        self.candidates: tuple[Backend, ...] = ()
        self.ready: dict[bytes, Backend] = {}
        self.settle()

    def settle(self) -> None:
        """Take in what has changed in the pool."""
        pool = self._pool
        if self.backends is not pool.backends:
            known = self._tokens
            self._tokens = {each: known.get(each) or token_of(self._secret, each) for each in pool.backends}
            self._by_token = {token: backend for backend, token in self._tokens.items()}
            self.backends = pool.backends
        if self.candidates is not pool.candidates:
            self.candidates = pool.candidates
            self.ready = {self._tokens[each]: each for each in pool.candidates}

    def owner(self, token: bytes) -> Backend | None:
        """The backend of a token, whatever its state."""
        return self._by_token.get(token)

    def token(self, backend: Backend) -> bytes:
        """The token of a backend's clients; of one too that has left the pool with requests under way."""
        return self._tokens.get(backend) or token_of(self._secret, backend)
