"""Service times written as text: what they mean, and what is refused."""

from __future__ import annotations

import re
from random import Random
from statistics import fmean, pstdev

import pytest

from lb_core.testing.service import parse_distribution


def drawn(text: str, count: int = 40_000) -> list[float]:
    draw = parse_distribution(text).sampler(Random(7))
    return [draw() for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "mean"),
    [
        ("50ms", 0.05),
        ("constant(50ms)", 0.05),
        ("exponential(50ms)", 0.05),
        ("lognormal(50ms, 1.0)", 0.05),
        ("lognormal(50ms)", 0.05),
        ("pareto(50ms, 3)", 0.05),
        ("pareto(50ms)", 0.05),
        ("uniform(10ms, 90ms)", 0.05),
        ("bimodal(10ms, 510ms, 10%)", 0.06),
        (" lognormal ( 50ms , 0.5 ) ", 0.05),
    ],
)
def test_the_mean_is_the_mean(text: str, mean: float) -> None:
    assert parse_distribution(text).mean == pytest.approx(mean)
    assert fmean(drawn(text)) == pytest.approx(mean, rel=0.04)


def test_the_spread() -> None:
    assert pstdev(drawn("exponential(50ms)")) == pytest.approx(0.05, rel=0.03)
    assert pstdev(drawn("uniform(10ms, 90ms)")) == pytest.approx(0.08 / 12**0.5, rel=0.02)
    assert set(drawn("bimodal(10ms, 500ms, 5%)")) == {0.01, 0.5}
    assert min(drawn("pareto(60ms, 3)")) == pytest.approx(0.04, rel=0.01)
    values = sorted(drawn("lognormal(50ms, 1.0)"))
    assert values[len(values) // 2] == pytest.approx(0.05 / 2.71828**0.5, rel=0.03)


@pytest.mark.parametrize(
    "text", ["50ms", "exponential(50ms)", "lognormal(50ms, 1)", "pareto(50ms, 2.5)", "bimodal(10ms, 500ms, 5%)"]
)
def test_the_text_reads_back(text: str) -> None:
    assert str(parse_distribution(text)) == text
    assert str(parse_distribution(str(parse_distribution(text)))) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("50", "needs a unit"),
        ("fast", "is not a duration"),
        ("lognormal(50ms, 1.0", "is not a service time"),
        ("lognornal(50ms, 1.0)", "did you mean lognormal?"),
        ("zipf(50ms)", "there are constant, exponential"),
        ("exponential()", "exponential is written exponential(50ms)"),
        ("exponential(50ms, 3)", "exponential is written exponential(50ms)"),
        ("uniform(90ms, 10ms)", "is not above the second"),
        ("lognormal(50ms, 9)", "sigma from 0 to 5"),
        ("lognormal(0ms)", "a mean above 0s"),
        ("lognormal(50ms, wide)", '"wide" is not a number'),
        ("pareto(50ms, 1)", "is above 1"),
        ("bimodal(10ms, 500ms, 5)", "write 20%"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_distribution(text)


def test_a_number_is_no_service_time() -> None:
    with pytest.raises(ValueError, match="write 50ms"):
        parse_distribution(50)  # type: ignore[arg-type]
