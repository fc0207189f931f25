"""How many cases and runs there were."""

from __future__ import annotations

from collections.abc import Iterable

cases: set[str] = set()
runs = 0
wrong = 0


def count(case: str, done: int) -> None:
    """A case has been run so many times."""
    add([case], done)


def add(counted: Iterable[str], done: int) -> None:
    """Cases have been run so many times together."""
    global runs
    cases.update(counted)
    runs += done


def summary() -> str:
    """One line."""
    return f"conformance: {len(cases)} cases, {runs} runs, {wrong} wrong"
