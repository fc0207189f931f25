"""The request head as it goes to the backend: what the client sent, less what must not pass, plus what we add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.engine.heads import cut

if TYPE_CHECKING:
    from lb_core.engine.forwarding import Forwarding


def compose(exchange: Forwarding, body: bytes) -> bytes:
    """The head, and the body that came with it, ready to be written in one piece."""
    _, _, host, head, special, _ = exchange.request
    headers = exchange._headers
    if (
        (special is None or special.passes)
        and not exchange.route.rewrites
        and (headers is None or not headers.changed)
        and (exchange._state is None or not exchange.rewritten)
    ):
        block = exchange.downstream.origin.block(host or b"")
        return b"%b%bX-Request-Id: %b\r\n\r\n%b" % (head, block, exchange.raw_request_id, body)
    return _compose_special(exchange) + body


def _compose_special(exchange: Forwarding) -> bytes:
    """The general path: cuts, trusted peers, HTTP/1.0, absolute targets, prefixes, fields that plugins changed."""
    method, target, host, head, special, _ = exchange.request
    route = exchange.route
    if exchange.rewritten:
        target = exchange.rewritten.encode()
    origin = exchange.downstream.origin
    block = origin.block(host if host is not None else b"")
    cuts: list[bytes] = []
    if special is not None:
        cuts = special.cuts
        if origin.trusted:
            block, cuts = origin.believed(special, host or b"")
        block += special.restated
        if special.absolute_host and not route.send_backend_host:
            block = b"Host: %b\r\n%b" % (special.absolute_host, block)
    if host is None or route.send_backend_host:
        cuts = [*cuts, b"host:"]
        exchange.add_host()
    if exchange.wants_tunnel:
        block += b"Connection: Upgrade\r\n"
    if special is None or not special.request_id:
        block = b"%bX-Request-Id: %b\r\n" % (block, exchange.raw_request_id)
    if route.strip_prefix:
        stripped = _stripped(target, route.strip_prefix)
        if stripped != target:
            target = stripped
            block = b"X-Forwarded-Prefix: %b\r\n%b" % (route.strip_prefix, block)
        cuts = [*cuts, b"x-forwarded-prefix:"]
    headers = exchange._headers
    fields, added = head[head.index(b"\n") + 1 :], b""
    if headers is not None and headers.changed:
        fields, added = headers.halves()
    head = b"%b %b HTTP/1.1\r\n%b" % (method, target, fields)
    if cuts:  # of what the client sent: it cannot name a plugin's field in Connection to have it removed
        head = cut(head, cuts)
    return b"%b%b%b\r\n" % (head, added, block)


def _stripped(target: bytes, prefix: bytes) -> bytes:
    """The target without a path prefix, if that ends at a segment."""
    rest = target[len(prefix) :]
    if not target.startswith(prefix) or rest[:1] not in (b"", b"/", b"?"):
        return target
    return rest if rest[:1] == b"/" else b"/" + rest
