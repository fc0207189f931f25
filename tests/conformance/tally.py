"""How many cases and runs there were."""

from __future__ import annotations

cases: set[str] = set()
runs = 0
wrong = 0


def count(case: str, done: int) -> None:
    """A case has been run so many times."""
    global runs
    cases.add(case)
    runs += done


def summary() -> str:
    """One line."""
    return f"conformance: {len(cases)} cases, {runs} runs, {wrong} wrong"
