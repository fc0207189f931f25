"""`lb check --resolve`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lb_core.cli import status_of

FILE = """
access_log: {file: access.log}
routes:
  example.com: [localhost:8080, 127.0.0.1:80, no-such-host.invalid:80]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with one file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lb.yaml").write_text(FILE)


def test_names_that_do_not_resolve_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["check", "--resolve"]) == 0
    out = capsys.readouterr().out
    assert "lb.yaml: good" in out
    (warning,) = [line for line in out.splitlines() if "warning" in line]
    assert warning.startswith("  warning    no-such-host.invalid does not resolve: ")


def test_they_are_data_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["check", "--resolve", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert list(found["unresolved"]) == ["no-such-host.invalid"]


def test_without_it_nothing_is_looked_up(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    assert status_of(["check"]) == 0
    assert "does not resolve" not in capsys.readouterr().out
    assert status_of(["check", "--json"]) == 0
    assert "unresolved" not in json.loads(capsys.readouterr().out)
