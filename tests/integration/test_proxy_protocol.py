"""The PROXY protocol on both sides of the balancer, by hand and with HAProxy, nginx and curl at the other end."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend
from tests.support.balancing import Running, balancing, until
from tests.support.client import Client
from tests.support.peers import free_port, haproxy, nginx
from tests.support.services import require
from tests.support.wire import Cut, Message, read_head, request, response

if TYPE_CHECKING:
    from tests.support.figures import Measured

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\0\0\0"
BELIEVING: dict[str, Any] = {"listener": {"proxy_protocol": ["127.0.0.1"]}}
PLACES = ("x-forwarded-for", "x-real-ip", "x-forwarded-port")


def v1(source: str = "192.0.2.7", destination: str = "198.51.100.1", ports: tuple[int, int] = (56324, 443)) -> bytes:
    form = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {form} {source} {destination} {ports[0]} {ports[1]}\r\n".encode()


def v2(
    source: str = "192.0.2.7",
    destination: str = "198.51.100.1",
    ports: tuple[int, int] = (56324, 443),
    behind: bytes = b"",
) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed + struct.pack(">HH", *ports)
    rest = addresses + behind
    return SIGNATURE + bytes((0x21, 0x21 if ":" in source else 0x11)) + struct.pack(">H", len(rest)) + rest


UNIX = SIGNATURE + b"\x21\x31" + struct.pack(">H", 216) + bytes(216)


def told(message: Message) -> list[list[bytes]]:
    """What the backend was told about where the request came from."""
    return [message.all(name) for name in PLACES]


# in


HEADERS = {
    "v1 IPv4": (v1(), "192.0.2.7", b"443"),
    "v1 IPv6": (v1("2001:db8::7", "2001:db8::1"), "2001:db8::7", b"443"),
    "v2 IPv4": (v2(), "192.0.2.7", b"443"),
    "v2 IPv6": (v2("2001:db8::7", "2001:db8::1", (1, 8443)), "2001:db8::7", b"8443"),
    "v2 with TLVs": (v2(behind=b"\x04\x01\x00" + bytes(256)), "192.0.2.7", b"443"),
    "v2 IPv4 written as IPv6": (v2("::ffff:192.0.2.7", "::ffff:198.51.100.1"), "192.0.2.7", b"443"),
}


@pytest.mark.parametrize("name", HEADERS)
async def test_the_client_is_whom_a_trusted_peer_names(name: str) -> None:
    header, client, port = HEADERS[name]
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer, await balancer.client() as asking:
        for _ in range(2):  # the header stands once, before the first request
            answer = await asking.ask(header + request("/", b"", "X-Forwarded-For: 1.2.3.4"))
            header = b""
            assert answer.status == 200
        for message in backend.messages:
            assert told(message) == [[client.encode()], [client.encode()], [port]]
        assert {exchange.connection.port for exchange in balancer.completed} == {int(port)}


@pytest.mark.parametrize("name", HEADERS)
async def test_a_header_may_come_byte_by_byte(name: str) -> None:
    header, client, port = HEADERS[name]
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer, await balancer.client() as asking:
        await asking.send_bytewise(header[:60])
        await asking.send(header[60:], 0.01)
        await asking.send_bytewise(request("/split"))
        assert (await asking.answer()).status == 200
        assert told(backend.messages[0]) == [[client.encode()], [client.encode()], [port]]


@pytest.mark.parametrize(
    "header", [v1("2001:db8::7", "2001:db8::1"), v2(), LOCAL, UNIX], ids=["v1", "v2", "local", "unix"]
)
async def test_a_header_may_be_split_anywhere(header: bytes) -> None:
    data = header + request("/")
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer:
        for at in range(1, len(header) + 1, 1 if len(header) < 100 else 7):
            async with await balancer.client() as asking:
                await asking.send(data[:at], 0, 0, 0, data[at:])
                assert (await asking.answer()).status == 200
        assert len({tuple(map(tuple, told(message))) for message in backend.messages}) == 1


async def test_requests_behind_the_header_are_pipelined() -> None:
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer, await balancer.client() as asking:
        await asking.send(v2() + request("/1", b"hello") + request("/2") + request("/3"))
        assert [(await asking.answer()).status for _ in range(3)] == [200] * 3
        assert [message.target for message in backend.messages] == [b"/1", b"/2", b"/3"]


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x21\0\0\0"])
async def test_where_nothing_is_said_the_sockets_addresses_hold(header: bytes) -> None:
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer, await balancer.client() as asking:
        assert (await asking.ask(header + request("/"))).status == 200
        assert told(backend.messages[0]) == [[b"127.0.0.1"], [b"127.0.0.1"], [b"%d" % balancer.port]]


async def test_a_client_on_a_unix_socket_has_no_address() -> None:
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer, await balancer.client() as asking:
        assert (await asking.ask(UNIX + request("/", b"", "X-Forwarded-For: 1.2.3.4"))).status == 200
        assert told(backend.messages[0]) == [[], [], []]
        assert balancer.last.client == ""


@pytest.mark.parametrize("header", [v1(), v2(), v2("2001:db8::7", "2001:db8::1"), LOCAL])
async def test_a_peer_that_is_not_trusted_is_not_believed(header: bytes) -> None:
    backend = Backend()
    listener = {"proxy_protocol": {"trusted": ["192.0.2.0/24", "unix"]}}
    async with balancing(backend, listener=listener) as balancer:
        refused = await balancer.ask(header + request("/"))
        assert refused.status == 400
        assert (await balancer.ask(request("/"))).status == 200  # plain HTTP, as if there were no such option
        assert told(backend.messages[0])[0] == [b"127.0.0.1"]
        assert len(backend.messages) == 1


@pytest.mark.parametrize("header", [v1(), v2()])
async def test_without_the_option_a_header_is_a_malformed_request(header: bytes) -> None:
    backend = Backend()
    async with balancing(backend) as balancer:
        assert (await balancer.ask(header + request("/"))).status == 400
        assert not backend.requests


BAD = {
    "a request": request("/"),
    "nonsense": b"\x16\x03\x01\x02\x00\x01",
    "v1 malformed": b"PROXY TCP4 192.0.2.7 198.51.100.1 056324 443\r\n" + request("/"),
    "v1 too long": b"PROXY UNKNOWN ".ljust(108, b"x"),
    "v2 of another version": SIGNATURE + b"\x31\x11\0\0",
    "v2 too long": SIGNATURE + b"\x21\x11\xff\xff",
    "v2 a checksum that is wrong": v2(behind=b"\x03\x00\x04\0\0\0\0"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_trusted_peer_without_a_valid_header_is_closed(name: str) -> None:
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer, await balancer.client() as asking:
        await asking.send(BAD[name])
        assert await asking.end(within=1) == b""
        assert not backend.requests
        assert balancer.events.count("proxy_header_refused") == 1
        assert not balancer.completed


async def test_refusals_are_said_once_a_second_at_most() -> None:
    async with balancing(Backend(), **BELIEVING) as balancer:
        for _ in range(50):
            async with await balancer.client() as asking:
                await asking.send(request("/"))
                assert await asking.end(within=1) == b""
        await asyncio.sleep(1.05)
        async with await balancer.client() as asking:
            await asking.send(b"x")
            assert await asking.end(within=1) == b""
        said = [event for event in balancer.observer.events if event.kind == "proxy_header_refused"]
        assert [event.details["connections"] for event in said] == [1, 50]
        assert said[0].message == "listener web: closed a connection from 127.0.0.1: no PROXY header"
        assert said[1].message.endswith("(50 connections since this was last said)")


@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 192", v2()[:-1]])
async def test_a_header_must_come_in_time(begun: bytes) -> None:
    backend = Backend()
    listener = {"proxy_protocol": {"trusted": ["127.0.0.1"], "timeout": "300ms"}}
    async with balancing(backend, listener=listener) as balancer, await balancer.client() as asking:
        start = asyncio.get_running_loop().time()
        await asking.send(begun)
        assert await asking.end(within=2) == b""
        assert 0.28 < asyncio.get_running_loop().time() - start < 0.8
        assert balancer.events.count("proxy_header_refused") == 1


async def test_the_timeout_ends_with_the_header() -> None:
    backend = Backend()
    listener = {"proxy_protocol": {"trusted": ["127.0.0.1"], "timeout": "100ms"}}
    async with balancing(backend, listener=listener) as balancer, await balancer.client() as asking:
        await asking.send(v1(), 0.3)
        assert (await asking.ask(request("/"))).status == 200


async def test_a_peer_that_goes_away_within_its_header_leaves_nothing() -> None:
    async with balancing(Backend(), **BELIEVING) as balancer:
        (listener,) = balancer.server.traffic.opened.values()
        assert listener.connections == 0
        async with await balancer.client() as asking:
            await asking.send(b"PROXY TCP4")
            await until(lambda: listener.connections == 1)
        await until(lambda: listener.connections == 0)
        assert "proxy_header_refused" not in balancer.events


async def test_forwarding_fields_of_a_client_that_is_trusted_itself() -> None:
    """`trusted_proxies` is asked about the client that the header names, not about who sent the header."""
    backend = Backend()
    options = {**BELIEVING, "top": {"trusted_proxies": ["192.0.2.0/24"]}}
    async with balancing(backend, **options) as balancer:
        said = request("/", b"", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https")
        assert (await balancer.ask(v1("192.0.2.7") + said)).status == 200
        assert (await balancer.ask(v1("198.51.100.7") + said)).status == 200
        one, two = backend.messages
        assert told(one)[:2] == [[b"203.0.113.9, 192.0.2.7"], [b"203.0.113.9"]]
        assert (one["x-forwarded-proto"], two["x-forwarded-proto"]) == (b"https", b"http")
        assert told(two)[:2] == [[b"198.51.100.7"], [b"198.51.100.7"]]


async def test_the_named_client_decides_where_a_request_goes() -> None:
    one, two = Backend(name="one"), Backend(name="two")
    async with two:
        rule = {"clients": ["203.0.113.0/24"], "backends": {"two": two.address}}
        async with balancing(one, **BELIEVING, match=[rule]) as balancer:
            for client, name in (("203.0.113.7", b"two"), ("192.0.2.7", b"one")):
                assert (await balancer.ask(v2(client) + request("/"))).body == name


async def test_the_named_client_is_counted_not_the_proxy() -> None:
    listener = {"proxy_protocol": ["127.0.0.1"], "limits": {"per_client": 2}}
    async with balancing(Backend(), listener=listener) as balancer, AsyncExitStack() as stack:
        answers = []
        for client in ("192.0.2.7", "192.0.2.8", "192.0.2.7", "192.0.2.8", "192.0.2.7", "192.0.2.9"):
            asking = await stack.enter_async_context(await balancer.client())
            answers.append((client, (await asking.ask(v2(client) + request("/"))).status))
        assert [client for client, status in answers if status == 503] == ["192.0.2.7"]
        assert [status for _, status in answers].count(200) == 5


async def test_a_drain_lets_a_header_on_its_way_arrive() -> None:
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer:
        silent, late = await balancer.client(), await balancer.client()
        async with silent, late:
            await late.send(v1()[:10])
            (listener,) = balancer.server.traffic.opened.values()
            await until(lambda: listener.connections == 2)
            balancer.server.request_stop()
            await asyncio.sleep(0.05)
            answer = await late.ask(v1()[10:] + request("/"))
            assert (answer.status, answer.all("connection")) == (200, [b"close"])
            assert await silent.end(within=1) == b""


async def test_switched_on_and_off_by_a_reload() -> None:
    from lb_core.config import config_from_tree
    from tests.support.balancing import tree

    backend = Backend()
    async with balancing(backend) as balancer:
        assert (await balancer.ask(request("/"))).status == 200
        for options in (BELIEVING, {}):
            balancer.balancer.apply(config_from_tree(tree([backend], **options), balancer.balancer.plugins))
            await balancer.server.traffic.match()
            header = v1() if options else b""
            assert (await balancer.ask(header + request("/"))).status == 200
        assert [told(message)[0] for message in backend.messages] == [[b"127.0.0.1"], [b"192.0.2.7"], [b"127.0.0.1"]]


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
async def test_behind_haproxy(tmp_path: Path, option: str) -> None:
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer:
        port = free_port()
        sections = f"""
listen front
    bind 127.0.0.1:{port}
    unique-id-format %[uuid()]
    http-reuse never
    server lb 127.0.0.1:{balancer.port} {option} source 127.0.0.1
"""
        with haproxy(tmp_path, sections, port):
            client = socket.socket()
            client.bind(("127.0.0.77", 0))
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
            async with Client(*await asyncio.open_connection(sock=client)) as asking:
                assert [(await asking.ask(request(f"/{number}"))).status for number in range(3)] == [200] * 3
        assert {told(message)[1][0] for message in backend.messages} == {b"127.0.0.77"}
        assert {told(message)[2][0] for message in backend.messages} == {b"%d" % port}


async def test_health_checks_of_haproxy_pass(tmp_path: Path) -> None:
    """Its checks say LOCAL; a check that is closed without a request is no refusal."""
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer:
        port = free_port()
        sections = f"""
listen front
    bind 127.0.0.1:{port}
    option httpchk GET /health
    server lb 127.0.0.1:{balancer.port} send-proxy-v2 check-send-proxy check inter 100ms
"""
        with haproxy(tmp_path, sections, port):
            await until(lambda: len(backend.requests) >= 3)
        assert {told(message)[0][0] for message in backend.messages} == {b"127.0.0.1"}
        assert "proxy_header_refused" not in balancer.events


async def test_curl_sends_a_header() -> None:
    backend = Backend()
    async with balancing(backend, **BELIEVING) as balancer:
        command = [require("curl"), "-sS", "--haproxy-protocol", f"http://127.0.0.1:{balancer.port}/x"]
        ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=10, check=False)
        assert (ended.returncode, ended.stdout) == (0, b"backend")
        assert told(backend.messages[0]) == [[b"127.0.0.1"], [b"127.0.0.1"], [b"%d" % balancer.port]]


# out


@dataclass
class Sent:
    """One connection to a backend that wants a header first: the header as it came, and the requests behind it."""

    header: bytes
    requests: list[Message] = field(default_factory=list)


@asynccontextmanager
async def wanting() -> AsyncIterator[tuple[str, list[Sent]]]:
    """A backend that reads a header, then serves; one that speaks HTTP at once is closed."""
    connections: list[Sent] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            header = await reader.readexactly(6)
            if header == b"PROXY ":
                header += await reader.readuntil(b"\r\n")
            elif header == SIGNATURE[:6]:
                header += await reader.readexactly(10)
                header += await reader.readexactly(int.from_bytes(header[14:16], "big"))
            else:
                return
            sent = Sent(header)
            connections.append(sent)
            while (message := await read_head(reader)) is not None:
                sent.requests.append(message)
                writer.write(response(b"%d" % len(connections)))
        except (asyncio.IncompleteReadError, ConnectionError, Cut):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
    finally:
        server.close()


async def client_at(balancer: Running, address: str = "127.0.0.1") -> tuple[Client, int]:
    """A connection from an address, and its port."""
    opened = socket.socket()
    opened.bind((address, 0))
    opened.setblocking(False)
    await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", balancer.port))
    port = opened.getsockname()[1]
    return Client(*await asyncio.open_connection(sock=opened)), port


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_each_connection_names_its_client(version: str) -> None:
    write = v1 if version == "v1" else v2
    async with wanting() as (address, connections), balancing(address, send_proxy=version) as balancer:
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            client, port = await client_at(balancer, host)
            async with client:
                for number in range(2):
                    assert (await client.ask(request(f"/{number}"))).status == 200
                for sent in connections[-2:]:
                    assert sent.header == write(host, "127.0.0.1", (port, balancer.port))
        assert [len(sent.requests) for sent in connections] == [1] * 6  # none is shared, not even by one client's
        assert not any(backend.idle for backend in balancer.balancer.engine.backends)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_retry_names_the_client_again(version: str) -> None:
    from tests.support.backends import refusing

    write = v1 if version == "v1" else v2
    with refusing() as refused:
        async with wanting() as (address, connections), balancing(refused, address, send_proxy=version) as balancer:
            client, port = await client_at(balancer)
            async with client:
                for _ in range(2):
                    assert (await client.ask(request("/"))).status == 200
            assert [sent.header for sent in connections] == [write("127.0.0.1", "127.0.0.1", (port, balancer.port))] * 2


async def test_clients_at_once_are_not_mixed() -> None:
    """Fifty clients over one backend: what the header says and what X-Real-IP says is the same, on every connection."""
    async with wanting() as (address, connections), balancing(address, send_proxy="v1") as balancer:

        async def one(number: int) -> None:
            client, _ = await client_at(balancer, f"127.0.0.{number}")
            async with client:
                for _ in range(4):
                    assert (await client.ask(request("/"))).status == 200

        async with asyncio.TaskGroup() as tasks:
            for number in range(2, 52):
                tasks.create_task(one(number))
        assert len(connections) == 200
        for sent in connections:
            (message,) = sent.requests
            assert sent.header.split(b" ")[2] == message["x-real-ip"]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_what_was_announced_to_us_is_announced_onwards(version: str) -> None:
    header = (v1 if version == "v1" else v2)("2001:db8::7", "2001:db8::1", (56324, 443))
    async with wanting() as (address, connections), balancing(address, send_proxy=version, **BELIEVING) as balancer:
        assert (await balancer.ask(v2("2001:db8::7", "2001:db8::1") + request("/"))).status == 200
        assert connections[0].header == header


@pytest.mark.parametrize(("version", "nothing"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", LOCAL)])
async def test_a_client_without_address_is_announced_as_unknown(version: str, nothing: bytes) -> None:
    async with wanting() as (address, connections), balancing(address, send_proxy=version, **BELIEVING) as balancer:
        assert (await balancer.ask(UNIX + request("/"))).status == 200
        assert connections[0].header == nothing


async def test_a_client_named_in_a_field_has_no_port() -> None:
    """Its address comes from X-Forwarded-For of a trusted proxy; IPv6 at one end makes it IPv6 at both."""
    options: dict[str, Any] = {"top": {"trusted_proxies": ["127.0.0.1"]}, "send_proxy": "v1"}
    async with wanting() as (address, connections), balancing(address, **options) as balancer:
        for client in ("192.0.2.9", "2001:db8::9"):
            assert (await balancer.ask(request("/", b"", f"X-Forwarded-For: {client}"))).status == 200
        port = balancer.port
        one, two = (sent.header.decode().split(" ") for sent in connections)
        assert one == ["PROXY", "TCP4", "192.0.2.9", "127.0.0.1", "0", f"{port}\r\n"]
        assert [*two[:3], *two[4:]] == ["PROXY", "TCP6", "2001:db8::9", "0", f"{port}\r\n"]
        assert ip_address(two[3]) == ip_address("::ffff:127.0.0.1")  # Python writes it in two ways


@pytest.mark.parametrize(("version", "ours"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", LOCAL)])
@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_health_checks_say_that_they_are_ours(version: str, ours: bytes, kind: str) -> None:
    check = {"type": kind, "interval": "50ms", "healthy_after": 1}
    options: dict[str, Any] = {"send_proxy": version, "health_check": check}
    async with wanting() as (address, connections), balancing(address, **options) as balancer:
        await until(lambda: len(connections) >= 3)
        (backend,) = balancer.balancer.engine.backends
        assert backend.health == "up"
        assert {sent.header for sent in connections} == {ours}
        assert [message.target for message in connections[0].requests] == ([b"/"] if kind == "http" else [])
        assert (await balancer.ask(request("/"))).status == 200


async def test_a_reload_that_switches_it_on_shares_no_connection() -> None:
    """Connections that were opened without a header are not used for a request that needs one."""
    from lb_core.config import config_from_tree
    from tests.support.balancing import tree

    async with wanting() as (address, connections), Backend() as plain:
        async with balancing(plain) as balancer:
            assert (await balancer.ask(request("/"))).status == 200
            choices: list[tuple[str, dict[str, Any]]] = [
                (plain.address, {}),
                (address, {"send_proxy": "v2"}),
                (address, {"send_proxy": "v1"}),
            ]
            for where, options in choices:
                config = config_from_tree(tree([where], **options), balancer.balancer.plugins)
                balancer.balancer.apply(config)
                assert (await balancer.ask(request("/"))).status == 200
        assert [sent.header[:6] for sent in connections] == [SIGNATURE[:6], b"PROXY "]


HAPROXY_BACKEND = """
listen back
    bind 127.0.0.1:{port} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"
"""


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_before_haproxy(tmp_path: Path, version: str) -> None:
    port = free_port()
    check = {"path": "/", "interval": "100ms"}
    with haproxy(tmp_path, HAPROXY_BACKEND.format(port=port), port):
        async with balancing(f"127.0.0.1:{port}", send_proxy=version, health_check=check, **BELIEVING) as balancer:
            for source, destination in (("192.0.2.7", "198.51.100.1"), ("2001:db8::7", "2001:db8::1")):
                answer = await balancer.ask(v1(source, destination) + request("/"))
                assert (answer.status, answer.body) == (200, f"{source} 56324 {destination} 443".encode())
            (backend,) = balancer.balancer.engine.backends
            assert backend.health == "up"
            answer = await balancer.ask(UNIX + request("/"))  # it is told nothing then, and takes our end
            assert answer.body.startswith(b"127.0.0.1 ")


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_before_nginx(tmp_path: Path, version: str) -> None:
    port = free_port()
    server = f"""server {{ listen 127.0.0.1:{port} proxy_protocol;
        return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port"; }}"""
    check = {"path": "/", "interval": "100ms"}
    with nginx(tmp_path, server, port):
        async with balancing(f"127.0.0.1:{port}", send_proxy=version, health_check=check, **BELIEVING) as balancer:
            for source, destination in (("192.0.2.7", "198.51.100.1"), ("2001:db8::7", "2001:db8::1")):
                answer = await balancer.ask(v2(source, destination) + request("/"))
                assert (answer.status, answer.body) == (200, f"{source} 56324 443".encode())
            (backend,) = balancer.balancer.engine.backends
            assert backend.health == "up"


async def test_what_the_header_costs(measured: Measured) -> None:
    """A connection for every request: the price of naming the client."""
    took = {}
    for version in ("off", "v2"):
        async with wanting() as (address, connections), Backend() as plain:
            where = address if version != "off" else plain.address
            async with balancing(where, send_proxy=version) as balancer, await balancer.client() as client:
                await client.ask(request("/"))
                start = asyncio.get_running_loop().time()
                for _ in range(300):
                    assert (await client.ask(request("/"))).status == 200
                took[version] = (asyncio.get_running_loop().time() - start) / 300
                assert len(connections) == (301 if version != "off" else 0)
    measured("ms a request, kept connection / send_proxy", f"{took['off'] * 1000:.2f} / {took['v2'] * 1000:.2f}")
    assert took["v2"] < took["off"] + 0.005
