"""What lb-speedups does in C, where that is installed; None where it is not.

Each does the ordinary case as the Python beside it would, byte for byte, and returns None for everything else: so none
of them decides what is refused, or how something odd is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core.engine.request_heads import RequestHead
    from lb_core.engine.special import Plain

scan_request: Callable[[bytes, int, int, Callable[[int, bool], Plain]], RequestHead | None] | None
"""Data, the index of its blank line, the number of fields allowed and Plain, to what `read_request` returns."""
scan_response: Callable[[bytes], tuple[int, int] | None] | None
"""Data that is one whole ordinary response, to its status and Content-Length."""
log_json: Callable[..., bytes | None] | None
"""The parts of an exchange, in the order of the access log's line, to that line."""

try:
    from lb_speedups import log_json, scan_request, scan_response
except ImportError:
    log_json = scan_request = scan_response = None
