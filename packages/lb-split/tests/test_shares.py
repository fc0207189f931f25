"""What a shift makes of the weights, and how it is written."""

from __future__ import annotations

import pytest

from lb_core import LbError
from lb_split.shares import parse, percent, shifted

TWO, THREE = {"self": 95.0, "canary": 5.0}, {"self": 60.0, "a": 30.0, "b": 10.0}


@pytest.mark.parametrize(
    ("weights", "wanted", "after"),
    [
        (TWO, {"canary": 20}, {"self": 80, "canary": 20}),
        (TWO, {"canary": 0}, {"self": 100, "canary": 0}),
        (TWO, {"canary": 100}, {"self": 0, "canary": 100}),
        (TWO, {"self": 3, "canary": 1}, {"self": 3, "canary": 1}),
        (TWO, {"self": 900, "canary": 100}, {"self": 900, "canary": 100}),
        (THREE, {"b": 55}, {"self": 30, "a": 15, "b": 55}),
        (THREE, {"b": 50, "a": 50}, {"self": 0, "a": 50, "b": 50}),
        ({"self": 0.0, "green": 100.0}, {"green": 30}, {"self": 70, "green": 30}),
        ({"self": 0.0, "a": 0.0, "green": 1.0}, {"green": 100}, {"self": 0, "a": 0, "green": 100}),
    ],
)
def test_the_others_share_the_rest(
    weights: dict[str, float], wanted: dict[str, float], after: dict[str, float]
) -> None:
    assert shifted(weights, wanted) == pytest.approx(after)
    assert list(shifted(weights, wanted)) == list(weights)


@pytest.mark.parametrize(
    ("weights", "wanted", "message"),
    [
        (TWO, {"canry": 1}, r'there is no pool "canry" in this split \(did you mean canary\?\)'),
        (TWO, {"xyz": 1}, r"there are self, canary"),
        (TWO, {"canary": 1001}, "canary=1001 is not between 0 and 1000"),
        (TWO, {"canary": -1}, "canary=-1 is not between"),
        (TWO, {"canary": float("nan")}, "is not between"),
        (TWO, {"canary": 120}, "120 % are more than 100; what is left of 100 is for self, or name every pool"),
        (TWO, {"canary": 0, "self": 0}, "every pool would have the weight 0"),
        ({"self": 0.0, "a": 0.0, "green": 1.0}, {"green": 30}, "70 % are left, and self, a had no weight"),
    ],
)
def test_what_cannot_be(weights: dict[str, float], wanted: dict[str, float], message: str) -> None:
    with pytest.raises(LbError, match=message):
        shifted(weights, wanted)


def test_words() -> None:
    assert parse(["canary=20", "self=80%", " b = 2.5"]) == {"canary": 20, "self": 80, "b": 2.5}
    for word in ("canary", "=5", "canary=", "canary=x", "canary=-1", "canary=1e9", "canary=nan"):
        with pytest.raises(LbError, match="is not a share: write POOL=20"):
            parse([word])
    with pytest.raises(LbError, match='"a" is named twice'):
        parse(["a=1", "a=2"])


def test_percent() -> None:
    assert [percent(1, 3), percent(1, 1), percent(0, 5), percent(0, 0)] == ["33.3 %", "100 %", "0 %", "0 %"]
