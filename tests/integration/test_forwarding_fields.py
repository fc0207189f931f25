"""What the backend is told about the client, and what neither side is told about the other's connection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.backends import Backend
from tests.support.balancing import balancing
from tests.support.wire import Message, request, response

if TYPE_CHECKING:
    from lb_core import Exchange

OURS = ("x-forwarded-for", "x-real-ip", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "via")
TRUSTING: dict[str, Any] = {"top": {"trusted_proxies": ["127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32"]}}


class Seen(NamedTuple):
    """What the backend saw, and where it came from."""

    message: Message
    exchange: Exchange
    port: bytes
    backend: bytes


async def seen_with(
    *fields: str, body: bytes = b"", target: str = "/", host: str = "example.com", **options: Any
) -> Seen:
    """What the backend sees of a request with these fields."""
    backend = Backend()
    async with balancing(backend, **options) as balancer:
        assert (await balancer.ask(request(target, body, *fields, host=host))).status == 200
        return Seen(backend.messages[0], balancer.last, b"%d" % balancer.port, backend.address.encode())


def values(message: Message, *names: str) -> list[list[bytes]]:
    return [message.all(name) for name in names]


SPOOFED = (
    "X-Forwarded-For: 1.2.3.4",
    "X-Real-IP: 1.2.3.4",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Server: evil",
    "Forwarded: for=1.2.3.4",
    "X_Forwarded_For: 1.2.3.4",
    "X_Real_IP: 1.2.3.4",
    "x-forwarded_host: evil.example",
    "X-Forwarded-For: 5.6.7.8",
)


@pytest.mark.parametrize(
    "fields", [(), SPOOFED, ("Connection: keep-alive", *SPOOFED)], ids=["plain", "spoofed", "spoofed, kept"]
)
@pytest.mark.parametrize("body", [b"", b"body"], ids=["GET", "POST"])
@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"]], ids=["nobody", "others"])
async def test_nobody_is_believed(fields: tuple[str, ...], body: bytes, trusted: list[str]) -> None:
    seen = await seen_with(*fields, body=body, host="Example.com:8080", top={"trusted_proxies": trusted})
    message = seen.message
    expected = [[b"127.0.0.1"], [b"127.0.0.1"], [b"http"], [b"Example.com:8080"], [seen.port], [b"1.1 lb"]]
    assert values(message, *OURS) == expected
    assert message.all("host") == [b"Example.com:8080"]
    shadows = {name for name, _ in message.fields if re.fullmatch(rb"x[-_](forwarded|real)[-_].*|forwarded", name)}
    assert shadows == {name.encode() for name in OURS[:-1]}
    assert seen.exchange.client == "127.0.0.1"


@pytest.mark.parametrize(
    ("sent", "chain", "client"),
    [
        ((), b"127.0.0.1", b"127.0.0.1"),
        (("203.0.113.7",), b"203.0.113.7, 127.0.0.1", b"203.0.113.7"),
        (("203.0.113.7, 10.1.2.3",), b"203.0.113.7, 10.1.2.3, 127.0.0.1", b"203.0.113.7"),
        (("203.0.113.7", "10.1.2.3"), b"203.0.113.7, 10.1.2.3, 127.0.0.1", b"203.0.113.7"),
        (("1.2.3.4, 203.0.113.7, 10.1.2.3",), b"1.2.3.4, 203.0.113.7, 10.1.2.3, 127.0.0.1", b"203.0.113.7"),
        (("10.1.2.3, 10.4.5.6",), b"10.1.2.3, 10.4.5.6, 127.0.0.1", b"10.1.2.3"),
        (("2001:db8::1",), b"2001:db8::1, 127.0.0.1", b"2001:db8::1"),
        (("2001:DB9::1, ::ffff:10.0.0.1",), b"2001:db9::1, ::ffff:10.0.0.1, 127.0.0.1", b"2001:db9::1"),
        (("203.0.113.7, nonsense",), b"203.0.113.7, nonsense, 127.0.0.1", b"127.0.0.1"),
        (("203.0.113.7, nonsense, 10.1.2.3",), b"203.0.113.7, nonsense, 10.1.2.3, 127.0.0.1", b"10.1.2.3"),
    ],
)
async def test_a_trusted_proxy_is_believed_as_far_as_trust_goes(
    sent: tuple[str, ...], chain: bytes, client: bytes
) -> None:
    seen = await seen_with(*[f"X-Forwarded-For: {each}" for each in sent], **TRUSTING)
    message = seen.message
    assert values(message, "x-forwarded-for", "x-real-ip") == [[chain], [client]]
    assert seen.exchange.client == client.decode()


async def test_a_trusted_proxy_says_how_it_was_reached() -> None:
    said = (
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example",
        "X-Forwarded-Port: 443",
        "Forwarded: for=203.0.113.7",
    )
    seen = await seen_with(*said, "X_Forwarded_Proto: evil", "X-Real-IP: 9.9.9.9", **TRUSTING)
    message = seen.message
    expected = [[b"https"], [b"shop.example"], [b"443"], [b"for=203.0.113.7"], [b"127.0.0.1"], []]
    assert (
        values(
            message,
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "forwarded",
            "x-real-ip",
            "x_forwarded_proto",
        )
        == expected
    )
    seen = await seen_with("X-Forwarded-Proto: https", **TRUSTING)
    message = seen.message
    assert values(message, "x-forwarded-proto", "x-forwarded-host") == [[b"https"], [b"example.com"]]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ((), False),
        (("abc-123",), True),
        (("x" * 200,), True),
        (("x" * 201,), False),
        (("",), False),
        (("a b",), False),
        (("a", "b"), False),
        (("caf\u00e9",), False),
    ],
)
@pytest.mark.parametrize("body", [b"", b"body"], ids=["GET", "POST"])
async def test_a_request_id_is_kept_where_it_is_one(sent: tuple[str, ...], kept: bool, body: bytes) -> None:
    seen = await seen_with(*[f"X-Request-ID: {each}" for each in sent], "X_Request_Id: shadow", body=body)
    message = seen.message
    assert "x_request_id" not in message
    found = message["x-request-id"].decode()
    assert (found in sent) == kept
    assert kept or re.fullmatch("[0-9a-f]{32}", found)
    assert seen.exchange.request_id == found


async def test_request_ids_differ() -> None:
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(50):
            await client.ask(request())
    assert len({message["x-request-id"] for message in backend.messages}) == 50


HOP_BY_HOP = (
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "Trailer: X-Sum",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABk",
)


@pytest.mark.parametrize(
    "connection",
    ["keep-alive", "X-Mine, x-two,TE, keep-alive", "close, X-Mine,, X-Two", "Upgrade, HTTP2-Settings, x-mine, x-two"],
)
@pytest.mark.parametrize("body", [b"", b"body"], ids=["GET", "POST"])
async def test_fields_of_the_clients_connection_stay_there(connection: str, body: bytes) -> None:
    own = ("X-Mine: 1", "X-Two: 2", "X-Mine: 3", "X-Kept: 4")
    seen = await seen_with(f"Connection: {connection}", *own, *HOP_BY_HOP, body=body)
    message = seen.message
    gone = {name.partition(":")[0].lower() for name in HOP_BY_HOP}
    gone |= {token.strip().lower() for token in connection.split(",") if token.strip().lower() != "keep-alive"}
    left = {name.decode() for name, _ in message.fields}
    assert not left & (gone - {"keep-alive"} | {"keep-alive"})
    assert message["x-kept"] == b"4"
    assert message.all("connection") in ([], [b"keep-alive"])


@pytest.mark.parametrize("field", ["X-Forwarded-For", "X-Real-IP", "X-Request-Id", "Via", "X-Forwarded-Host"])
async def test_connection_cannot_name_our_own_fields_away(field: str) -> None:
    seen = await seen_with(f"Connection: {field}", f"{field}: mine")
    message = seen.message
    assert len(message.all(field.lower())) == 1
    assert message[field.lower()] != b"mine"


async def test_everything_else_passes_as_it_was_written() -> None:
    sent = (
        "Accept: */*",
        "accept: text/html",
        "Cookie: a=b; c=d",
        "X-Odd:   spaces  within  ",
        "AUTHORIZATION: Basic eDp5",
        "traceparent: 00-1-2-01",
    )
    seen = await seen_with(*sent, target="/a%2Fb/../c?d=%20&e")
    message = seen.message
    assert message.target == b"/a%2Fb/../c?d=%20&e"
    assert message.all("accept") == [b"*/*", b"text/html"]
    assert message["x-odd"] == b"spaces  within"
    assert b"\r\nAUTHORIZATION: Basic eDp5\r\n" in message.raw
    assert message["traceparent"] == b"00-1-2-01"


async def test_fields_of_the_backends_connection_stay_there() -> None:
    theirs = (
        "Connection: X-Mine, keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: x",
        "Trailer: X",
        "Upgrade: h2c",
    )
    raw = response(b"ok", *theirs, "X-Mine: 1", "x-mine: 2", "Set-Cookie: a=b", "Set-Cookie: c=d", "Server: theirs")
    async with balancing(Backend(raw)) as balancer, await balancer.client() as client:
        answer = await client.ask(request())
        assert [name for name, _ in answer.fields] == [b"set-cookie", b"set-cookie", b"server", b"content-length"]
        assert answer.all("set-cookie") == [b"a=b", b"c=d"]
        assert await client.silent()


@pytest.mark.parametrize(
    ("options", "target", "expected", "prefix"),
    [
        ({"strip_prefix": "/v2"}, "/v2/users?x", b"/users?x", [b"/v2"]),
        ({"strip_prefix": "/v2/"}, "/v2", b"/", [b"/v2"]),
        ({"strip_prefix": "/v2"}, "/v2?x", b"/?x", [b"/v2"]),
        ({"strip_prefix": "/v2"}, "/v20/users", b"/v20/users", []),
        ({"strip_prefix": "/v2"}, "/other", b"/other", []),
    ],
)
@pytest.mark.parametrize("body", [b"", b"body"], ids=["GET", "POST"])
async def test_a_prefix_is_stripped_and_named(
    options: dict[str, str], target: str, expected: bytes, prefix: list[bytes], body: bytes
) -> None:
    seen = await seen_with("X-Forwarded-Prefix: /evil", target=target, body=body, **options)
    message = seen.message
    assert (message.target, message.all("x-forwarded-prefix")) == (expected, prefix)


@pytest.mark.parametrize("body", [b"", b"body"], ids=["GET", "POST"])
async def test_the_backends_own_host_where_the_route_asks_for_it(body: bytes) -> None:
    seen = await seen_with(body=body, host_header="backend")
    message = seen.message
    assert message.all("host") == [seen.backend]
    assert message["x-forwarded-host"] == b"example.com"


async def test_the_host_of_an_absolute_target_wins() -> None:
    seen = await seen_with(target="http://Wins.example:8080/a", host="loses.example")
    message = seen.message
    assert (message.target, message.all("host")) == (b"/a", [b"Wins.example:8080"])
    assert message["x-forwarded-host"].lower() == b"wins.example:8080"
    assert seen.exchange.host == "wins.example"


async def test_each_connection_is_told_about_its_own_host() -> None:
    """The block of forwarding fields is kept between requests: it must follow the Host."""
    backend = Backend(response(b"ok"))
    async with balancing(backend) as balancer, await balancer.client() as client:
        for name in ("one.example", "two.example", "two.example", "ONE.example"):
            await client.ask(request(host=name))
            assert backend.messages[-1]["x-forwarded-host"] == name.encode()
