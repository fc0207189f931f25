"""The cookie of a split: four hexadecimal digits, the client's point (see `points`).

It names no pool, and without the weights, which nobody is told, it does not say which one it leads to. It is not
signed: a client that writes another number into it is served by a pool that is there for clients. Who must not reach a
pool is kept away from it by other means than a share.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def cookie(name: str, point: int, ttl: float, *, secure: bool) -> str:
    """The value of Set-Cookie; `ttl` in seconds, 0 for as long as the browser runs."""
    age = f"; Max-Age={ttl:.0f}" if ttl else ""
    return f"{name}={point:04x}; Path=/{age}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"


def reader(name: str) -> Callable[[bytes], int | None]:
    """What finds the point in a request's head; None where the cookie is not there, or holds something else."""
    key = f"{name}=".encode()
    value = re.compile(rb"[;,: \t]%b([0-9a-f]{4})[ \t]*(?:[;,\r]|$)" % re.escape(key)).match

    def point_in(head: bytes) -> int | None:
        at = head.find(key)  # all that a request without the cookie costs
        while at > 0:
            found = value(head, at - 1)
            line = head.rfind(b"\n", 0, at) + 1
            if found and head[line : line + 7].lower() == b"cookie:":
                return int(found[1], 16)
            at = head.find(key, at + 1)
        return None

    return point_in
