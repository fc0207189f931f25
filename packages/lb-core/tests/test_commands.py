"""Commands of plugins: what may be declared, how they are called, and how the command line finds them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

import lb_core
from lb_core import Command, LbError, PluginError, hookimpl
from lb_core.cli import declared, lb, status_of
from lb_core.commands import OWN
from lb_core.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lb_core import LoadBalancer

BALANCER = cast("LoadBalancer", "the balancer")


def greet(balancer: object, *words: str) -> str:
    return f"{balancer} says {' '.join(words)}"


GREET = Command("greet", greet, "Say something.", ("WORD", "[WORD]..."))


class Greeting:
    @hookimpl
    def register_commands(self) -> Iterator[Command]:
        yield GREET


@pytest.mark.parametrize("name", ["", "Shift", "2go", "-x", "a b", "a_b", "ä", "a" * 33, "line\n", 7])
def test_a_name_is_typed_easily(name: Any) -> None:
    with pytest.raises(PluginError, match="lower-case letters"):
        Command(name, greet, "Help.")


def test_the_names_of_the_command_line_are_taken() -> None:
    assert set(lb.commands) <= OWN
    with pytest.raises(PluginError, match="'run': the command line has one of that name"):
        Command("run", greet, "Help.")


def test_run_must_be_callable_and_help_must_say_something() -> None:
    with pytest.raises(PluginError, match="run must be callable, not str"):
        Command("fine", cast("Any", "text"), "Help.")
    with pytest.raises(PluginError, match="help must say"):
        Command("fine", greet, " ")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("route",), "write NAME"),
        (("[ROUTE",), "write NAME"),
        ((7,), "write NAME"),
        (("SHARE...", "ROUTE"), "only its last argument"),
        (("[ROUTE]", "SHARE"), "is required and stands after one that is not"),
    ],
)
def test_arguments_are_names_as_a_help_shows_them(arguments: Any, fault: str) -> None:
    with pytest.raises(PluginError, match=fault):
        Command("fine", greet, "Help.", arguments)


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        ((), {0}),
        (("ROUTE",), {1}),
        (("ROUTE", "[POOL]"), {1, 2}),
        (("ROUTE", "POOL=PERCENT..."), {2, 3, 4}),
        (("ROUTE", "[POOL=PERCENT]..."), {1, 2, 3, 4}),
    ],
)
def test_how_many_arguments_may_be_given(arguments: tuple[str, ...], accepted: set[int]) -> None:
    command = Command("fine", greet, "Help.", arguments)
    assert {count for count in range(5) if command.accepts(count)} == accepted


def test_it_is_called_with_the_balancer_and_its_arguments() -> None:
    assert GREET.call(BALANCER, ("good", "day")) == "the balancer says good day"
    with pytest.raises(LbError, match=r"0 arguments for `lb greet WORD \[WORD\]...`"):
        GREET.call(BALANCER, ())
    with pytest.raises(LbError, match="answered with int, not with text"):
        Command("seven", cast("Any", lambda _: 7), "Help.").call(BALANCER, ())


def test_plugins_offer_commands() -> None:
    found = Plugins.discover(extra=[Greeting()])
    assert found.commands["greet"] is GREET
    assert found.loaded[-1].commands == ("greet",)
    assert found.loaded[-1].as_data()["commands"] == ["greet"]


def test_a_name_that_is_taken_names_both_owners() -> None:
    with pytest.raises(PluginError, match=r"'Greeting-2': command 'greet' is taken by plugin 'Greeting'"):
        Plugins.discover(extra=[Greeting(), Greeting()])


# what the command line reads in the sources

PLAIN = """
from lb_core import Command, hookimpl
raise SystemExit("this module is read, and never imported")
def wave(balancer, *arms): ...
@hookimpl
def register_commands():
    yield Command("wave", wave, "Wave " "arms: both.", ("ARM...",))
    yield Command(name="nod", run=wave, help="Nod.")
"""
COMPUTED = """
from lb_core import Command, hookimpl
@hookimpl
def register_commands():
    return [Command(name, print, f"Do {name}.") for name in ("one", "two")]
"""
NONE = """
raise SystemExit("this module is not imported at all")
"""
OTHER = """
from click import Command
from lb_core import hookimpl
import lb_core
@hookimpl
def register_commands():
    Command("not-ours", help="x")
    return [lb_core.Command("ours", print, "Ours.")]
"""
BROKEN = """
from lb_core import Command
def register_commands(): ...
BAD = Command("Not a name", print, "Bad.")
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Packages with these sources, as if they were the installed plugins."""

    def install(**sources: str) -> None:
        points = []
        for name, source in sources.items():
            folder = tmp_path / f"commands_of_{name}"
            folder.mkdir()
            (folder / "__init__.py").write_text(source)
            points.append(EntryPoint(name, folder.name, "lb"))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(declared, "entry_points", lambda *, group: points if group == "lb" else [])

    return install


def names() -> list[str]:
    return [command.name for command in declared.offered()[0]]


def test_literal_declarations_are_read_without_importing_the_plugin(installed: Any) -> None:
    installed(plain=PLAIN)
    commands, problems = declared.offered()
    assert not problems
    assert [(each.name, each.help, each.arguments) for each in commands] == [
        ("wave", "Wave arms: both.", ("ARM...",)),
        ("nod", "Nod.", ()),
    ]
    with pytest.raises(NotImplementedError):
        commands[0].run()


def test_computed_declarations_are_asked_for(installed: Any) -> None:
    installed(computed=COMPUTED, other=OTHER, none=NONE)
    assert names() == ["one", "two", "ours"]


def test_a_module_without_source_is_asked(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(computed=COMPUTED)
    monkeypatch.setattr(declared, "find_spec", lambda name: None)
    assert names() == ["one", "two"]


def test_a_module_that_is_no_package_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: Any) -> None:
    installed()
    (tmp_path / "lone_module.py").write_text(PLAIN)
    monkeypatch.setattr(declared, "entry_points", lambda *, group: [EntryPoint("lone", "lone_module", "lb")])
    assert names() == ["wave", "nod"]


def test_a_broken_plugin_is_named_and_the_others_go_on(
    installed: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(broken=BROKEN, plain=PLAIN)
    monkeypatch.delitem(lb.__dict__, "of_plugins", raising=False)
    assert status_of(["--help"]) == 0
    told = capsys.readouterr()
    assert "  wave      Wave arms.\n" in told.out
    assert "lb: plugin 'broken' is left out: PluginError: command name 'Not a name'" in told.err
    assert status_of(["wave"]) == 2
    assert "lb wave ARM...: 0 arguments are given" in capsys.readouterr().err
    assert status_of(["wave", "--help"]) == 0
    assert "Usage: lb wave [OPTIONS] ARM..." in capsys.readouterr().out
    del lb.__dict__["of_plugins"]


def test_own_commands_do_not_look_for_plugins() -> None:
    program = (
        "import sys\n"
        "from lb_core.cli import status_of\n"
        "assert status_of(['check', '--help']) == 0\n"
        "assert 'importlib.metadata' not in sys.modules\n"
        "assert 'lb_core.cli.declared' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_face_has_it() -> None:
    assert lb_core.Command is Command


def test_an_answer_for_programs() -> None:
    words = Command("words", greet, "Say something.", ("[WORD]...",), lambda balancer, *words: {"words": words})
    assert words.call(BALANCER, ("a",)) == "the balancer says a"
    assert words.call(BALANCER, ("a", "b"), as_json=True) == '{\n  "words": [\n    "a",\n    "b"\n  ]\n}'
    with pytest.raises(LbError, match="`lb greet` has no answer in JSON: leave --json out"):
        GREET.call(BALANCER, ("a",), as_json=True)
    with pytest.raises(PluginError, match="data must be callable, not str"):
        Command("fine", greet, "Help.", (), cast("Any", "text"))


def test_whether_there_is_one_is_read_from_the_source(installed: Any) -> None:
    added = '    yield Command("look", wave, "Look.", (), wave)\n'
    installed(plain=PLAIN + added)
    assert {each.name: each.data is not None for each in declared.offered()[0]} == {
        "wave": False,
        "look": True,
        "nod": False,
    }


def test_built_in_commands_are_found_without_plugins(installed: Any) -> None:
    installed()
    known = Plugins.discover().commands
    found = {command.name: command for command in declared.built_in()}
    assert "nodes" in found
    assert found.keys() <= known.keys()
    for name, command in found.items():
        assert (command.help, command.arguments) == (known[name].help, known[name].arguments)
        assert (command.data is None) == (known[name].data is None)
