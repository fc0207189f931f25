"""The ordinary head, read in one go by lb-speedups where that is installed; None where it is not.

A scanner accepts what the general path would have read the same way and returns None for everything else, so it never
decides what is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core.engine.request_heads import RequestHead

scan_request: Callable[[bytes, int, int], RequestHead | None] | None
"""Data, the index of its blank line and the number of fields allowed, to what `read_request` returns."""
scan_response: Callable[[bytes], tuple[int, int] | None] | None
"""Data that is one whole ordinary response, to its status and Content-Length."""

try:
    from lb_speedups import scan_request, scan_response
except ImportError:
    scan_request = scan_response = None
