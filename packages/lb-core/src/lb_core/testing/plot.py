"""Latencies of several strategies as a drawing (SVG): a row each, with p50, p95, p99 and the longest on one scale.

The scale is logarithmic, as a tail is many times the median. Marks differ in shape as well as in colour, every number
stands in text beside them, and the whole is described in words for those who do not see it. Colours follow the
reader's scheme, light or dark, on a ground of the drawing's own, whatever page it stands on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import ceil, floor, isnan, log10
from textwrap import wrap

from lb_core.testing.figures import Result, show_time

WIDTH, EDGE, ROW = 600, 28, 62
LINE = 19
NAME_MOST = 30
NAME_BESIDE_NOTE = 18
LETTERS = 74
"""How many letters of the small text fit into a line."""

STYLE = """
svg { color-scheme: light dark; }
.ground { fill: #ffffff; stroke: #d0d7de; }
text { font: 14px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #57606a; }
.title { font-size: 17px; font-weight: 600; fill: #1f2328; }
.name { font-size: 15px; font-weight: 600; fill: #1f2328; }
.note { font-size: 13px; font-weight: 400; fill: #bc4c00; }
.value { font-variant-numeric: tabular-nums; fill: #1f2328; }
.grid { stroke: #eaeef2; }
.rail { stroke: #afb8c1; stroke-width: 2; }
.span { stroke: #54aeff; stroke-width: 6; stroke-linecap: round; opacity: .45; }
.p50 { fill: #54aeff; } .p95 { fill: #0969da; } .p99 { fill: #0a3069; }
.p50, .p95, .p99 { stroke: #ffffff; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; stroke: #30363d; }
  text { fill: #9198a1; }
  .title, .name, .value { fill: #f0f6fc; }
  .note { fill: #f0883e; }
  .grid { stroke: #21262d; }
  .rail { stroke: #656c76; }
  .span { stroke: #388bfd; }
  .p50 { fill: #1f6feb; } .p95 { fill: #79c0ff; } .p99 { fill: #f0f6fc; }
  .p50, .p95, .p99 { stroke: #0d1117; }
}
"""


def draw(results: Sequence[Result], caption: str = "", title: str = "Latency by strategy") -> str:
    """The SVG text; `caption` says what was simulated."""
    lines = wrap(caption, LETTERS)
    top = 58 + LINE * len(lines) + 14
    bottom = top + ROW * len(results)
    scale = _Scale(results)
    height = bottom + 36
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(_described(results, caption))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        f'<text class="title" x="{EDGE}" y="36">{escape(title)}</text>',
        *(f'<text x="{EDGE}" y="{58 + LINE * number}">{escape(line)}</text>' for number, line in enumerate(lines)),
        *_legend(),
        *_axis(scale, top, bottom),
    ]
    for number, result in enumerate(results):
        parts += _row(result, scale, top + ROW * number)
    return "\n".join([*parts, "</svg>", ""])


class _Scale:
    """Where a time stands; the ends are round numbers, so that every mark lies between two lines."""

    def __init__(self, results: Sequence[Result]) -> None:
        times = [time for each in results for time in (each.p50, each.max) if not isnan(time) and time > 0] or [
            0.01,
            1.0,
        ]
        self.least = _round_down(min(times))
        self.most = max(_round_up(max(times)), self.least * 2)
        self._width = (WIDTH - 2 * EDGE) / log10(self.most / self.least)

    def at(self, seconds: float) -> float:
        """The place of a time."""
        inside = min(max(seconds, self.least), self.most)
        return round(EDGE + log10(inside / self.least) * self._width, 1)

    def ticks(self) -> list[float]:
        """The times that have a line: 1, 2 and 5 of each power of ten, fewer where they would be crowded."""
        wide = self.most / self.least > 500
        steps = (1,) if wide else (1, 2, 5)
        powers = range(floor(log10(self.least)), ceil(log10(self.most)) + 1)
        found = [step * 10.0**power for power in powers for step in steps]
        return [tick for tick in found if self.least * 0.999 <= tick <= self.most * 1.001]


def _round_down(seconds: float) -> float:
    power = 10.0 ** floor(log10(seconds))
    return power * max(step for step in (1, 2, 5) if step * power <= seconds * 1.0001)


def _round_up(seconds: float) -> float:
    power = 10.0 ** floor(log10(seconds))
    return power * min(step for step in (1, 2, 5, 10) if step * power >= seconds * 0.9999)


def _axis(scale: _Scale, top: int, bottom: int) -> Iterator[str]:
    ticks = scale.ticks()
    for tick in ticks:
        x = scale.at(tick)
        side = "start" if x < EDGE + 10 else "end" if x > WIDTH - EDGE - 10 else "middle"
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
        yield f'<text x="{x}" y="{bottom + 20}" text-anchor="{side}">{_tick(tick)}</text>'


def _tick(seconds: float) -> str:
    return f"{seconds:g} s" if seconds > 0.9 else f"{seconds * 1000:g} ms"


def _legend() -> Iterator[str]:
    """The shapes, at the right of the title."""
    x = WIDTH - EDGE - 214
    for name in ("p50", "p95", "p99"):
        yield _mark(name, x, 31)
        yield f'<text x="{x + 10}" y="36">{name}</text>'
        x += 56
    yield f'<line class="rail" x1="{x}" x2="{x}" y1="25" y2="37"/>'
    yield f'<text x="{x + 8}" y="36">max</text>'


def _row(result: Result, scale: _Scale, top: int) -> Iterator[str]:
    note = _note(result)
    most = NAME_BESIDE_NOTE if note else NAME_MOST
    name = result.strategy if len(result.strategy) <= most else f"{result.strategy[: most - 1]}…"
    beside = f'<tspan class="note" dx="10">{escape(note)}</tspan>' if note else ""
    yield f'<text class="name" x="{EDGE}" y="{top + 22}">{escape(name)}{beside}</text>'
    yield f'<text class="value" x="{WIDTH - EDGE}" y="{top + 22}" text-anchor="end">{escape(_times(result))}</text>'
    if isnan(result.p50):
        return
    y = top + 41
    begin, end, longest = scale.at(result.p50), scale.at(result.p99), scale.at(result.max)
    yield f'<line class="rail" x1="{end}" x2="{longest}" y1="{y}" y2="{y}"/>'
    yield f'<line class="rail" x1="{longest}" x2="{longest}" y1="{y - 6}" y2="{y + 6}"/>'
    yield f'<line class="span" x1="{begin}" x2="{end}" y1="{y}" y2="{y}"/>'
    for mark in ("p50", "p95", "p99"):
        yield _mark(mark, scale.at(getattr(result, mark)), y)


def _mark(name: str, x: float, y: float) -> str:
    match name:
        case "p50":
            return f'<circle class="p50" cx="{x}" cy="{y}" r="6"/>'
        case "p95":
            return f'<rect class="p95" x="{x - 5.5:g}" y="{y - 5.5:g}" width="11" height="11" rx="1.5"/>'
        case _:
            return f'<path class="p99" d="M{x:g} {y - 8:g}l8 8l-8 8l-8 -8z"/>'


def _times(result: Result) -> str:
    if isnan(result.p50):
        return "no good answer"
    return " · ".join(f"{name} {show_time(getattr(result, name))}" for name in ("p50", "p95", "p99"))


def _note(result: Result) -> str:
    """What the times do not say."""
    digits = 0 if result.diverges else 2
    errors = f"{result.errors / result.requests:.{digits}%} errors" if result.errors else ""
    return ", ".join(part for part in (errors, "growing" if result.diverges else "") if part)


def _described(results: Sequence[Result], caption: str) -> str:
    rows = (
        ", ".join(
            part for part in (f"{each.strategy}: {_times(each)} · max {show_time(each.max)}", _note(each)) if part
        )
        for each in results
    )
    return ". ".join(part for part in (caption.rstrip("."), *rows) if part) + "."
