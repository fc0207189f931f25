"""A missing program never passes for a passed test."""

from __future__ import annotations

import pytest

from tests.support.services import require


def test_a_program_that_is_there_is_found() -> None:
    assert require("sh").endswith("/sh")


def test_a_missing_program_skips_and_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is missing: apt-get install no-such-program"):
        require("no-such-program")


def test_a_missing_program_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is missing"):
        require("no-such-program")
