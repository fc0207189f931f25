"""The request cases again, with the balancer embedded in an ASGI server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance import tally
from tests.conformance.asgi_runs import NEVER_ANSWERED, OTHERWISE, SKIPPED, runs_of
from tests.conformance.request_cases import CASES

if TYPE_CHECKING:
    from tests.conformance.bench import Bench
    from tests.conformance.case import RequestCase

NAMES = {f"{case.rule}: {case.name}": case for case in CASES}
EMBEDDED = {name: case for name, case in NAMES.items() if name not in SKIPPED}


@pytest.mark.parametrize("case", EMBEDDED.values(), ids=EMBEDDED)
def test_embedded(bench: Bench, case: RequestCase) -> None:
    tally.count(f"request {case.rule}: {case.name}", bench.run(runs_of(bench, case)))


def test_what_is_treated_otherwise_is_a_case() -> None:
    listed = [name for table in (OTHERWISE, NEVER_ANSWERED) for names in table.values() for name in names]
    assert set(listed) <= NAMES.keys()
    assert len(listed) == len(set(listed))
