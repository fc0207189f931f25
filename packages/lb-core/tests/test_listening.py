"""Sockets, and what a person reads when one cannot be opened."""

from __future__ import annotations

import errno
import os
import random
import socket
from contextlib import ExitStack, closing, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from lb_core.errors import StartError
from lb_core.listening import _explain, _open, listen, port_holder, url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lb_core.config import ListenerConfig


def listener(host: str, port: int = 0) -> ListenerConfig:
    return cast("ListenerConfig", SimpleNamespace(name="web", host=host, port=port, path="", address=f"{host}:{port}"))


def free_port() -> int:
    """A port free for every family, below the range that clients take theirs from."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as four, socket.socket(socket.AF_INET6) as six, suppress(OSError):
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            four.bind(("", port))
            six.bind(("::", port))
            return port
    raise AssertionError("no free port in 100 tries")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_one_address_is_one_listening_socket(opened: ExitStack) -> None:
    sockets = [opened.enter_context(closing(each)) for each in listen(listener("127.0.0.1"))]
    assert len(sockets) == 1
    port = sockets[0].getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        assert url(sockets[0]) == f"http://127.0.0.1:{port}"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_no_host_is_both_families_on_one_port_and_ipv4_clients_keep_their_form(opened: ExitStack) -> None:
    sockets = [opened.enter_context(closing(each)) for each in listen(listener("", free_port()))]
    assert [each.family for each in sockets] == [socket.AF_INET, socket.AF_INET6]
    port = sockets[0].getsockname()[1]
    assert sockets[1].getsockname()[1] == port
    for host, server in (("127.0.0.1", sockets[0]), ("::1", sockets[1])):
        server.settimeout(2)
        with socket.create_connection((host, port), timeout=2):
            accepted, peer = server.accept()
            accepted.close()
            assert peer[0] == host
    assert url(sockets[0]) == f"http://127.0.0.1:{port}"
    assert url(sockets[1]) == f"http://[::1]:{port}"


def test_a_taken_port_names_address_holder_and_next_step(opened: ExitStack) -> None:
    (first,) = listen(listener("127.0.0.1"))
    opened.enter_context(closing(first))
    port = first.getsockname()[1]
    with pytest.raises(StartError) as caught:
        listen(listener("127.0.0.1", port))
    message = str(caught.value)
    assert f"port {port} on 127.0.0.1 is taken" in message
    assert f"pid {os.getpid()}" in message
    assert "--listen" in message


def test_a_taken_port_leaves_no_socket_of_the_other_family_behind(opened: ExitStack) -> None:
    taken = opened.enter_context(socket.socket(socket.AF_INET6))
    taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    port = free_port()
    taken.bind(("::", port))
    taken.listen()
    with pytest.raises(StartError, match="is taken"):
        listen(listener("", port))
    for each in listen(listener("0.0.0.0", port)):
        opened.enter_context(closing(each))


def test_an_address_of_another_machine_is_explained() -> None:
    with pytest.raises(StartError, match=r"192\.0\.2\.1 is no address of this machine"):
        listen(listener("192.0.2.1", 18080))


def test_a_name_that_does_not_resolve_is_explained() -> None:
    with pytest.raises(StartError, match=r"'no-such-host\.invalid' is no address of this machine"):
        listen(listener("no-such-host.invalid", 18080))


def test_another_refusal_is_passed_on_with_its_words() -> None:
    with pytest.raises(StartError, match=r"cannot listen on .* port 1: Too many open files"):
        raise StartError(_explain(OSError(errno.EMFILE, "Too many open files"), listener("", 1), "127.0.0.1", 1))


def test_a_machine_without_ipv6_listens_on_ipv4_alone(monkeypatch: pytest.MonkeyPatch, opened: ExitStack) -> None:
    real = _open

    def without_ipv6(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, address, port)

    monkeypatch.setattr("lb_core.listening._open", without_ipv6)
    sockets = [opened.enter_context(closing(each)) for each in listen(listener("", free_port()))]
    assert [each.family for each in sockets] == [socket.AF_INET]


def test_nobody_holds_a_free_port() -> None:
    assert port_holder(free_port()) == ""


@pytest.mark.skipif(os.geteuid() != 0 or not hasattr(os, "fork"), reason="needs root to give the right up")
def test_a_low_port_without_the_right_is_explained() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            listen(listener("127.0.0.1", 81))
            text = "listening"
        except StartError as error:
            text = str(error)
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        message = answer.read()
    os.waitpid(child, 0)
    if message == "listening":
        pytest.skip("this machine lets everybody listen on low ports")
    assert "no right to listen on port 81" in message
    assert "1024" in message
