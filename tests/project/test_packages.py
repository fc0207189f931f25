"""Every distribution is complete, and they move in lock-step."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
from importlib_metadata import distribution

from tests.support.repository import PACKAGES, ROOT, module, name, project

if TYPE_CHECKING:
    from pathlib import Path

each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def test_one_version_everywhere() -> None:
    import lb_core

    versions = {name(path): project(path)["version"] for path in [*PACKAGES, ROOT]}
    assert set(versions.values()) == {lb_core.__version__}, versions


@each_package
def test_packages_of_the_project_are_required_in_the_same_version(package: Path) -> None:
    own = {str(project(path)["name"]) for path in PACKAGES}
    extras = project(package).get("optional-dependencies", {}).values()
    for requirement in [*project(package)["dependencies"], *(one for extra in extras for one in extra)]:
        required = re.match(r"[a-z0-9-]+", requirement)
        assert required
        if required[0] in own:
            assert requirement == f"{required[0]}=={project(package)['version']}"


@each_package
def test_brings_types_readme_and_licence(package: Path) -> None:
    assert (package / "src" / module(package) / "py.typed").is_file()
    assert len((package / "README.md").read_text().split()) > 30, "a README that says what it is and how to use it"
    assert (package / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert project(package)["license"] == "MIT"
    assert project(package)["readme"] == "README.md"


@each_package
def test_folder_distribution_and_module_have_one_name(package: Path) -> None:
    assert project(package)["name"] == package.name
    assert [path.name for path in (package / "src").iterdir() if path.suffix != ".egg-info"] == [module(package)]


@each_package
def test_entry_points_resolve_and_are_installed(package: Path) -> None:
    declared = {
        (group, key): value
        for group, points in project(package).get("entry-points", {}).items()
        for key, value in points.items()
    }
    declared |= {("console_scripts", key): value for key, value in project(package).get("scripts", {}).items()}
    installed = {(point.group, point.name): point.value for point in distribution(package.name).entry_points}
    assert installed == declared
    for value in declared.values():
        module_name, _, attribute = value.partition(":")
        found = import_module(module_name)
        assert not attribute or callable(getattr(found, attribute))


@each_package
def test_a_plugin_registers_under_its_group_and_is_no_class(package: Path) -> None:
    for value in project(package).get("entry-points", {}).get("lb", {}).values():
        assert value.partition(".")[0] == module(package)
        assert ":" not in value, "an entry point of the group names a module: its functions are the hooks"


def test_constraints_name_everything_the_venv_needs_and_no_registry() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    own = {package.name for package in PACKAGES}
    wanted = [*(one for package in PACKAGES for one in project(package)["dependencies"]), *_dev_group()]
    names = {found[0].lower() for one in wanted if (found := re.match(r"[A-Za-z0-9-]+", one))} - own
    assert names <= pinned, f"`make constraints` is due: {sorted(names - pinned)}"
    assert not [line for line in lines if "://" in line or line.startswith("-")]


def _dev_group() -> list[str]:
    import tomllib

    group: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    return group
