"""Patches on patches, versions, and what no edit may say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.overlay import merged
from lb_redis.edition import (
    HISTORY,
    LARGEST,
    LARGEST_PATCH,
    MOST_PATCHES,
    Edition,
    EditRefused,
    check,
    composed,
    seal,
    unseal,
)

keys = st.sampled_from(["a", "b", "c"])
trees: Any = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2), lambda inner: st.dictionaries(keys, inner, max_size=3)
)
patches: Any = st.dictionaries(
    keys,
    st.recursive(
        st.none() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
        lambda inner: st.dictionaries(keys, inner, max_size=3),
    ),
    max_size=3,
)


def laid(tree: Any, each: Any) -> Any:
    for patch in each:
        tree = merged(tree, patch)
    return tree


@given(trees, st.lists(patches, max_size=5))
def test_patches_put_together_come_to_the_same(tree: Any, sequence: list[Any]) -> None:
    together: tuple[Any, ...] = ()
    for patch in sequence:
        together = composed(together, patch)
    assert laid(tree, together) == laid(tree, sequence)
    assert len(together) <= max(len(sequence), 1)


def test_most_edits_become_one_patch() -> None:
    together: tuple[Any, ...] = ()
    for number in range(50):
        together = composed(together, {"routes": {f"r{number}": {"queue": number}}})
    assert len(together) == 1
    assert len(composed(composed((), {"routes": {"a": None}}), {"routes": {"a": {"queue": 1}}})) == 2


def edit(edition: Edition, **routes: Any) -> Edition:
    return edition.edited({"routes": routes}, who="me", when=5.0)


def test_versions_count_and_the_last_are_kept() -> None:
    edition = Edition()
    for number in range(HISTORY + 5):
        edition = edit(edition, a={"queue": number})
    assert edition.version == HISTORY + 5
    assert len(edition.history) == HISTORY
    assert edition.patches == ({"routes": {"a": {"queue": HISTORY + 4}}},)


def test_an_undo_is_a_version_too() -> None:
    one = edit(Edition(), a={"queue": 1})
    two = edit(one, a={"queue": 2})
    assert two.undone(None, who="me", when=6.0).patches == one.patches
    assert two.undone(None, who="me", when=6.0).version == 3
    assert two.undone(0, who="me", when=6.0).patches == ()
    with pytest.raises(EditRefused, match="version 9 is not known any more, or not yet; there are 0, 1, 2"):
        two.undone(9, who="me", when=6.0)
    with pytest.raises(EditRefused, match="nothing to undo"):
        Edition().undone(None, who="me", when=6.0)


def test_what_redis_keeps_is_read_again() -> None:
    edition = edit(edit(Edition(), a={"queue": 1}), b=None)
    assert unseal(seal(edition)) == edition


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 1, "history": []}',
        b'{"version": 2, "history": [{"version": 1, "when": 0, "who": "", "change": null, "patches": []}]}',
        b'{"version": 1, "history": [{"version": 1, "when": 0, "who": "", "change": 7, "patches": []}]}',
        b'{"version": 1, "history": [{"version": 1, "when": 0, "who": "", "change": null, "patches": [7]}]}',
        b'{"version":1,"history":[{"version":1,"when":0,"who":"","change":null,"patches":[{"control":"x"}]}]}',
        b"[" * 100_000,
        b"x" * (3 << 20),
    ],
)
def test_anything_else_in_redis_is_refused(data: bytes) -> None:
    with pytest.raises(EditRefused):
        unseal(data)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({}, "an edit is a mapping"),
        ([], "an edit is a mapping"),
        ({"plugins": {"disable": ["x"]}}, '"plugins" cannot be edited, only routes, pools, defaults'),
        ({"routes": {"a": {"strategy": "os:system"}}}, "a class of your own, which only a file may name"),
        ({"defaults": {"strategy": {"name": "os:system"}}}, "a class of your own"),
        ({"routes": {7: 1}}, "a key is text"),
        ({"routes": {"a": float("nan")}}, "is no number of JSON"),
        ({"routes": {"a": object()}}, "nothing that JSON can carry"),
        ({"routes": {"a": "x" * LARGEST_PATCH}}, "an edit has 65536 bytes at most"),
    ],
)
def test_what_no_edit_may_say(patch: Any, message: str) -> None:
    with pytest.raises(EditRefused, match=message):
        check(patch)


def test_an_edit_may_not_be_bottomless() -> None:
    deep: Any = 1
    for _ in range(60):
        deep = {"a": deep}
    with pytest.raises(EditRefused, match="nested too deeply"):
        check({"routes": deep})


def test_edits_that_cannot_be_put_together_are_bounded() -> None:
    edition = Edition()
    while len(edition.patches) < MOST_PATCHES:
        edition = edit(edit(edition, a=None), a={"queue": 1})
    with pytest.raises(EditRefused, match="write them into the file"):
        edit(edit(edition, a=None), a={"queue": 1})


def test_old_versions_are_forgotten_before_the_document_grows_too_large() -> None:
    edition = Edition()
    for number in range(14):
        edition = edition.edited({"pools": {f"p{number}": "x" * 60_000}}, who="me", when=1.0)
    assert edition.version == 14
    assert len(edition.history) < 3
    assert len(seal(edition)) <= LARGEST
