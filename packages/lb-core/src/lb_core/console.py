"""What happens while the balancer runs, on standard error: events one line each, and the log of the program itself."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from lb_core.hooks import hookimpl

if TYPE_CHECKING:
    from typing import TextIO

    from lb_core.events import Event

_QUIET = frozenset(("reopen_logs",))


class EventLines:
    """A plugin that prints events; several lines of a message are indented below its first."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Print one event."""
        if event.kind not in _QUIET and self._stream is not None:  # as where standard error was closed at the start
            when = time.strftime("%H:%M:%S", time.localtime(event.time))
            print(f"{when} {event_line(event)}".replace("\n", "\n         "), file=self._stream, flush=True)


def log_to_stderr(level: str) -> None:
    """Send what the program says about itself to standard error, from a level (`info`) up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("lb")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def event_line(event: Event) -> str:
    """An event as a person reads it: `web1 of example.com: down (connection refused)`."""
    what = event.kind.replace("_", " ")
    if not event.backend:
        return f"{event.route}: {what}: {event.message}" if event.route else f"{what}: {event.message}"
    what = what.removeprefix("backend ")
    where = f"{event.backend} of {event.route}" if event.route else event.backend
    return f"{where}: {what} ({event.message})" if event.message not in ("", what) else f"{where}: {what}"
