"""The cookie, as it stands in a request (RFC 6265 section 5.4) and as it is set (section 4.1).

Nearly every request has either one cookie of the name with a value of the right form, or none. One search of the head
tells which; where the name occurs more than once in the head, the fields are taken apart by the letter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_sessions.settings import StickySettings

DIGITS = 16
"""Of a token, hexadecimal."""

_fields = re.compile(rb"\n[Cc][Oo][Oo][Kk][Ii][Ee]:[ \t]*([^\r\n]*)").findall
_is_token = re.compile(rb"[0-9a-f]{16}").fullmatch


class Cookie:
    """A cookie of one name.

    `search` finds it in a head; group 1 is the token. `sign` is its name with `=`: where that occurs once in the head,
    what was found is all there is.
    """

    __slots__ = ("_behind", "_secure", "search", "sign")

    def __init__(self, settings: StickySettings) -> None:
        self.sign = f"{settings.cookie}=".encode()
        pattern = rb"\n[Cc][Oo][Oo][Kk][Ii][Ee]:[ \t]*(?:[^\r\n]*; )?%b([0-9a-f]{16})(?=; |[ \t]*\r)"
        self.search = re.compile(pattern % re.escape(self.sign)).search
        self._secure = settings.secure
        self._behind = f"; Path={settings.path}"
        if settings.domain:
            self._behind += f"; Domain={settings.domain}"
        if settings.ttl:
            self._behind += f"; Max-Age={settings.ttl:.0f}"
        self._behind += f"; HttpOnly; SameSite={settings.same_site.capitalize()}"

    def token(self, head: bytes) -> bytes:
        """The token a request brings; empty where there is none, one that is none, or more than one cookie."""
        values = self._values(head)
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
