"""The file watch: every way an editor writes, and none of the moments in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lb_core.watch import FileWatch, stamp


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lb.yaml"
    path.write_text("routes: {}\n")
    return path


def test_an_untouched_file_is_no_change(file: Path) -> None:
    watch = FileWatch([str(file)])
    assert [watch.look() for _ in range(3)] == [[], [], []]


def test_a_write_is_reported_once_at_the_second_look(file: Path) -> None:
    watch = FileWatch([str(file)])
    file.write_text("routes: {a: {}}\n")
    assert [watch.look() for _ in range(4)] == [[], [str(file)], [], []]


def test_a_file_that_is_still_being_written_waits(file: Path) -> None:
    watch = FileWatch([str(file)])
    for size in range(1, 5):
        file.write_text("x" * (100 * size))
        assert watch.look() == []
    assert watch.look() == [str(file)]


def test_a_file_replaced_by_rename_is_seen_even_with_equal_size_and_time(file: Path, tmp_path: Path) -> None:
    watch = FileWatch([str(file)])
    before = file.stat()
    new = tmp_path / "new"
    new.write_text("routes: []\n"[: before.st_size])
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(file)
    assert stamp(str(file)) != (before.st_mtime_ns, before.st_size, before.st_ino)
    watch.look()
    assert watch.look() == [str(file)]


def test_a_file_that_vanishes_and_returns_is_seen_when_it_is_back(file: Path, tmp_path: Path) -> None:
    watch = FileWatch([str(file)])
    file.rename(tmp_path / "backup")
    assert [watch.look() for _ in range(3)] == [[], [], []]
    file.write_text("routes: {b: {}}\n")
    assert [watch.look(), watch.look()] == [[], [str(file)]]


def test_a_change_taken_back_before_the_second_look_is_none(file: Path) -> None:
    watch = FileWatch([str(file)])
    before = file.stat()
    os.utime(file, ns=(1, 1))
    assert watch.look() == []
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [watch.look() for _ in range(3)] == [[], [], []]


def test_following_starts_from_the_present(file: Path, tmp_path: Path) -> None:
    watch = FileWatch([str(file)])
    other = tmp_path / "other.yaml"
    other.write_text("1")
    file.write_text("changed")
    watch.follow([str(file), str(other)])
    assert watch.paths == (str(file), str(other))
    assert [watch.look(), watch.look()] == [[], []]
    other.write_text("22")
    watch.look()
    assert watch.look() == [str(other)]


def test_a_path_that_never_existed_is_watched_until_it_does(tmp_path: Path) -> None:
    path = tmp_path / "later.yaml"
    watch = FileWatch([str(path)])
    assert watch.look() == []
    path.write_text("x")
    watch.look()
    assert watch.look() == [str(path)]
