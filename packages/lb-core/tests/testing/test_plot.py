"""The drawing: well-formed, described, and every mark where its number belongs."""

from __future__ import annotations

import re
from array import array
from typing import Any
from xml.etree import ElementTree

import pytest

from lb_core.testing.figures import Result
from lb_core.testing.plot import EDGE, NAME_BESIDE_NOTE, WIDTH, draw

SVG = "{http://www.w3.org/2000/svg}"


def result(name: str, latencies: list[float], **changed: Any) -> Result:
    given: dict[str, Any] = {
        "strategy": name,
        "requests": 100,
        "errors": 0,
        "refused": 0,
        "seconds": 1.0,
        "shares": {},
        "imbalance": 1.0,
        "diverges": False,
        "latencies": array("d", sorted(latencies)),
        "pick_ns": 1.0,
    }
    return Result(**{**given, **changed})


TIMES = [0.01 * 1.07**n for n in range(100)]


def parsed(*results: Result, caption: str = "4 backends, load 70%") -> ElementTree.Element:
    return ElementTree.fromstring(draw(results, caption))


def texts(svg: ElementTree.Element) -> list[str]:
    return ["".join(each.itertext()) for each in svg.iter(f"{SVG}text")]


def test_it_is_described_for_those_who_do_not_see_it() -> None:
    svg = parsed(result("p2c", TIMES), result("round_robin", TIMES))
    assert svg.get("role") == "img"
    named = {each.get("id") for each in svg if each.get("id")}
    assert set((svg.get("aria-labelledby") or "").split()) == named == {"title", "description"}
    described = svg.findtext(f"{SVG}desc") or ""
    assert "4 backends, load 70%" in described
    assert re.search(r"p2c: p50 \d+ ms · p95 [\d.]+ m?s · p99 [\d.]+ s · max [\d.]+ s", described)
    assert "round_robin: " in described


def test_every_number_stands_in_text() -> None:
    said = texts(parsed(result("p2c", [0.04] * 100)))
    assert "p2c" in said
    assert "p50 40 ms · p95 40 ms · p99 40 ms" in said
    assert "4 backends, load 70%" in said


def test_marks_stand_on_the_scale_in_their_order() -> None:
    svg = parsed(result("p2c", TIMES))
    ticks = {
        text.text: float(text.get("x", 0))
        for text in svg.iter(f"{SVG}text")
        if re.fullmatch(r"[\d.]+ m?s", text.text or "")
    }
    assert {"200 ms", "500 ms", "1 s"} <= ticks.keys()
    circle = next(each for each in svg.iter(f"{SVG}circle") if float(each.get("cy", 0)) > 100)
    p50, p95, p99 = (result("", TIMES).quantile(share) for share in (0.5, 0.95, 0.99))
    assert p50 < p95 < p99
    cx = float(circle.get("cx", 0))
    assert ticks["200 ms"] < cx < ticks["500 ms"], f"p50 is {p50}"
    assert all(EDGE <= place <= WIDTH - EDGE for place in ticks.values())


def test_it_follows_the_reader_s_scheme() -> None:
    style = parsed(result("p2c", TIMES)).findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style
    assert style.count(".ground") == 2, "a ground of its own in both"


def test_no_other_file_is_needed() -> None:
    text = draw([result("p2c", TIMES)]).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|url\(|@import|<script|href", text)


def test_what_the_times_do_not_say_is_noted() -> None:
    said = texts(
        parsed(result("slow", TIMES, diverges=True), result("bad", TIMES, errors=7), result("none", [], errors=100))
    )
    assert "slowgrowing" in said
    assert "bad7.00% errors" in said
    assert "no good answer" in said
    assert "both12% errors, growing" in texts(parsed(result("both", TIMES, errors=12, diverges=True)))


def test_names_and_captions_are_escaped_and_fit() -> None:
    long = "a_module_with_a_long_name:<Strategy&Co>"
    svg = parsed(result(long, TIMES, errors=1), result(long, TIMES), caption="service <50ms> & more, " * 20)
    names = [said for said in texts(svg) if said.startswith("a_module")]
    assert names[0].startswith(long[: NAME_BESIDE_NOTE - 1] + "…")
    assert all(len(said) <= 80 for said in texts(svg))
    assert len([said for said in texts(svg) if "& more" in said]) > 4


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e4])
def test_any_times_have_lines_to_read_them_by(scale: float) -> None:
    for spread in ([1.0] * 100, TIMES, [10.0**n for n in range(-3, 4)] * 20):
        svg = parsed(result("p2c", [time * scale for time in spread]))
        lines = [text for text in texts(svg) if re.fullmatch(r"[\d.e+-]+ m?s", text)]
        assert 2 <= len(lines) <= 12


def test_nothing_at_all_can_be_drawn() -> None:
    assert "no good answer" in texts(parsed(result("none", [])))
