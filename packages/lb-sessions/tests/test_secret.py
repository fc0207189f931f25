"""The secret: from the settings, from a file that outlives the process, or one in memory."""

from __future__ import annotations

import errno
import logging
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lb_sessions import secret as module
from lb_sessions.secret import SIZE, Secret, read_or_create
from lb_sessions.settings import StickySettings

if TYPE_CHECKING:
    from collections.abc import Iterator

GIVEN = "sixteen characters, or more"


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Warn again in each test."""
    module._warn.cache_clear()
    yield
    module._warn.cache_clear()


def secret(path: Path) -> Secret:
    return Secret(StickySettings(secret_file=str(path)))


def test_the_settings_come_first_and_make_no_file(tmp_path: Path) -> None:
    made = Secret(StickySettings.model_validate({"secret": GIVEN, "secret_file": str(tmp_path / "key")}))
    assert made.existing() == made.made() == GIVEN.encode()
    assert not os.listdir(tmp_path)


def test_a_file_is_made_once_and_read_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "data" / "deeper" / "sticky.key"
    first = secret(path)
    assert first.existing() == b""
    assert not path.parent.exists()
    made = first.made()
    assert len(made) == SIZE
    assert path.read_bytes() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["sticky.key"]
    assert secret(path).existing() == secret(path).made() == first.existing() == made
    assert secret(tmp_path / "other").made() != made


def test_the_umask_does_not_open_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        secret(tmp_path / "key").made()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_it_is_kept_when_the_file_is_gone(tmp_path: Path) -> None:
    found = secret(tmp_path / "key")
    made = found.made()
    (tmp_path / "key").unlink()
    assert found.made() == found.existing() == made
    assert not (tmp_path / "key").exists()


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from lb_sessions.secret import read_or_create; sys.stdin.readline();"
        "print(read_or_create(pathlib.Path(sys.argv[1])).hex())"
    )
    path = tmp_path / "key"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=30)[0].strip() for process in started}
    assert said == {path.read_bytes().hex()}
    assert os.listdir(tmp_path) == ["key"]


def test_threads_that_start_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        for number in range(20):
            path = tmp_path / str(number)
            assert len(set(threads.map(read_or_create, [path] * 8))) == 1


@pytest.mark.parametrize("there", [False, True])
def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Such as exFAT; there is none on the machine that runs the tests."""
    path = tmp_path / "key"

    def refuse(*paths: object) -> None:
        if there:  # another process was faster
            path.write_bytes(b"x" * SIZE)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made = secret(path).made()
    assert path.read_bytes() == made
    assert (made == b"x" * SIZE) is there
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("content", [b"", b"x" * (SIZE - 1)])
def test_a_file_that_is_too_short_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    found = secret(path)
    assert found.existing() == b""
    with caplog.at_level(logging.WARNING, logger="lb.sessions"):
        assert len(found.made()) == SIZE
    assert path.read_bytes() == content
    assert f"{path} cannot keep the secret of sticky cookies: it holds {len(content)} bytes" in caplog.text


def test_a_folder_where_the_file_should_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="lb.sessions"):
        first, second = secret(tmp_path).made(), secret(tmp_path).made()
    assert first == second  # routes that share a pool understand each other's cookies
    assert len(first) == SIZE
    (record,) = caplog.records
    assert f"{tmp_path} cannot keep the secret" in record.getMessage()
    assert "will not survive a restart" in record.getMessage()
    assert "set secret_file or secret" in record.getMessage()


def test_a_file_without_end_is_read_to_its_bound() -> None:
    assert len(secret(Path("/dev/zero")).made()) == module.LARGEST
