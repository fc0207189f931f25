"""README and docs hold: links lead somewhere, code blocks are what they say they are."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.repository import ROOT, name, tracked

PAGES = [path for path in tracked() if path.suffix == ".md"]
LOADERS: dict[str, Callable[[str], Any]] = {"yaml": yaml.safe_load, "toml": tomllib.loads, "json": json.loads}
_link = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)[^)]*\)")
_image = re.compile(r"!\[[^\]]*\]\(([^)\s]+)[^)]*\)")
_fence = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_heading = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def is_whole(self) -> bool:
        """Whether it can be run as it stands: it imports something of lb, where a fragment begins in the middle."""
        return "import" in self.text and "lb_" in self.text

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def _blocks(page: Path) -> list[Block]:
    content = page.read_text()
    found = []
    for match in _fence.finditer(content):
        indent = match["indent"]
        text = "".join(line.removeprefix(indent) for line in match["text"].splitlines(keepends=True))
        language = match["info"].strip().partition(" ")[0]
        found.append(Block(page, content.count("\n", 0, match.start()) + 1, language, text))
    return found


BLOCKS = [block for page in PAGES for block in _blocks(page)]


def _in(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def test_there_are_pages() -> None:
    names = {name(page) for page in PAGES}
    assert {"README.md", "CHANGELOG.md", "docs/performance.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    prose = _fence.sub("", page.read_text())
    broken = []
    for link in [*_link.findall(prose), *_image.findall(prose)]:
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(ROOT / "docs")], ids=name)
def test_a_page_of_docs_is_reached_from_another(page: Path) -> None:
    linking = [other for other in PAGES if other != page and page in _targets(other)]
    assert linking, f"no page links to {name(page)}"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_names_its_language(block: Block) -> None:
    assert block.language, f"{block}: write ```text when it is none"


@pytest.mark.parametrize("block", _in("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec", dont_inherit=True)


@pytest.mark.parametrize("block", [each for each in _in("python") if each.is_whole], ids=str)
def test_python_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that imports what it uses is a program; its `test_` functions are called."""
    for folder in sorted((ROOT / "examples").iterdir()):
        monkeypatch.syspath_prepend(str(folder))
    names: dict[str, Any] = {"__name__": "block"}
    exec(compile(block.text, str(block), "exec", dont_inherit=True), names)
    for each in [function for called, function in names.items() if called.startswith("test_")]:
        each()


@pytest.mark.parametrize("block", _in("yaml", "toml", "json"), ids=str)
def test_data_parses(block: Block) -> None:
    LOADERS[block.language](block.text)


@pytest.mark.parametrize("block", _in("yaml", "toml"), ids=str)
def test_a_configuration_loads(block: Block) -> None:
    """A block with routes is a whole configuration; a fragment of one still has to be YAML or TOML."""
    from lb_core.config import config_from_tree
    from lb_core.plugins import Plugins

    tree = LOADERS[block.language](block.text)
    if isinstance(tree, dict) and "routes" in tree:
        assert config_from_tree(tree, Plugins.discover(), source=str(block)).routes


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    headings = _heading.findall(_fence.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _targets(page: Path) -> set[Path]:
    links = (link.partition("#")[0] for link in _link.findall(page.read_text()))
    return {(page.parent / link).resolve() for link in links if link and "://" not in link}
