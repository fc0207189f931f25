"""What nodes say to each other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_redis.envelope import (
    FULL,
    LARGEST,
    LARGEST_FACT,
    Envelope,
    Malformed,
    batches,
    facts_in,
    length_of,
    seal,
    unseal,
)

json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.text(max_size=30))
def test_what_is_sealed_is_read_again(message: Any, topic: str) -> None:
    found = unseal(seal(Envelope("edge-1", "0" * 16, 7, "fact", {"topic": topic, "message": message})))
    assert (found.sender, found.sequence, found.kind) == ("edge-1", 7, "fact")
    assert (found.body["topic"], found.body["message"]) == (topic, message)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"7", b"[]", b"{}", b"[" * 100_000, 3, b'{"v":1,"from":"a","boot":"b","seq":"1","kind":"fact"}'],
)
def test_anything_else_is_malformed(data: object) -> None:
    with pytest.raises(Malformed):
        unseal(data)


def test_one_that_is_too_large_is_not_read() -> None:
    with pytest.raises(Malformed, match="bytes"):
        unseal(b'"' + b"x" * LARGEST + b'"')


def test_a_later_version_is_read_for_what_is_known() -> None:
    data = {"v": 9, "from": "a", "boot": "b", "seq": 1, "kind": "fact", "topic": "t", "message": 1, "more": {"x": 1}}
    assert unseal(json.dumps(data)).body["topic"] == "t"


def test_what_json_cannot_carry_may_not_be_told() -> None:
    assert length_of("t", object()) > LARGEST_FACT
    assert length_of("t", float("nan")) > LARGEST_FACT
    assert length_of("t", {"a": "b"}) < 20


def test_many_facts_are_told_in_portions_that_can_be_read() -> None:
    facts = [(f"t{number}", "x" * 10_000) for number in range(40)] + [("huge", "x" * (LARGEST_FACT + 1))]
    portions = list(batches(facts))
    assert [fact for portion in portions for fact in portion] == facts[:-1]
    assert len(portions) > 1
    assert all(sum(length_of(*fact) for fact in portion) <= FULL for portion in portions)
    for portion in portions:
        unseal(seal(Envelope("a", "b", 1, "state", {"facts": portion})))


def test_of_a_state_only_what_is_a_fact_counts() -> None:
    assert facts_in({"facts": [["t", 1], ["t"], 7, [3, 4], ["u", {"a": 1}]]}) == [("t", 1), ("u", {"a": 1})]
    assert facts_in({"facts": "x"}) == []
    assert facts_in({}) == []
