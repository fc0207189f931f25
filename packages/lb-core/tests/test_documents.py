"""Files into trees with places: YAML, TOML, and what is no configuration at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lb_core.documents import Document, dotted, parse, read_file
from lb_core.errors import ConfigError, Problem


def refused(text: str, *, toml: bool = False) -> list[Problem]:
    with pytest.raises(ConfigError) as error:
        parse(text, "lb.toml" if toml else "lb.yaml", toml=toml)
    return error.value.problems


def line(document: Document, *path: str | int) -> int:
    return document.place(path).line


YAML = """\
routes:
  example.com:
    backends: [a:1,
      b:2]
    health_check: /health   # short
    retry: {on: [connect]}
"*.x": ok
"""


def test_yaml_values_and_lines() -> None:
    document = parse(YAML, "lb.yaml")
    route = document.tree["routes"]["example.com"]
    assert route == {"backends": ["a:1", "b:2"], "health_check": "/health", "retry": {"on": ["connect"]}}
    assert line(document, "routes", "example.com", "backends", 1) == 4
    assert line(document, "routes", "example.com", "retry", "on") == 6
    assert line(document, "routes", "example.com", "not there", "at all") == 2
    assert line(document, "*.x") == 7
    assert document.files == ("lb.yaml",)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", False),
        ("On", True),
        ("yes", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("8080", 8080),
        ("-3", -3),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("10:30", "10:30"),
        ("2001-01-01", "2001-01-01"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        ("200-399", "200-399"),
        ('"8080"', "8080"),
        ("!!str 8080", "8080"),
        ("!!int 8080", 8080),
        ("! 8080", 8080),
        (":8080", ":8080"),
        ("<<", "<<"),
    ],
)
def test_yaml_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    document = parse(f"a: {text}", "lb.yaml")
    assert document.tree == {"a": value}
    assert document.problems == []


def test_yaml_keys_are_text() -> None:
    assert parse("{on: 1, 404: 2, null: 3, 1.5: 4}", "lb.yaml").tree == {"on": 1, "404": 2, "null": 3, "1.5": 4}


def test_json_is_yaml() -> None:
    assert parse('{"a": [1, true, null, "off"]}', "lb.json").tree == {"a": [1, True, None, "off"]}


def test_a_key_given_twice_is_a_problem_with_both_lines() -> None:
    document = parse("a:\n  b: 1\n  c: 2\n  b: 3\n", "lb.yaml")
    assert document.tree == {"a": {"b": 1, "c": 2}}
    assert [str(each) for each in document.problems] == [
        'lb.yaml:4: a.b: the key "b" is given twice, first in line 2 (keep one of the two)'
    ]


def test_aliases_and_merge_keys_keep_the_place_of_the_original() -> None:
    text = "x-base: &base\n  timeouts:\n    connect: 1s\n  b: 2\na:\n  <<: *base\n  b: 3\nc: *base\n"
    document = parse(text, "lb.yaml")
    assert document.tree["a"] == {"timeouts": {"connect": "1s"}, "b": 3}
    assert document.tree["c"]["b"] == 2
    assert line(document, "a", "timeouts", "connect") == 3
    assert line(document, "a", "b") == 7
    assert line(document, "c", "timeouts", "connect") == 3
    assert document.has(("c", "timeouts", "connect"))
    assert not document.has(("c", "timeouts", "idle"))


def test_merge_keys_take_lists_and_refuse_text() -> None:
    document = parse("x-a: &a {k: 1}\nx-b: &b {k: 2, l: 3}\nm:\n  <<: [*a, *b]\nn:\n  <<: text\n", "lb.yaml")
    assert document.tree["m"] == {"k": 1, "l": 3}
    assert [(each.line, each.message) for each in document.problems] == [
        (6, "`<<` takes a mapping, or a list of mappings")
    ]


def test_an_anchor_may_be_given_anew() -> None:
    assert parse("a: &x 1\nb: &x [2]\nc: *x\n", "lb.yaml").tree["c"] == [2]


def test_tags_have_no_meaning() -> None:
    document = parse("a: !env X\nb: !!python/object:os.system {}\nc: !!binary aGk=\n", "lb.yaml")
    assert [each.line for each in document.problems] == [1, 2, 3]
    assert document.problems[0].message == "the tag !env has no meaning here"


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("a: b: c", 1, "mapping values are not allowed in this context, in column 5"),
        ("a:\n\tb: 1", 2, "YAML is indented with spaces, not with tabs"),
        ("*.example.com: 1", 1, 'quote a host that begins with `*`: "*.example.com"'),
        ("a: @b", 1, "cannot start any token"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a: *nope", 1, "there is no &nope above this *nope"),
        ("a: &a [1, *a]", 1, "a value cannot contain itself"),
        ("? [1]\n: 2", 1, "a key must be plain text"),
        ("- a", 1, "the file holds a list, not a mapping"),
        ("just text", 1, "the file holds text, not a mapping"),
        ("# nothing", 0, "the file holds nothing but comments"),
        ("---\n", 2, "the file holds nothing, not a mapping"),
        ("a: 1\nb: \x07", 2, "the character U+0007 is not allowed"),
        ("[" * 50_000, 1, "nested more than 100 levels deep"),
        ("- " * 50_000, 1, "nested more than 100 levels deep"),
        ("a: [", 1, "this is not YAML"),
    ],
)
def test_what_is_no_yaml(text: str, at: int, message: str) -> None:
    (problem,) = refused(text)
    assert message in str(problem)
    assert problem.line == at


def test_fatal_yaml_keeps_the_problems_before_it() -> None:
    assert [each.line for each in refused("a: 1\na: 2\nb: *c\n")] == [2, 3]


TOML = '''\
version = 1
x."y.z" = """two
lines"""   # = [ {
[routes."example.com"]
strategy = 'rr'
match = [
  { path_prefix = "/a#b", methods = ["GET",
      "HEAD"] },
  { path_prefix = "/c" },
]
[[list]]
a = 1
[list.sub]
b = 1.5e3
[[list]]
a = 2
'''


def test_toml_values_and_lines() -> None:
    document = parse(TOML, "lb.toml", toml=True)
    assert document.tree["routes"]["example.com"]["match"][0]["methods"] == ["GET", "HEAD"]
    places = {path: place.line for path, place in document.places.items()}
    assert places[("version",)] == 1
    assert places[("x", "y.z")] == 2
    assert places[("routes", "example.com")] == 4
    assert places[("routes", "example.com", "strategy")] == 5
    assert places[("routes", "example.com", "match", 0, "methods", 1)] == 8
    assert places[("routes", "example.com", "match", 1, "path_prefix")] == 9
    assert places[("list", 0, "a")] == 12
    assert places[("list", 0, "sub", "b")] == 14
    assert places[("list", 1, "a")] == 16


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("a = 1\nb = = 2", 2, "this is not TOML: Invalid value, in column 5"),
        ("a = 1\na = 2", 2, "keep one of the two"),
        ("a = [1,", 1, "this is not TOML"),
        ("a", 1, "this is not TOML"),
    ],
)
def test_what_is_no_toml(text: str, at: int, message: str) -> None:
    (problem,) = refused(text, toml=True)
    assert message in str(problem)
    assert problem.line == at


def test_toml_nested_too_deeply() -> None:
    assert "nested" in refused("a = " + "[" * 5000 + "]" * 5000, toml=True)[0].message


def test_toml_dates_are_no_values_here() -> None:
    document = parse("[a]\nb = [1, 1979-05-27 07:32:00]\nc = 07:32:00\n", "lb.toml", toml=True)
    assert [(each.where, each.line) for each in document.problems] == [("a.b[1]", 2), ("a.c", 3)]


_KEYS = st.text("abc .=\"'#[]ü\\", min_size=1, max_size=5)
_VALUES = st.recursive(
    st.one_of(st.integers(-5, 5), st.booleans(), st.text("ab\n\"'#[]{}=,\\", max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=8,
)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, list):
        return "[" + ",\n".join(_toml(each) for each in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return str(value)


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
@settings(deadline=None)
def test_every_toml_key_has_the_line_it_stands_in(tree: dict[str, object]) -> None:
    text = "\n".join(f"{_toml(key)} = {_toml(value)} # note" for key, value in tree.items())
    document = parse(text, "lb.toml", toml=True)
    assert document.tree == tree
    lines = text.split("\n")
    for path, place in document.places.items():
        if isinstance(path[-1], str):
            assert _toml(path[-1]) in lines[place.line - 1]


@given(st.text(max_size=60))
@example("a: &a\n  b: *a")
@example("? ")
@example("{<<: <<}")
@example("!!map")
@example('a: "\\x')
@example("%YAML 9.9\n---\na: 1")
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_document_or_a_config_error(text: str) -> None:
    for toml in (False, True):
        try:
            document = parse(text, "f", toml=toml)
        except ConfigError:
            continue
        assert isinstance(document.tree, dict)


@pytest.mark.parametrize(
    ("content", "at", "message"),
    [
        (b"", 0, "the file is empty (`lb init` writes one"),
        (b" \n\n", 0, "the file is empty"),
        (b"a: 1\nb: \xff\xfe", 2, "byte 0xff is not UTF-8"),
    ],
)
def test_files_that_hold_no_text(tmp_path: Path, content: bytes, at: int, message: str) -> None:
    path = tmp_path / "lb.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_file(path)
    (problem,) = error.value.problems
    assert message in str(problem)
    assert (problem.file, problem.line) == (str(path), at)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "lb.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="there is no such file"):
        read_file(tmp_path / "nope.yaml")
    with pytest.raises(ConfigError, match=r"this is a directory, not a configuration file \(it holds lb.yaml\)"):
        read_file(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="name a file in it"):
        read_file(tmp_path / "empty")
    with pytest.raises(ConfigError, match="the file cannot be read"):
        read_file(tmp_path / "lb.yaml" / "below")
    with pytest.raises(ConfigError, match="this is not the name of a file"):
        read_file("a\0b")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "lb.yaml"
    with path.open("wb") as file:
        file.truncate(33 * 1024 * 1024)
    with pytest.raises(ConfigError, match="the file is larger than 32 MiB"):
        read_file(path)


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "lb.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_file(path).tree == {"a": 1}


def test_paths_as_messages_show_them() -> None:
    assert dotted(("routes", "example.com", "match", 0, "methods")) == "routes.example.com.match[0].methods"
    assert dotted(()) == ""
