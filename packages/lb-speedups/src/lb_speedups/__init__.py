"""The ordinary message head, scanned in C: nearly half of what the engine does for a request, and nothing else changes.

Installed beside lb-core it is used; without it the engine does the same in Python.
"""

from lb_speedups._scan import scan_request, scan_response

__all__ = ["scan_request", "scan_response"]
