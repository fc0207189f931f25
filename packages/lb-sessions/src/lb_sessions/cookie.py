"""The cookie, as it stands in a request (RFC 6265 section 5.4) and as it is set (section 4.1).

Nearly every request has one cookie of the name, written as browsers write it, or none: then its place is found by one
search for the name, and a look around tells that it is the whole of the only one. Whatever looks different is taken
apart by the letter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_sessions.settings import StickySettings

DIGITS = 16
"""Of a token, hexadecimal."""

_FIELD = (b"\nCookie: ", b"\ncookie: ")
_BEGIN = len(_FIELD[0])
_END = (b"\r\n", b"; ")

_fields = re.compile(rb"\n[Cc][Oo][Oo][Kk][Ii][Ee]:[ \t]*([^\r\n]*)").findall
_is_token = re.compile(rb"[0-9a-f]{16}").fullmatch


class Cookie:
    """A cookie of one name. `sign` is its name with `=`, `size` the length of that and a token."""

    __slots__ = ("_behind", "_secure", "sign", "size")

    def __init__(self, settings: StickySettings) -> None:
        self.sign = f"{settings.cookie}=".encode()
        self.size = len(self.sign) + DIGITS
        self._secure = settings.secure
        self._behind = f"; Path={settings.path}"
        if settings.domain:
            self._behind += f"; Domain={settings.domain}"
        if settings.ttl:
            self._behind += f"; Max-Age={settings.ttl:.0f}"
        self._behind += f"; HttpOnly; SameSite={settings.same_site.capitalize()}"

    def stands(self, head: bytes, at: int) -> bool:
        """Whether the first sign in a head begins the only cookie of the name, with a token's length, plainly."""
        line, end = head.rfind(b"\n", 0, at), at + self.size
        return (
            head[line : line + _BEGIN] in _FIELD
            and (line + _BEGIN == at or head[at - 2 : at] == b"; ")
            and head[end : end + 2] in _END
            and head.find(self.sign, end) < 0
        )

    def token(self, head: bytes) -> bytes:
        """The token a request brings; empty where there is none, one that is none, or more than one cookie."""
        values = self._values(head) if self.sign in head else ()
        return values[0] if len(values) == 1 and _is_token(values[0]) else b""

    def _values(self, head: bytes) -> list[bytes]:
        """The value of every cookie of the name."""
        found = []
        for field in _fields(head):
            *pairs, last = field.split(b"; ")
            found += [pair for pair in (*pairs, last.rstrip(b" \t")) if pair.startswith(self.sign)]
        return [pair[len(self.sign) :] for pair in found]

    def setting(self, token: bytes, *, tls: bool) -> str:
        """The value of Set-Cookie for a client that is to return the token."""
        secure = self._secure == "always" or (self._secure == "auto" and tls)
        return f"{(self.sign + token).decode()}{self._behind}{'; Secure' if secure else ''}"
