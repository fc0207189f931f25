"""Which addresses mean something else elsewhere, and who hears what is learnt about them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lb_core.backend import Backend
from lb_core.locality import PROC, Locality, found, is_own, locality_of
from lb_core.names import Name
from lb_core.sharing import Sharing

HERE = locality_of("boot", 1, 2)
CONTAINER = locality_of("boot", 3, 2)
OTHER = locality_of("another boot", 1, 2)

FAR, NEAR = Backend("far", "10.0.0.1", 80), Backend("near", "127.0.0.1", 80)
SOCKET = Backend("socket", "", 0, path="/run/app.sock")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.1",
        "::1",
        "::ffff:127.0.0.1",
        "localhost",
        "LocalHost.",
        "app.localhost",
        "0.0.0.0",
        "::",
    ],
)
def test_addresses_that_lead_every_machine_to_itself(host: str) -> None:
    assert is_own(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "128.0.0.1", "fe80::1%eth0", "::2", "web1", "localhost.example", "", "1"])
def test_addresses_that_mean_the_same_everywhere(host: str) -> None:
    assert not is_own(host)


def test_who_hears_of_what() -> None:
    marks = [HERE.mark(each) for each in (FAR, NEAR, SOCKET)]
    assert marks[0] == {}
    assert [[each.hears(mark) for each in (HERE, CONTAINER, OTHER)] for mark in marks] == [
        [True, True, True],
        [True, False, False],
        [True, True, False],
    ]


def test_something_about_several_is_for_who_has_them_all() -> None:
    mark = HERE.mark(FAR, NEAR, SOCKET)
    assert mark == HERE.mark(SOCKET, NEAR)
    assert [each.hears(mark) for each in (HERE, CONTAINER, OTHER)] == [True, False, False]
    assert HERE.mark() == HERE.mark(FAR, FAR) == {}


async def test_a_name_is_what_it_resolves_to() -> None:
    named = Backend("named", "app", 80)
    assert HERE.mark(named) == {}
    named.lookup = Name("app")
    assert HERE.mark(named) == {}
    named.lookup.addresses = ("10.0.0.1",)
    assert HERE.mark(named) == {}
    named.lookup.addresses = ("10.0.0.1", "127.0.0.1")
    assert HERE.mark(named) == HERE.mark(NEAR)


@pytest.mark.parametrize("message", [None, 3, "text", [], {}, {"locality": ""}])
def test_what_has_no_mark_is_for_all(message: object) -> None:
    assert HERE.hears(message)


@pytest.mark.parametrize("mark", [3, ["x"], "x", f"{HERE.network} x"])
def test_a_mark_that_makes_no_sense_is_for_nobody(mark: object) -> None:
    assert not HERE.hears({"locality": mark})


def test_another_node_s_message_is_dropped_before_anybody_hears_it() -> None:
    sharing, heard = Sharing(locality=HERE), []
    sharing.channel("t", heard.append)
    sharing.deliver("t", {"about": 1, **CONTAINER.mark(NEAR)})
    sharing.deliver("t", {"about": 2, **HERE.mark(NEAR)})
    sharing.deliver("t", {"about": 3})
    assert [each["about"] for each in heard] == [2, 3]


def test_without_namespaces_a_machine_is_known_by_its_name(tmp_path: Path) -> None:
    assert found(tmp_path) == locality_of(platform.node(), 0, 0)
    assert found(PROC) == Locality.here()


def told_by(*command: str) -> list[str]:
    """What another process finds out about where it is."""
    code = "from lb_core.locality import Locality as L; print(L.here().network, L.here().files)"
    done = subprocess.run(
        [*command, sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.split()


def test_processes_of_one_machine_agree() -> None:
    here = Locality.here()
    assert told_by() == [here.network, here.files]
    assert here.network != here.files


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="another namespace takes root")
def test_another_network_namespace_is_another_place() -> None:
    here = Locality.here()
    network, files = told_by("unshare", "--net")
    assert network != here.network
    assert files == here.files
    network, files = told_by("unshare", "--mount")
    assert network == here.network
    assert files != here.files
