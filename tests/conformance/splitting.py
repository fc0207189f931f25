"""Where the bytes of a case are split into two reads.

Input is split at every byte up to 200 bytes. Longer input is split around every CR, LF, colon, semicolon and blank of
its first and last 150 bytes, around the names of the framing fields wherever they stand, and at every 97th byte
(of more than 5 kB, at 50 places).
"""

from __future__ import annotations

import re
from functools import lru_cache

WHOLE = 200
_EDGES = re.compile(rb"[\r\n:; ]")
_FRAMING = re.compile(rb"content-length|transfer-encoding|host|connection|chunked|expect|upgrade", re.IGNORECASE)


@lru_cache(maxsize=16)
def places(data: bytes) -> frozenset[int]:
    """Where to split; the same for the same bytes."""
    if len(data) <= WHOLE:
        return frozenset(range(1, len(data)))
    ends = [*range(150), *range(len(data) - 150, len(data))]
    found = {at for at in ends if _EDGES.match(data, at)}
    found |= {at + 1 for at in found}
    for match in list(_FRAMING.finditer(data))[:20]:
        found |= {match.start(), match.start() + 1, match.end() - 1, match.end()}
    found |= set(range(97, len(data), max(97, len(data) // 50)))
    return frozenset(at for at in found if 0 < at < len(data))
