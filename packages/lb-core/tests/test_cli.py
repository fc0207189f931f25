"""The command line: what each command prints, and the status it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lb_core import __version__
from lb_core.cli import main, status_of
from lb_core.cli.app import lb
from lb_core.columns import columns

GOOD = """\
listeners: {web: {address: "127.0.0.1:8080"}}
routes:
  example.com:
    backends: {web1: "127.0.0.1:9001", web2: "127.0.0.1:9002"}
    health_check: /health
    match:
      - {path_prefix: /v2, methods: [GET, HEAD], headers: {X-Beta: "1"}, use: api}
  "*": [127.0.0.1:9004]
pools:
  api: {backends: [127.0.0.1:9003]}
"""

BAD = """\
routes:
  example.com:
    backends: []
    strategi: random
    health_check: {interval: 5}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test works in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Told:
    """A command that has ended."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *args: str) -> None:
        capsys.readouterr()
        self.status = status_of(list(args))
        captured = capsys.readouterr()
        self.out, self.err = captured.out, captured.err

    @property
    def data(self) -> Any:
        """Its output, read as JSON."""
        return json.loads(self.out)


def test_help_lists_every_command_in_a_whole_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, "--help")
    assert told.status == 0
    for name, command in lb.commands.items():
        (line,) = [line for line in told.out.splitlines() if line.startswith(f"  {name} ")]
        assert line.endswith("."), f"{name}: the first line of its help is cut"
        assert not line.endswith("..."), f"{name}: the first line of its help is cut"
        assert command.callback is not None


@pytest.mark.parametrize("command", sorted(lb.commands))
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    told = Told(capsys, command, "--help")
    assert told.status == 0
    assert f"Usage: lb {command}" in told.out


def test_help_imports_nothing_heavy() -> None:
    """What makes it answer in under a quarter of a second; a stopwatch would only measure the machine."""
    heavy = ("pydantic", "uvicorn", "uvloop", "httptools", "httpx", "rich", "yaml", "asyncio", "importlib_metadata")
    program = (
        "import sys\n"
        "from lb_core.cli import status_of\n"
        "assert status_of(['--help']) == 0\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stderr.split()) & set(heavy)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert Told(capsys, "--version").out == f"lb, version {__version__}\n"


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["chekc"], "Did you mean 'check'?"),
        (["run", "--lisen", "x"], "Did you mean '--listen'?"),
        (["run"], "nothing to serve"),
        (["run", "127.0.0.1:9001", "-c", "lb.yaml"], "not both"),
        (["run", "127.0.0.1:9001", "--access-log", "xml"], "json"),
        (["run", "127.0.0.1:9001", "--drain", "5"], "write 5s"),
        (["check"], "lb init"),
        (["explain", "GET"], "URL"),
        (["explain", "GET", "http://x/", "-c", "good.yaml", "-H", "no colon"], "Name: value"),
        (["explain", "GET", "http://x/", "-c", "good.yaml", "--client", "me"], "'me'"),
        (["explain", "GET", "http://x/", "-c", "good.yaml", "-H", "bad name: x"], "not a token"),
        (["explain", "GET", "http://[x/", "-c", "good.yaml"], "no URL to ask about"),
    ],
)
def test_a_wrong_command_line_is_status_2_with_a_hint(
    capsys: pytest.CaptureFixture[str], here: Path, args: list[str], hint: str
) -> None:
    (here / "good.yaml").write_text(GOOD)
    told = Told(capsys, *args)
    assert (told.status, told.out) == (2, "")
    assert hint in told.err


def test_init_check_and_routes_go_together(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert Told(capsys, "init").status == 0
    assert (here / "lb.yaml").exists()
    told = Told(capsys, "check")
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith("lb.yaml: good\n")
    assert "example.com" in Told(capsys, "routes").out


def test_check_says_how_many_workers_and_refuses_what_cannot_be_sent_to_them(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "lb.yaml").write_text("workers: 3\n" + GOOD)
    assert "  workers    3\n" in Told(capsys, "check").out
    assert Told(capsys, "check", "--json").data["workers"] == 3
    (here / "balancer.py").write_text(
        "from lb_core import LoadBalancer, hookimpl\n"
        "class First:\n"
        "    @hookimpl\n"
        "    def select_backend(self, candidates):\n"
        "        return candidates[0]\n"
        "balancer = LoadBalancer()\n"
        "balancer.set('workers', 2)\n"
        "with balancer.route_domain('*') as route:\n"
        "    route.container('web1', '127.0.0.1:9001')\n"
        "    route.strategy(First)\n"
    )
    told = Told(capsys, "check", "balancer.py")
    assert told.status == 3
    assert "First stands in the configuration file" in told.err


def test_init_replaces_a_file_only_when_told(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "lb.yaml").write_text("mine")
    told = Told(capsys, "init")
    assert told.status == 1
    assert "--force" in told.err
    assert (here / "lb.yaml").read_text() == "mine"
    assert Told(capsys, "init", "--force").status == 0
    assert (here / "lb.yaml").read_text() != "mine"
    assert Told(capsys, "init", "no/such/directory/lb.yaml").status == 1


def test_check_shows_every_problem_with_its_line_and_ends_with_3(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "bad.yaml").write_text(BAD)
    told = Told(capsys, "check", "bad.yaml")
    assert (told.status, told.out) == (3, "")
    assert "bad.yaml:4" in told.err
    assert "did you mean strategy?" in told.err
    assert "bad.yaml:5" in told.err
    assert "backends" in told.err
    assert "Traceback" not in told.err
    assert "problems: the configuration cannot be used" in told.err


def test_check_as_json(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "bad.yaml").write_text(BAD)
    bad = Told(capsys, "check", "bad.yaml", "--json")
    assert bad.status == 3
    assert bad.data["ok"] is False
    assert {(problem["file"], problem["line"]) for problem in bad.data["problems"]} >= {
        ("bad.yaml", 4),
        ("bad.yaml", 5),
    }
    (here / "lb.yaml").write_text(GOOD)
    good = Told(capsys, "check", "--json")
    assert good.status == 0
    assert good.data["ok"] is True
    assert good.data["listeners"] == {"web": "127.0.0.1:8080"}
    assert good.data["backends"] == 4


@pytest.mark.parametrize(
    ("name", "text"),
    [("missing.yaml", None), ("broken.yaml", "routes: {a: [\n"), ("broken.toml", "routes = [\n"), ("empty.yaml", "")],
)
def test_a_file_that_cannot_be_read_is_status_3_and_named(
    capsys: pytest.CaptureFixture[str], here: Path, name: str, text: str | None
) -> None:
    if text is not None:
        (here / name).write_text(text)
    told = Told(capsys, "check", name)
    assert told.status == 3
    assert name in told.err
    assert "Traceback" not in told.err


def test_check_takes_the_file_with_or_without_c(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "a.yaml").write_text(GOOD)
    assert Told(capsys, "check", "-c", "a.yaml").out == Told(capsys, "check", "a.yaml").out != ""
    assert Told(capsys, "check", "a.yaml", "-c", "a.yaml").status == 2


def test_check_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "lb.yaml").write_text(f"access_log: {{file: access.log}}\n{GOOD}")
    assert Told(capsys, "check").status == 0
    assert [path.name for path in here.iterdir()] == ["lb.yaml"]


def test_a_file_without_routes_is_refused(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "lb.yaml").write_text("access_log: off\n")
    told = Told(capsys, "check")
    assert told.status == 3
    assert "there are no routes" in told.err


def test_a_directory_is_no_file(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "conf").mkdir()
    (here / "conf" / "lb.yaml").write_text(GOOD)
    for args in (("check", "conf"), ("run", "-c", "conf")):
        told = Told(capsys, *args)
        assert told.status == 3
        assert told.err == "lb: conf: this is a directory, not a configuration file (it holds lb.yaml)\n"


def test_a_file_named_as_a_backend(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, "run", "lb.yaml")
    assert told.status == 2
    assert "lb.yaml is no backend; to serve a file: lb run -c lb.yaml" in told.err


def test_a_host_without_quotes_in_toml(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "lb.toml").write_text('[routes.example.com]\nbackends = ["127.0.0.1:9001"]\n')
    told = Told(capsys, "check")
    assert told.status == 3
    assert 'a host is quoted in TOML, because of its dots: [routes."example.com"]' in told.err


def test_every_line_of_a_plugin_error_names_lb(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "lb.yaml").write_text(f"plugins: {{require: [nope, neither]}}\n{GOOD}")
    told = Told(capsys, "check")
    assert told.status == 1
    assert [line[:21] for line in told.err.splitlines()] == ["lb: required plugin '"] * 2


def test_every_usual_name_is_found(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    python = (
        "from lb_core import LoadBalancer\n"
        "balancer = LoadBalancer()\n"
        'with balancer.route_domain("example.com") as route:\n'
        '    route.container("web1", "127.0.0.1:9001")\n'
    )
    toml = '[routes."example.com"]\nbackends = ["127.0.0.1:9001"]\n'
    for name, text in (("lb.yaml", GOOD), ("lb.yml", GOOD), ("lb.toml", toml), ("balancer.py", python)):
        (here / name).write_text(text)
        told = Told(capsys, "check")
        assert told.out.startswith(f"{name}: good\n"), told.err
        (here / name).unlink()


def test_routes_stand_in_the_order_they_are_tried(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "lb.yaml").write_text(GOOD)
    found = Told(capsys, "routes", "--json").data
    assert [(route["host"], route["backends"]) for route in found] == [
        ("example.com", ["127.0.0.1:9003"]),
        ("example.com", ["127.0.0.1:9001", "127.0.0.1:9002"]),
        ("*", ["127.0.0.1:9004"]),
    ]
    lines = Told(capsys, "routes").out.splitlines()
    assert lines[0].split() == ["HOST", "MATCH", "STRATEGY", "FEATURES", "BACKENDS"]
    assert "/v2* GET|HEAD x-beta: 1" in lines[1].replace("X-Beta", "x-beta")


def test_plugins_with_their_packages_and_hooks(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, "plugins")
    assert told.status == 0
    (line,) = [line for line in told.out.splitlines() if "least_connections" in line]
    assert f"lb-core {__version__}" in line
    data = Told(capsys, "plugins", "--json").data
    assert "least_connections" in next(each for each in data if each["distribution"] == "lb-core")["strategies"]
    hooks = Told(capsys, "plugins", "--hooks").out
    assert "register_strategies" in hooks
    assert "defaults" in Told(capsys, "plugins", "--hooks", "--json").data["register_strategies"]


def test_plugins_are_listed_even_when_the_routes_are_wrong(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "lb.yaml").write_text(BAD)
    assert Told(capsys, "plugins").status == 0


def test_explain_names_route_reason_and_choice(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "lb.yaml").write_text(GOOD)
    told = Told(capsys, "explain", "get", "http://example.com/v2/users?x=1", "-H", "X-Beta: 1", "--client", "192.0.2.7")
    assert told.status == 0
    assert "127.0.0.1:9003" in told.out
    assert "path prefix /v2" in told.out
    plain = Told(capsys, "explain", "GET", "http://example.com/v2/users", "--json").data
    assert plain["route"] == "example.com"
    assert {(each["state"], each["reason"]) for each in plain["backends"]} == {
        ("up", "assumed, nothing is checked here")
    }
    assert plain["choice"] in ("web1", "web2")
    rest = Told(capsys, "explain", "GET", "http://other.test/")
    assert "choice    127.0.0.1:9004: sent to 127.0.0.1:9004" in rest.out


def test_explain_tells_nobody_that_backends_are_up(
    capsys: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "lb.yaml").write_text(GOOD)
    heard: list[object] = []
    monkeypatch.setattr("lb_core.plugins.Plugins.notify", lambda _, event: heard.append(event))
    assert "up: assumed" in Told(capsys, "explain", "GET", "http://example.com/").out
    assert not heard


def test_explain_says_when_nothing_matches(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "lb.yaml").write_text("routes: {example.com: [127.0.0.1:9001]}\n")
    told = Told(capsys, "explain", "GET", "http://other.test/")
    assert told.status == 0
    assert "no route" in told.out
    assert "404" in told.out


def test_schema_describes_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, "schema")
    assert told.status == 0
    assert {"routes", "listeners", "pools"} <= told.data["properties"].keys()


def test_a_strategy_that_is_not_there_is_status_3_with_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, "run", "127.0.0.1:9001", "--strategy", "leest_connections")
    assert told.status == 3
    assert "least_connections" in told.err


@pytest.mark.parametrize("backend", ["127.0.0.1", "https://127.0.0.1:9001/path", "127.0.0.1:0", "127.0.0.1:99999", ""])
def test_a_backend_that_is_none_is_status_3_and_named(capsys: pytest.CaptureFixture[str], backend: str) -> None:
    told = Told(capsys, "run", backend)
    assert told.status == 3
    assert "command line" in told.err
    assert "Traceback" not in told.err


def test_an_internal_error_is_one_line_unless_debugging(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> object:
        raise ZeroDivisionError("the sky fell")

    monkeypatch.setattr("lb_core.cli.files.open_balancer", broken)
    told = Told(capsys, "check", "lb.yaml")
    assert told.status == 1
    assert told.err == "lb: internal error: ZeroDivisionError: the sky fell (`lb --debug …` shows the traceback)\n"
    with pytest.raises(ZeroDivisionError):
        status_of(["--debug", "check", "lb.yaml"])


def test_main_exits_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", "missing.yaml"])
    assert caught.value.code == 3


def test_closed_standard_streams_are_not_taken_by_sockets(here: Path) -> None:
    """Without a standard output the first socket would be number 1, and get the access log."""
    (here / "lb.yaml").write_text(GOOD)
    (here / "show.py").write_text(
        "import os, sys\nfrom lb_core.cli import app\n"
        "app.status_of = lambda args: [os.readlink(f'/proc/self/fd/{n}') for n in range(3)] != ['/dev/null'] * 3\n"
        "app.main([])\n"
    )
    done = subprocess.run(f"exec {sys.executable} show.py <&- >&- 2>&-", shell=True, cwd=here, check=False)
    assert done.returncode == 0


def test_a_reader_that_leaves_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m lb_core.cli schema | head -c 1", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert columns(["A", "LONG"], [["xxx", "1"], ["y", ""]], indent="> ") == ["> A    LONG", "> xxx  1", "> y"]
