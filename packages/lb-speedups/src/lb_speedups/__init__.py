"""The ordinary message head and the access log's line in C: more than half of what the engine does for a request.

Installed beside lb-core it is used; without it the same is done in Python, and nothing else changes.
"""

from lb_speedups._scan import log_json, scan_request, scan_response

__all__ = ["log_json", "scan_request", "scan_response"]
