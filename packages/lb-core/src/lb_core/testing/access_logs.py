"""An access log as a load: when requests came, from whom, and how long a backend took.

    JSON lines      lb's own: `time` is when the exchange ended, so it came `duration` before; that is its work too
    CLF, Combined   a line says to the second when the request ended and not how long it took: those of one second are
                    spread over it, and the work is drawn from the service time

The duration in a log holds what the request waited then, so it is a little more than the work. Requests that no backend
answered are left out. Lines that cannot be read are noted with their number and left out.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import IO, Any

from lb_core.testing.arrivals import Request, Trace

_CLF = re.compile(
    r"(?P<client>\S+) \S+ (?:\S+|\S.*?\S) \[(?P<time>[^\]]+)\] "
    r'"(?P<method>[A-Z]+) (?P<target>\S+)(?: HTTP/[\d.]+)?" (?P<status>\d{3}) (?:\d+|-)'
).match
_CLF_TIME = "%d/%b/%Y:%H:%M:%S %z"
UNKNOWN = -1.0
"""The work of a request whose log does not say."""


@dataclass(slots=True)
class LoggedLoad:
    """What a log holds: the requests in order, the lines that could not be read, and how many no backend answered."""

    requests: list[Request] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)
    unserved: int = 0

    @property
    def trace(self) -> Trace:
        """The requests, for a scenario."""
        return Trace(self.requests)


def read_log(path: str | Path, most: int = 0) -> LoggedLoad:
    """Read a log, also one packed with gzip; `most` requests from its begin, 0 for all. OSError as `open` raises it."""
    with _opened(path) as lines:
        return parse_log(lines, most)


def parse_log(lines: Iterable[str], most: int = 0) -> LoggedLoad:
    """Read the lines of a log; each may be in either format."""
    found = LoggedLoad()
    coarse: list[Request] = []
    for number, text in enumerate(lines, 1):
        if most and len(found.requests) + len(coarse) >= most:
            break
        line = text.strip()
        if not line:
            continue
        try:
            if not line.startswith("{"):
                coarse.append(_from_clf(line))
            elif (request := _from_json(line)) is not None:
                found.requests.append(request)
            else:
                found.unserved += 1
        except ValueError as error:
            found.bad.append((number, str(error)))
    found.requests += _spread(coarse)
    found.requests.sort(key=lambda request: request.when)
    return found


def _opened(path: str | Path) -> IO[str]:
    if str(path).endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return open(path, encoding="utf-8", errors="replace")


def _from_json(line: str) -> Request | None:
    try:
        data: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    missing = [name for name in ("time", "duration") if name not in data]
    if missing:
        raise ValueError(f"no {' and no '.join(missing)}")
    work = data["duration"]
    if isinstance(work, bool) or not isinstance(work, (int, float)) or not isfinite(work) or work < 0:
        raise ValueError(f"duration is {work!r}, not a number of seconds")
    if data.get("backend") == "":
        return None
    ended = _moment(data["time"])
    target, method = str(data.get("target", "/")), str(data.get("method", "GET"))
    return Request(ended - work, float(work), str(data.get("client", "")), target.encode(), method.encode())


def _moment(text: object) -> float:
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise ValueError(f"time is {text!r}, not like 2025-01-31T12:00:00.000Z")
    return when.timestamp()


def _from_clf(line: str) -> Request:
    found = _CLF(line)
    if found is None:
        raise ValueError("neither a JSON object nor the Common Log Format")
    try:
        when = datetime.strptime(found["time"], _CLF_TIME).timestamp()
    except ValueError:
        raise ValueError(f"time is {found['time']!r}, not like 31/Jan/2025:12:00:00 +0000") from None
    return Request(when, UNKNOWN, found["client"], found["target"].encode(), found["method"].encode())


def _spread(requests: list[Request]) -> Iterator[Request]:
    """Requests of the same second at equal distances over it, in the order of their lines."""
    by_second: dict[float, list[Request]] = {}
    for request in requests:
        by_second.setdefault(request.when, []).append(request)
    for second, those in by_second.items():
        for place, request in enumerate(those):
            yield request._replace(when=second + (place + 0.5) / len(those))
