"""Every response case."""

from __future__ import annotations

from tests.conformance import responses_framing, responses_heads
from tests.conformance.case import ResponseCase, Responses

CASES: list[ResponseCase] = [
    case
    for module in (responses_framing, responses_heads)
    for table in vars(module).values()
    if isinstance(table, Responses)
    for case in table
]
