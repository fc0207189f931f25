"""Every response case: whole, split at every byte, between other requests, on the fast path and the general one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance import tally
from tests.conformance.response_cases import CASES
from tests.conformance.response_runs import runs_of

if TYPE_CHECKING:
    from tests.conformance.bench import Bench
    from tests.conformance.case import ResponseCase


@pytest.mark.parametrize("case", CASES, ids=[f"{case.rule}: {case.name}" for case in CASES])
def test_response(bench: Bench, case: ResponseCase) -> None:
    tally.count(f"response {case.rule}: {case.name}", bench.run(runs_of(bench, case)))
