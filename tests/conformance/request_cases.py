"""Every request case."""

from __future__ import annotations

from tests.conformance import chunked, connection, fields, forwarding, host, length, limits, request_line, targets
from tests.conformance.case import RequestCase, Requests

CASES: list[RequestCase] = [
    case
    for module in (request_line, targets, host, fields, length, chunked, connection, forwarding, limits)
    for table in vars(module).values()
    if isinstance(table, Requests)
    for case in table
]
