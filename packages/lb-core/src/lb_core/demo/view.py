"""The live picture of the demo for a terminal of 80 columns or more, and the same as plain lines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lb_core.demo.figures import Row

MARKS = {
    "up": ("✓", "green"),
    "starting": ("…", "yellow"),
    "draining": ("↓", "yellow"),
    "maintenance": ("-", "yellow"),
    "ejected": ("!", "red"),
    "down": ("✗", "red"),
}
"""The mark and the colour beside a state's name; none of the three stands alone."""

BAR = 10
LEAST_EVENTS = 3


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything the view shows, at one moment. `things` are (what it does, the command) pairs."""

    url: str
    config: str
    strategy: str
    rows: list[Row]
    rate: float
    sent: int
    answered: int
    lost: int
    news: list[tuple[float, str]]
    things: list[tuple[str, str]]
    footer: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        above: list[Table | Text] = [
            *self._title(),
            Text(),
            self._table(options.max_width),
            Text(),
            self._traffic(),
            Text(),
        ]
        below = [Text(), *self._things(options.max_width), Text(), Text(self.footer, style="dim")]
        taken = 11 + len(self.rows) + len(below) + 1
        room = max(LEAST_EVENTS, min(12, (options.height or console.height) - taken))
        yield Group(*above, *self._events(room), *below)

    def _title(self) -> list[Text]:
        return [
            Text.assemble(("lb demo", "bold"), "   ", (self.url, "bold cyan"), f"   strategy {self.strategy}"),
            Text(f"config    {self.config}", no_wrap=True, overflow="fold"),
        ]

    def _table(self, width: int) -> Table:
        gap = 2 if width >= 100 else 1
        others = max(7, *(len(row.name) for row in self.rows)) + (BAR + 5) + 9 + 6 + 6 + 6 + 6 * gap
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("Backend", no_wrap=True)
        table.add_column("State", no_wrap=True, overflow="ellipsis", width=max(12, min(48, width - others)))
        table.add_column("Share", no_wrap=True, width=BAR + 5)
        for header, wide in (("In flight", 9), ("p50", 6), ("p99", 6), ("Errors", 6)):
            table.add_column(header, justify="right", no_wrap=True, width=wide)
        for row in self.rows:
            table.add_row(
                row.name,
                _state(row),
                _share(row.share),
                str(row.in_flight),
                _time(row.p50),
                _time(row.p99),
                str(row.errors),
            )
        return table

    def _traffic(self) -> Text:
        lost = Text(f"{self.lost} lost", style="bold red" if self.lost else "")
        return Text.assemble(f"{self.rate:.0f} requests/s   {self.sent} sent   {self.answered} answered   ", lost)

    def _events(self, room: int) -> list[Text]:
        lines = [f"  {clock(when)}  {what}" for when, what in self.news[-room:]]
        lines += [""] * (room - len(lines))
        return [Text("Events", style="bold"), *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines)]

    def _things(self, width: int) -> list[Text]:
        lines = [Text("Try in another terminal", style="bold")]
        for what, command in self.things:
            lines.append(Text(f"  {what}"))
            whole = (
                f"    {command}"  # cut where the line ends, never at a space: a selection then pastes as one command
            )
            lines += [Text(whole[at : at + width], style="cyan") for at in range(0, len(whole), width)]
        return lines


def status_line(picture: Picture) -> str:
    """The picture in one line, for a log."""
    shares = "  ".join(
        f"{row.name} {row.share:.0%}{'' if row.state == 'up' else f' ({row.state})'}" for row in picture.rows
    )
    return f"{picture.sent} sent, {picture.answered} answered, {picture.lost} lost   {shares}"


def clock(seconds: float) -> str:
    """The local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _state(row: Row) -> Text:
    mark, colour = MARKS[row.state]
    text = f"{mark} {row.state}"
    return Text.assemble((text, colour), f": {row.reason}" if row.reason else "")


def _share(share: float) -> str:
    full = round(share * BAR)
    return f"{'█' * full}{'░' * (BAR - full)} {share:4.0%}"


def _time(seconds: float) -> str:
    if not seconds:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"
