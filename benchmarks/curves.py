"""A few curves as a drawing (SVG), in the manner of `lb simulate --plot`: logarithmic axes, light and dark.

Curves differ in the shape of their marks as well as in colour, each is named at its end, and the whole is described in
words for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log10
from textwrap import wrap

WIDTH, EDGE, PLOT_HEIGHT = 600, 28, 260
LEFT, RIGHT = 72, 132
"""What is left free for the numbers of the upright axis, and for the curves' names."""
LINE = 19
NAME_LINE = 17
LETTERS = 74

STYLE = """
svg { color-scheme: light dark; }
.ground { fill: #ffffff; stroke: #d0d7de; }
text { font: 14px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #57606a; }
.title { font-size: 17px; font-weight: 600; fill: #1f2328; }
.name { font-size: 13px; font-weight: 600; }
.grid { stroke: #eaeef2; }
.limit { stroke: #bc4c00; stroke-width: 1.5; stroke-dasharray: 5 4; }
.limit-name { font-size: 13px; fill: #bc4c00; }
.curve { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.c0 { stroke: #0969da; } .c1 { stroke: #1a7f37; } .c2 { stroke: #8250df; } .c3 { stroke: #57606a; }
.m0 { fill: #0969da; } .m1 { fill: #1a7f37; } .m2 { fill: #8250df; } .m3 { fill: #57606a; }
.mark { stroke: #ffffff; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; stroke: #30363d; }
  text { fill: #9198a1; }
  .title { fill: #f0f6fc; }
  .grid { stroke: #21262d; }
  .limit { stroke: #f0883e; } .limit-name { fill: #f0883e; }
  .c0 { stroke: #58a6ff; } .c1 { stroke: #3fb950; } .c2 { stroke: #bc8cff; } .c3 { stroke: #9198a1; }
  .m0 { fill: #58a6ff; } .m1 { fill: #3fb950; } .m2 { fill: #bc8cff; } .m3 { fill: #9198a1; }
  .mark { stroke: #0d1117; }
}
"""

Show = Callable[[float], str]


@dataclass(frozen=True)
class Curve:
    """Points (x, y), both above zero."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """What stands on an axis, and how one of its numbers is written."""

    title: str
    show: Show = "{:,g}".format


@dataclass(frozen=True)
class Limit:
    """A level that a curve should not pass."""

    name: str
    level: float


def draw_curves(
    title: str, caption: str, across: Axis, up: Axis, curves: Sequence[Curve], limit: Limit | None = None
) -> str:
    """The SVG text, of one to four curves; `caption` says what was computed."""
    lines = wrap(caption, LETTERS)
    top = 58 + LINE * len(lines) + 26
    bottom = top + PLOT_HEIGHT
    height = bottom + 58
    levels = [y for curve in curves for _, y in curve.points] + ([limit.level] if limit else [])
    x = _Scale([x for curve in curves for x, _ in curve.points], LEFT, WIDTH - RIGHT, rounded=False)
    y = _Scale(levels, bottom, top)
    described = f"{caption} {_described(across, up, curves, limit)}"
    middle = (LEFT + WIDTH - RIGHT) // 2
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'role="img" aria-labelledby="title description">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="description">{escape(described)}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
            f'<text class="title" x="{EDGE}" y="36">{escape(title)}</text>',
            *(f'<text x="{EDGE}" y="{58 + LINE * number}">{escape(line)}</text>' for number, line in enumerate(lines)),
            f'<text x="{EDGE}" y="{top - 10}">{escape(up.title)}</text>',
            f'<text x="{middle}" y="{bottom + 42}" text-anchor="middle">{escape(across.title)}</text>',
            *_grid(x, y, across, up, top, bottom),
            *_limit(limit, y),
            *(part for number, curve in enumerate(curves) for part in _curve(number, curve, x, y)),
            *_names(curves, y, top),
            "</svg>",
            "",
        ]
    )


class _Scale:
    """From a value to its place; a rounded scale ends at 1, 2 or 5 of a power of ten."""

    def __init__(self, values: Sequence[float], begin: float, end: float, *, rounded: bool = True) -> None:
        least, most = min(values), max(values)
        self.least = _round(least, up=False) if rounded else least
        self.most = max(_round(most, up=True) if rounded else most, self.least * 2)
        self._begin, self._length = begin, end - begin

    def at(self, value: float) -> float:
        inside = min(max(value, self.least), self.most)
        return round(self._begin + log10(inside / self.least) / log10(self.most / self.least) * self._length, 1)

    def ticks(self) -> list[float]:
        """1, 2 and 5 of each power of ten, fewer on a long scale."""
        decades = log10(self.most / self.least)
        steps = (1, 2, 5) if decades <= 2.2 else (1,)
        powers = range(floor(log10(self.least)), ceil(log10(self.most)) + 1)
        found = (step * 10.0**power for power in powers for step in steps)
        return [tick for tick in found if self.least * 0.999 <= tick <= self.most * 1.001]


def _round(value: float, *, up: bool) -> float:
    power = 10.0 ** floor(log10(value))
    if up:
        return power * min(step for step in (1, 2, 5, 10) if step * power >= value * 0.9999)
    return power * max(step for step in (1, 2, 5) if step * power <= value * 1.0001)


def _grid(x: _Scale, y: _Scale, across: Axis, up: Axis, top: int, bottom: int) -> Iterator[str]:
    for tick in x.ticks():
        at = x.at(tick)
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>'
        yield f'<text x="{at}" y="{bottom + 20}" text-anchor="middle">{escape(across.show(tick))}</text>'
    for tick in y.ticks():
        at = y.at(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
        yield f'<text x="{LEFT - 8}" y="{at + 5:g}" text-anchor="end">{escape(up.show(tick))}</text>'


def _limit(limit: Limit | None, y: _Scale) -> Iterator[str]:
    if limit is not None:
        at = y.at(limit.level)
        yield f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
        yield f'<text class="limit-name" x="{LEFT + 6}" y="{at - 6:g}">{escape(limit.name)}</text>'


def _curve(number: int, curve: Curve, x: _Scale, y: _Scale) -> Iterator[str]:
    places = [(x.at(a), y.at(b)) for a, b in curve.points]
    yield f'<path class="curve c{number}" d="M{" L".join(f"{a:g} {b:g}" for a, b in places)}"/>'
    for a, b in places:
        yield _mark(number, a, b)


def _mark(number: int, x: float, y: float) -> str:
    match number:
        case 0:
            shape = f'circle cx="{x:g}" cy="{y:g}" r="5"'
        case 1:
            shape = f'rect x="{x - 4.5:g}" y="{y - 4.5:g}" width="9" height="9" rx="1"'
        case 2:
            shape = f'path d="M{x:g} {y - 6.5:g}l6.5 6.5l-6.5 6.5l-6.5 -6.5z"'
        case _:
            shape = f'path d="M{x:g} {y - 6:g}l6 10.5l-12 0z"'
    return f'<{shape} class="mark m{number}"/>'


def _names(curves: Sequence[Curve], y: _Scale, top: int) -> Iterator[str]:
    """Each beside its curve's end, moved apart where two would meet."""
    order = sorted(range(len(curves)), key=lambda number: y.at(curves[number].points[-1][1]))
    places = [y.at(curves[number].points[-1][1]) + 5 for number in order]
    for before, after in pairwise(range(len(places))):
        places[after] = max(places[after], places[before] + NAME_LINE)
    below = max(0.0, places[-1] - (top + PLOT_HEIGHT + 5))
    for number, place in zip(order, places, strict=True):
        at = place - below
        yield f'<text class="name m{number}" x="{WIDTH - RIGHT + 12}" y="{at:g}">{escape(curves[number].name)}</text>'


def _described(across: Axis, up: Axis, curves: Sequence[Curve], limit: Limit | None) -> str:
    parts = [f"{up.title} against {across.title}."]
    for curve in curves:
        points = ", ".join(f"{up.show(b)} at {across.show(a)}" for a, b in curve.points)
        parts.append(f"{curve.name}: {points}.")
    if limit is not None:
        parts.append(f"{limit.name}: {up.show(limit.level)}.")
    return " ".join(parts)
