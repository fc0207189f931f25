"""Every request case: whole, split at every byte, and pipelined, along the fast path and the general one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance import tally
from tests.conformance.request_cases import CASES
from tests.conformance.request_runs import runs_of

if TYPE_CHECKING:
    from tests.conformance.bench import Bench
    from tests.conformance.case import RequestCase


@pytest.mark.parametrize("case", CASES, ids=[f"{case.rule}: {case.name}" for case in CASES])
def test_request(bench: Bench, case: RequestCase) -> None:
    tally.count(f"request {case.rule}: {case.name}", bench.run(runs_of(bench, case)))
