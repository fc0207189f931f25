"""The bench every module here shares."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import pytest

from lb_core.engine import downstream, upstream
from lb_core.engine.request_heads import read_request
from tests.conformance.bench import Bench, opened
from tests.support.uncovered import uncovered


@pytest.fixture(scope="module", autouse=True)
def unseen() -> Iterator[None]:
    """Coverage sees all these lines in other tests too; here they run a hundred thousand times."""
    with uncovered():
        yield


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One backend and its balancers for a module."""
    with opened() as made:
        yield made


@pytest.fixture(autouse=True)
def with_or_without_speedups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the cases, always the same, go without the scanners of lb-speedups; those have a test of equality too."""
    if crc32(request.node.name.encode()) % 2:
        monkeypatch.setattr(downstream, "read", read_request)
        monkeypatch.setattr(upstream, "scan_response", None)
