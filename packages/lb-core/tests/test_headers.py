"""Headers: an ordered, case-insensitive list that lets nothing unsafe on the wire."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.headers import FRAMING, Headers, check_field

HEAD = (
    b"GET http://h:80/a:b HTTP/1.1\r\nHost: a.x\r\nAccept: one\r\nX-Empty:\r\naccept:  two \t\r\n"
    b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Colon: a:b\r\nX-Raw: \xe4\r\n\r\n"
)


def test_parse() -> None:
    headers = Headers.parse(HEAD)
    assert headers.fields() == [
        ("Host", "a.x"),
        ("Accept", "one"),
        ("X-Empty", ""),
        ("accept", "two"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Colon", "a:b"),
        ("X-Raw", "ä"),
    ]
    assert not headers.changed
    assert Headers.parse(b"HTTP/1.1 200 OK: fine\r\nA: b\r\n\r\n").fields() == [("A", "b")]
    assert Headers.parse(b"").fields() == []


def test_reading() -> None:
    headers = Headers.parse(HEAD)
    assert headers["ACCEPT"] == "one, two"
    assert headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert headers.get("nothing") is None
    assert headers.get_all("nothing") == []
    assert "x-empty" in headers
    assert "x-nothing" not in headers
    assert "" not in headers
    assert list(headers) == ["Host", "Accept", "X-Empty", "Set-Cookie", "X-Colon", "X-Raw"]
    assert len(headers) == 6
    with pytest.raises(KeyError):
        headers["nothing"]
    assert "Host" in repr(headers)


def test_writing() -> None:
    headers = Headers([("A", "1"), ("a", "2"), ("B", "3")])
    assert not headers.changed
    headers["a"] = " 4 "
    assert headers.changed
    assert headers.fields() == [("B", "3"), ("a", "4")]
    headers.add("A", "5")
    assert headers["a"] == "4, 5"
    del headers["A"]
    assert headers.encode() == b"B: 3\r\n"
    with pytest.raises(KeyError):
        del headers["A"]
    headers.setdefault("C", "6")
    headers.update({"b": "7"})
    assert headers.pop("C") == "6"
    assert headers.pop("C", "none") == "none"
    assert headers.encode() == b"b: 7\r\n"


def test_what_came_and_what_was_added_are_told_apart() -> None:
    headers = Headers.parse(b"GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\n")
    assert headers.halves() == (b"A: 1\r\nB: 2\r\na: 3\r\n", b"")
    headers["C"] = "4"  # not there: nothing is read for it
    headers.add("B", "5")
    assert headers.halves() == (b"A: 1\r\nB: 2\r\na: 3\r\n", b"C: 4\r\nB: 5\r\n")
    with pytest.raises(KeyError):
        del headers["D"]
    headers["A"] = "6"
    assert headers.halves() == (b"B: 2\r\n", b"C: 4\r\nB: 5\r\nA: 6\r\n")
    del headers["b"]
    assert headers.fields() == [("C", "4"), ("A", "6")]
    assert headers.halves() == (b"", headers.encode())
    headers["c"] = "7"
    assert headers.fields() == [("A", "6"), ("c", "7")]


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\n", "ä", "a\x00", "(a)", " a"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    for write in (
        lambda: Headers([(name, "x")]),
        lambda: Headers().add(name, "x"),
        lambda: Headers().update({name: "x"}),
    ):
        with pytest.raises(ValueError, match="token"):
            write()


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n", "a\r", "\x00", "\x7f", "\x1b[31m", "☃"])
def test_a_value_that_must_not_go_on_the_wire_is_refused(value: str) -> None:
    for write in (lambda: Headers([("a", value)]), lambda: Headers().add("a", value), lambda: check_field("a", value)):
        with pytest.raises(ValueError, match="control characters"):
            write()


@pytest.mark.parametrize("name", [*sorted(FRAMING), "Content-Length", "TE"])
def test_framing_belongs_to_the_engine(name: str) -> None:
    headers = Headers([(name, "5")])
    for write in (lambda: headers.add(name, "1"), lambda: headers.update({name: "1"}), lambda: headers.pop(name)):
        with pytest.raises(ValueError, match="framing"):
            write()
    assert headers[name] == "5"
    assert not headers.changed


NAME = st.text("abAB-", min_size=1, max_size=3)
VALUE = st.text(st.characters(max_codepoint=255), max_size=8)
STEP = st.tuples(st.sampled_from(["set", "add", "delete"]), NAME, VALUE)


@given(st.lists(st.tuples(NAME, VALUE), max_size=6), st.lists(STEP, max_size=12))
def test_against_a_plain_list(begin: list[tuple[str, str]], steps: list[tuple[str, str, str]]) -> None:
    def fine(value: str) -> bool:
        return not re.search("[\x00-\x08\x0a-\x1f\x7f]", value)

    begin = [(name, value) for name, value in begin if fine(value)]
    headers = Headers(begin)
    model = [(name, value.strip(" \t")) for name, value in begin]
    for action, name, value in steps:
        known = [each for each in model if each[0].lower() != name.lower()]
        if action == "delete":
            if known == model:
                with pytest.raises(KeyError):
                    del headers[name]
            else:
                del headers[name]
                model = known
        elif not fine(value):
            with pytest.raises(ValueError, match="control characters"):
                headers.add(name, value)
        elif action == "add":
            headers.add(name, value)
            model = [*model, (name, value.strip(" \t"))]
        else:
            headers[name] = value
            model = [*known, (name, value.strip(" \t"))]
        assert headers.fields() == model
    assert len(headers) == len(list(headers)) == len({name.lower() for name, _ in model})
    for name in headers:
        assert headers[name] == ", ".join(value for each, value in model if each.lower() == name.lower())


@given(st.lists(st.tuples(NAME, VALUE), max_size=6), st.lists(STEP, max_size=12), st.booleans())
def test_a_head_that_is_read_lazily_is_the_same_list(
    begin: list[tuple[str, str]], steps: list[tuple[str, str, str]], body: bool
) -> None:
    def fine(value: str) -> bool:
        return not re.search("[\x00-\x08\x0a-\x1f\x7f]", value)

    begin = [(name, value.strip(" \t")) for name, value in begin if fine(value)]
    lines = "".join(f"{name}: {value}\r\n" for name, value in begin).encode("latin-1")
    lazy = Headers.parse(b"GET / HTTP/1.1\r\n" + lines + (b"\r\na: body\r\n\r\na: b" if body else b""))
    read = Headers(begin)
    for action, name, value in steps:
        if action == "delete":
            assert (name in lazy) == (name in read)
            if name in read:
                del lazy[name], read[name]
        elif fine(value):
            for headers in (lazy, read):
                headers.add(name, value) if action == "add" else headers.__setitem__(name, value)
        assert lazy.encode() == read.encode()
        assert lazy.get(name) == read.get(name)
    assert lazy.fields() == read.fields()
    assert lazy.halves() == read.halves()


@given(st.lists(st.tuples(NAME, VALUE), max_size=8))
def test_what_is_encoded_is_read_back(fields: list[tuple[str, str]]) -> None:
    headers = Headers()
    for name, value in fields:
        try:
            headers.add(name, value)
        except ValueError:
            continue
    block = headers.encode()
    assert block.count(b"\n") == block.count(b"\r\n") == len(headers.fields())
    assert Headers.parse(b"GET / HTTP/1.1\r\n" + block + b"\r\n").fields() == headers.fields()
