"""What holds for the tests of the fuzzer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.uncovered import uncovered


@pytest.fixture(scope="module", autouse=True)
def unseen() -> Iterator[None]:
    """Coverage sees all these lines in other tests too; here they run a hundred thousand times."""
    with uncovered():
        yield
