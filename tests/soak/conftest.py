"""The loop and the figures of these tests are those of the integration tests."""

from __future__ import annotations

from tests.integration.conftest import measured, pytest_asyncio_loop_factories

__all__ = ["measured", "pytest_asyncio_loop_factories"]
