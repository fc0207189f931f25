"""Some of these tests are long."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def untraced() -> Iterator[None]:
    """Without coverage, which takes seven times as long and has seen these lines elsewhere."""
    before = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(before)
