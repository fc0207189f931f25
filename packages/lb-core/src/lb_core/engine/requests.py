"""The request head as it goes to the backend: what the client sent, less what must not pass, plus what we add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.engine.heads import cut

if TYPE_CHECKING:
    from lb_core.engine.forwarding import Forwarding


def compose(exchange: Forwarding, body: bytes) -> bytes:
    """The head, and the body that came with it, ready to be written in one piece."""
    method, target, host, rest, special, _ = exchange.request
    route = exchange.route
    headers = exchange._headers
    if (
        special is None
        and not route.strip_prefix
        and not route.send_backend_host
        and (headers is None or not headers.changed)
    ):
        block = exchange.downstream.origin.block(host or b"")
        return b"%b %b %b%bX-Request-Id: %b\r\n\r\n" % (method, target, rest, block, exchange.raw_request_id)
    return _compose_special(exchange) + body


def _compose_special(exchange: Forwarding) -> bytes:
    """The general path: cuts, trusted peers, HTTP/1.0, absolute targets, prefixes, fields that plugins changed."""
    method, target, host, rest, special, _ = exchange.request
    route = exchange.route
    origin = exchange.downstream.origin
    block = origin.block(host if host is not None else b"")
    cuts: list[bytes] = []
    if special is not None:
        cuts = special.cuts
        if origin.trusted:
            block, cuts = origin.believed(special, rest, host or b"")
        if special.absolute_host:
            block = b"Host: %b\r\n%b" % (special.absolute_host, block)
    if host is None or route.send_backend_host:
        cuts = [*cuts, b"host:"]
    if exchange.wants_tunnel:
        block += b"Connection: Upgrade\r\n"
    if special is None or not special.request_id:
        block = b"%bX-Request-Id: %b\r\n" % (block, exchange.raw_request_id)
    if route.strip_prefix:
        target = _stripped(target, route.strip_prefix)
        block = b"X-Forwarded-Prefix: %b\r\n%b" % (route.strip_prefix, block)
        cuts = [*cuts, b"x-forwarded-prefix:"]
    headers = exchange._headers
    if headers is not None and headers.changed:
        rest = b"HTTP/1.1\r\n" + headers.encode()
    elif rest[:8] != b"HTTP/1.1":
        rest = b"HTTP/1.1" + rest[8:]
    head = b"%b %b %b" % (method, target, rest)
    if cuts:
        head = cut(head, cuts)
    return b"%b%b\r\n" % (head, block)


def _stripped(target: bytes, prefix: bytes) -> bytes:
    """The target without a path prefix that ends at a segment."""
    rest = target[len(prefix) :] if target.startswith(prefix) else target
    return rest if rest[:1] == b"/" else b"/" + rest
