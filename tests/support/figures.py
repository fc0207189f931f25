"""Figures that tests measured, shown at the end of a run."""

from __future__ import annotations

from typing import Protocol


class Measured(Protocol):
    """Notes a figure for the summary of the run."""

    def __call__(self, what: str, figure: str) -> None:
        """`what` was measured, and came out as `figure`."""


figures: list[tuple[str, str]] = []


def note(what: str, figure: str) -> None:
    """Keep a figure for the summary."""
    figures.append((what, figure))
