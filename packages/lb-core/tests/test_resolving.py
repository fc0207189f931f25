"""The system's resolver, and what is left to it. DNS itself is in tests/integration/test_names.py."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lb_core import resolving
from lb_core.resolving import SYSTEM_TTL, DnsResolver, Resolution, SystemResolver, default_resolver


async def test_localhost_is_what_the_system_says() -> None:
    found = await SystemResolver().resolve("localhost")
    wanted = {address[0] for *_, address in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
    assert set(found.addresses) == wanted
    assert len(found.addresses) == len(wanted)
    assert found.ttl == SYSTEM_TTL == 10.0


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64, "web..example", "\udcff"])
async def test_what_does_not_resolve_is_an_os_error_that_says_why(host: str) -> None:
    with pytest.raises(OSError, match=r".") as error:
        await SystemResolver().resolve(host)
    assert error.value.strerror


async def test_a_slow_lookup_does_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def slow(*_: object, **__: object) -> list[object]:
        release.wait(5)
        return [(0, 0, 0, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    looking = asyncio.create_task(SystemResolver().resolve("web"))
    begin = time.monotonic()
    await asyncio.sleep(0.02)
    assert time.monotonic() - begin < 0.2
    assert not looking.done()
    release.set()
    assert (await looking).addresses == ("10.0.0.1",)


async def test_a_lookup_given_up_is_nobodys_trouble_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(5) and [])
    looking = asyncio.create_task(SystemResolver().resolve("web"))
    await asyncio.sleep(0.02)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    release.set()
    await asyncio.sleep(0.05)
    assert not [each for each in threading.enumerate() if each.name.startswith("lb-resolve")]


def test_a_lookup_that_hangs_does_not_hold_up_the_end_of_the_program() -> None:
    program = """
import asyncio, socket, time
from lb_core.resolving import SystemResolver
socket.getaddrinfo = lambda *_, **__: time.sleep(20)
async def main():
    try:
        async with asyncio.timeout(0.1):
            await SystemResolver().resolve("web")
    except TimeoutError:
        print("given up")
asyncio.run(main())
"""
    begin = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=True)
    assert time.monotonic() - begin < 10
    assert ended.stdout == "given up\n"
    assert ended.stderr == ""


def test_dns_is_asked_where_dnspython_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "find_spec", lambda _: object())
    assert isinstance(default_resolver(), DnsResolver)
    monkeypatch.setattr(resolving, "find_spec", lambda _: None)
    assert isinstance(default_resolver(), SystemResolver)


class System:
    """Stands for the system: knows every name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(self, host: str) -> Resolution:
        self.asked.append(host)
        return Resolution(("10.9.9.9",), 10.0)


@pytest.mark.parametrize("host", ["web1", "WEB2", "web2.", "alias", "localhost", "api.localhost", "printer.local"])
async def test_names_of_the_hosts_file_and_local_ones_are_left_to_the_system(host: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 web1 # web3\n10.0.0.2\tWeb2  alias\n\n# nothing\n::1\n")
    system = System()
    resolver = DnsResolver(system, nameservers=["127.0.0.1"], port=9, limit=0.1, hosts=str(tmp_path / "hosts"))
    assert (await resolver.resolve(host)).addresses == ("10.9.9.9",)
    assert system.asked == [host]


async def test_a_hosts_file_that_changes_is_read_again_and_one_that_is_missing_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    names = resolving._HostsFile(str(path))
    assert names.names() == frozenset()
    path.write_text("127.0.0.1 one")
    assert names.names() == {"one"}
    path.write_text("127.0.0.1 one two")
    os.utime(path, ns=(1, 1))
    assert names.names() == {"one", "two"}
    path.unlink()
    assert names.names() == frozenset()


@pytest.mark.parametrize("content", [None, "", "search example.com\n"], ids=["missing", "empty", "without a server"])
async def test_without_a_name_server_the_system_is_asked(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    if content is not None:
        path.write_text(content)
    system = System()
    resolver = DnsResolver(system, limit=0.2, resolv_conf=str(path))
    assert (await resolver.resolve("web.example")).addresses == ("10.9.9.9",)
    assert system.asked == ["web.example"]
