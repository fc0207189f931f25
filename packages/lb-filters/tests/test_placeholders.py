"""Templates: what may stand in braces, and what comes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.testing import exchange
from lb_filters.placeholders import OF_REQUEST, OF_RESPONSE, Template


def test_values_of_a_request() -> None:
    text = " ".join(f"{{{name}}}" for name in OF_REQUEST)
    asked = exchange("/a%20b?c=d", method="PUT", host="h.example", client="192.0.2.9", scheme="https")
    assert Template(text, OF_REQUEST).fill(asked) == "192.0.2.9 h.example PUT /a%20b c=d /a%20b?c=d https "


def test_values_of_a_response() -> None:
    asked = exchange("/")
    asked.status = 204
    assert Template("{status}{backend}", OF_RESPONSE).fill(asked) == "204"


def test_a_target_that_is_no_path() -> None:
    assert Template("{path}{uri}", OF_REQUEST).fill(exchange("*", method="OPTIONS")) == "//"


def test_constants_and_braces() -> None:
    assert Template("a{{b}}", OF_REQUEST).constant == "a{b}"
    assert Template("", OF_REQUEST).constant == ""
    mixed = Template("{{{host}}}", OF_REQUEST)
    assert (mixed.constant, mixed.places, mixed.fill(exchange(host="h"))) == (None, ["host"], "{h}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "write {{"),
        ("a}", "write }}"),
        ("{hsot}", "did you mean {host}?"),
        ("{}", "known are {client}"),
        ("{host.__class__}", "nothing is called"),
    ],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"brace|nothing") as caught:
        Template(text, OF_REQUEST)
    assert said in str(caught.value)


@given(st.text(st.sampled_from("{}ab"), max_size=12))
def test_a_text_is_read_or_refused(text: str) -> None:
    values = {"a": lambda _: "A", "b": lambda _: "B", "": lambda _: "-"}
    try:
        filled = Template(text, values).fill(None)
    except ValueError:
        return
    expected = text.replace("{{", "\0").replace("}}", "\1") if "{{" not in text and "}}" not in text else None
    if expected is not None:
        assert filled == expected.replace("{a}", "A").replace("{b}", "B").replace("{}", "-")
