"""The plugin of docs/writing-a-plugin.md, installed with pip into a fresh virtual environment, is found and used."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.repository import ROOT

from .conftest import UV

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = ROOT / "examples" / "first_plugin"
GUIDE = ROOT / "docs" / "writing-a-plugin.md"

ASK = """
import json
from lb_core import Backend
from lb_core.config import config_from_tree
from lb_core import LoadBalancer
from lb_core.plugins import Plugins

plugins = Plugins.discover()
tree = {"routes": {"example.com": {"backends": ["127.0.0.1:9001", "127.0.0.1:9002"], "strategy": "power_of_two"}}}
route = LoadBalancer(config_from_tree(tree, plugins, source="test"), plugins=plugins).routes["example.com"]
busy, idle = route.pool.backends
busy.in_flight = 5
chosen = [route.select_backend(None, route.pool.candidates).name for _ in range(400)]
print(json.dumps({
    "plugins": plugins.provides(),
    "called": route.plugins,
    "strategy": type(plugins.strategies["power_of_two"].build()).__module__,
    "idle": chosen.count(idle.name) / len(chosen),
}))
"""


slow = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Path:
    """The bin folder of a virtual environment with lb-core and the example, and nothing of ours beside."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([UV, "venv", "--quiet", "--seed", "--python", sys.executable, folder], check=True, timeout=120)
    pip: list[str | Path] = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted: list[str | Path] = ["--constraint", ROOT / "constraints.txt", wheels["lb-core"], EXAMPLE]
    subprocess.run([*pip, *wanted], check=True, capture_output=True, timeout=300)
    return folder / "bin"


def run(*command: str | Path, folder: Path) -> str:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@slow
def test_the_installed_strategy_is_found_and_used(environment: Path, tmp_path: Path) -> None:
    told = json.loads(run(environment / "python", "-I", "-c", ASK, folder=tmp_path))
    (found,) = [each for each in told["plugins"] if each["name"] == "power_of_two"]
    assert (found["distribution"], found["version"]) == ("lb-power-of-two", "1.0.0")
    assert found["strategies"] == ["power_of_two"]
    assert told["strategy"] == "lb_power_of_two"
    assert "power_of_two" in told["called"]
    assert 0.6 < told["idle"] < 0.9  # three in four: the busy one is chosen when both draws fall on it


@slow
def test_the_command_lists_it(environment: Path, tmp_path: Path) -> None:
    listed = json.loads(run(environment / "lb", "plugins", "--json", folder=tmp_path))
    assert [each["distribution"] for each in listed] == ["lb-core", "lb-power-of-two"]


def test_the_guide_shows_the_files_as_they_are() -> None:
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert [path for path, _ in shown] == [
        "examples/first_plugin/lb_power_of_two.py",
        "examples/first_plugin/pyproject.toml",
    ]
    for path, text in shown:
        assert text == (ROOT / path).read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL))
def test_the_python_of_the_guide_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    script = tmp_path / "block.py"
    script.write_text(block)
    runpy.run_path(str(script))
