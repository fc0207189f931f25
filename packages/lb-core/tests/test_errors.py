"""The exception tree, and what its messages say."""

from __future__ import annotations

import inspect
import re

import pytest

from lb_core import errors
from lb_core.errors import (
    AttemptError,
    BackendReset,
    ConfigError,
    ConnectFailed,
    ConnectTimeout,
    HeaderTimeout,
    InvalidResponse,
    LbError,
    Problem,
    RequestError,
)

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


def test_the_drawing_shows_the_tree() -> None:
    """The module's docstring and its classes are the same tree."""
    drawn: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^( +[│├└─ ]*)([A-Z][A-Za-z]+)", line)
        if found:
            depth = len(found[1])
            while parents and parents[-1][0] >= depth:
                parents.pop()
            drawn[found[2]] = parents[-1][1] if parents else "Exception"
            parents.append((depth, found[2]))
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in ALL if kind.__base__}


@pytest.mark.parametrize("kind", ALL)
def test_everything_is_caught_by_the_root_and_documented(kind: type[Exception]) -> None:
    assert issubclass(kind, LbError)
    assert kind.__doc__


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("bad"), "bad"),
        (Problem("bad", "a.b"), "a.b: bad"),
        (Problem("bad", "a.b", "lb.yaml", 3), "lb.yaml:3: a.b: bad"),
        (Problem("bad", "a.b", "lb.yaml"), "lb.yaml: a.b: bad"),
        (Problem("bad", "", "lb.yaml", 3, "did you mean good?"), "lb.yaml:3: bad (did you mean good?)"),
        (Problem("bad", "a.b", "", 3), "a.b: bad"),
    ],
)
def test_a_problem_names_place_value_and_next_step(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_a_config_error_holds_every_problem() -> None:
    error = ConfigError([Problem("one", "a"), Problem("two", "b")])
    assert str(error) == "a: one\nb: two"
    assert len(error.problems) == 2
    assert ConfigError("alone").problems == [Problem("alone")]


def test_a_request_error_knows_its_answer() -> None:
    error = RequestError(431, "head_too_large", "the head is too large")
    assert (error.status, error.word, error.detail, str(error)) == (
        431,
        "head_too_large",
        "the head is too large",
        "the head is too large",
    )


@pytest.mark.parametrize(
    ("error", "status", "flag", "unsent"),
    [
        (ConnectFailed("x"), 502, "connect_failed", True),
        (ConnectTimeout("x"), 504, "connect_timeout", True),
        (BackendReset("x"), 502, "reset", False),
        (HeaderTimeout("x"), 504, "header_timeout", False),
        (InvalidResponse("x"), 502, "invalid_response", False),
    ],
)
def test_an_attempt_error_knows_what_it_allows(error: AttemptError, status: int, flag: str, unsent: bool) -> None:
    assert (error.status, error.flag, error.unsent) == (status, flag, unsent)
    assert str(error) == "x"


def test_a_reset_knows_whether_the_connection_was_reused() -> None:
    assert not BackendReset("x").reused
    assert BackendReset("x", reused=True).reused
