"""Where inputs run: a lane is a balancer with real sockets, one backend behind it, an attacker and a sentinel.

A lane runs one input at a time, so whatever its backend sees belongs to that input or to the sentinel, a client with a
connection of its own whose answer must stay its own. Many lanes share one loop. Nothing waits for the clock: a lane is
quiet when nothing has moved in it for a number of turns of the loop, each of which looks at every socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from lb_core import Exchange, hookimpl
from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.engine.downstream import TUNNEL
from lb_core.plugins import Plugins
from lb_core.server import Server
from tests.fuzz.mutate import REQUEST, Input
from tests.fuzz.outcome import Outcome, Seen
from tests.fuzz.peers import BackendPeer, Peer, reset
from tests.fuzz.reading import Malformed, Message, read_response
from tests.support.balancing import tree

if TYPE_CHECKING:
    from lb_core.engine.downstream import Downstream

CALM = 16
"""Turns of the loop without movement after which a lane is quiet: a connect takes four, a hop one."""
BOUND = 4.0
"""Seconds within which everything must have ended."""

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "limits": {"listener": {"limits": {"target": "1KiB", "head": "4KiB", "fields": 20}}},
    "rewriting": {"strip_prefix": "/a", "host_header": "backend"},
    "plugins": {},
    "trusting": {"top": {"trusted_proxies": ["127.0.0.1/32"]}},
}


class Meddler:
    """A plugin that changes every request and every response."""

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        exchange.headers["X-Plugin"] = "request"

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        exchange.response_headers["X-Plugin"] = "response"


class Lane:
    """One balancer and what surrounds it."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.moved = 0
        self.opened = 0
        self.outcome = Outcome()
        self.input: Input | None = None
        self.backend_peers: set[BackendPeer] = set()
        self.backend_port = 0
        self.port = 0
        self.balancer: LoadBalancer
        self._nonce = 0
        self._awaited: dict[bytes, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sentinel: Peer | None = None

    # life

    async def start(self) -> None:
        """Open the backend and the balancer."""
        loop = asyncio.get_running_loop()
        self._backend = await loop.create_server(lambda: BackendPeer(self), "127.0.0.1", 0)
        self.backend_port = self._backend.sockets[0].getsockname()[1]
        plugins = Plugins.discover(extra=[Meddler()] if self.variant == "plugins" else [])
        options = cast("Mapping[str, Any]", OPTIONS[self.variant])
        made = config_from_tree(tree([f"127.0.0.1:{self.backend_port}"], **options), plugins)
        self.balancer = LoadBalancer(made, plugins=plugins)
        self._server = Server(self.balancer, drain=0.2, watch=False, signals=False)
        self._serving = loop.create_task(self._server.serve())
        started = loop.create_task(self._server.started.wait())
        await asyncio.wait((self._serving, started), return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            self._serving.result()
        self.port = int(self._server.urls[0].rpartition(":")[2])

    async def stop(self) -> None:
        """Close everything."""
        for connection in self.connections:
            connection.transport.abort()
        self._serving.cancel()  # begins the drain
        await asyncio.sleep(0)
        for _ in range(200):
            if self._serving.done():
                break
            await asyncio.sleep(0.002)
        self._serving.cancel()  # ends it
        with suppress(asyncio.CancelledError):
            await self._serving
        self._backend.close()
        for peer in list(self.backend_peers):
            peer.transport.abort()
        if self._sentinel is not None:
            self._sentinel.transport.abort()
        await asyncio.sleep(0)

    @property
    def connections(self) -> list[Downstream]:
        """The balancer's connections from clients."""
        return cast("list[Downstream]", list(self.balancer.engine.deadlines.connections))

    # the backend's side

    def is_sentinel(self, message: Message) -> bool:
        """Whether a request is one of ours, known by a number nobody else can have."""
        return any(value in self._awaited for value in message.all(b"x-sentinel"))

    def answer(self, seen: Seen, peer: BackendPeer) -> None:
        """Answer a request, once."""
        message = seen.message
        if seen.answered:
            return
        seen.answered = True
        if self.is_sentinel(message):
            body = self._awaited[message.all(b"x-sentinel")[0]]
            peer.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        elif self.input is not None and self.input.direction != REQUEST:
            task = asyncio.get_running_loop().create_task(self._misbehave(peer, self.input))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif message.tunnel and b"/ws" in message.start[1]:
            peer.tunnel = True
            head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            peer.transport.write(head)
        else:
            count = len(self.outcome.seen)
            seen.answer = body = b"answer %d to %b" % (count, message.start[1][:100])
            if message.method == b"HEAD":
                body = b""
            if count % 3:
                peer.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(seen.answer), body))
            else:
                framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b""
                peer.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed)

    async def _misbehave(self, peer: BackendPeer, given: Input) -> None:
        for piece in given.pieces:
            if peer.transport.is_closing():
                return
            peer.transport.write(piece)
            self.moved += 1
            await turns(3)
        if given.end == "close":
            peer.transport.close()
        elif given.end == "reset":
            reset(peer.transport)

    # one input

    async def run(self, given: Input) -> Outcome:
        """Everything that this input causes."""
        self.outcome = outcome = Outcome()
        self.input = given
        client = await self._connect()
        if given.direction == REQUEST:
            await self._send(client, given, outcome)
        else:
            await self._ask_for_trouble(client, given, outcome)
        await self.ask_sentinel(outcome)
        outcome.ended = client.ended
        outcome.received = client.received
        client.transport.close()
        await self._all_gone(outcome)
        self.input = None
        self._awaited.clear()
        return outcome

    async def _connect(self) -> Peer:
        _, peer = await asyncio.get_running_loop().create_connection(lambda: Peer(self), "127.0.0.1", self.port)
        return peer

    async def _send(self, client: Peer, given: Input, outcome: Outcome) -> None:
        """The attacker is the client."""
        pieces = given.pieces
        for number, piece in enumerate(pieces):
            if client.transport.is_closing():
                break
            client.transport.write(piece)
            if number == len(pieces) // 2 and given.index % 3 == 0:
                await self.ask_sentinel(outcome)
            else:
                await turns(2)
        if given.end == "reset":
            client.reset()
        elif given.end == "close":
            client.transport.close()
        await self._settle(outcome, lambda: any(self._owes(each) for each in self.connections))

    async def _ask_for_trouble(self, client: Peer, given: Input, outcome: Outcome) -> None:
        """The attacker is the backend."""
        if given.pipelined:
            further, outcome.after = self._further()
            client.transport.write(request_for(given) + further)
            await self._settle(outcome, lambda: self._must_answer(given))
            return
        client.transport.write(request_for(given))
        await self._settle(outcome, lambda: self._must_answer(given))
        if client.ended != "open":
            return
        response = _final(client.received, given)
        if response is not None and response.complete and len(client.received) == response.end:
            further, outcome.after = self._further()
            client.transport.write(further)
            await self._settle(outcome, lambda: not client.received.endswith(outcome.after) and client.ended == "open")

    def _further(self) -> tuple[bytes, bytes]:
        """A second request over the same connection, and the body of its answer."""
        token, answer = self._token()
        return b"GET /after HTTP/1.1\r\nHost: example.com\r\nX-Sentinel: %b\r\n\r\n" % token, answer

    def _must_answer(self, given: Input) -> bool:
        """Whether the balancer has all it will ever get, and still owes an answer."""
        if self._tasks:
            return True
        return given.end != "stay" and any(self._owes(each) for each in self.connections)

    @staticmethod
    def _owes(connection: Downstream) -> bool:
        return connection.exchange is not None and connection.request_complete and connection.state < TUNNEL

    async def _settle(self, outcome: Outcome, owing: Callable[[], bool]) -> None:
        """Until nothing moves any more and nothing is owed."""
        end = monotonic() + BOUND
        await self._calm()
        while owing():
            if monotonic() > end:
                states = [(each.state, each.exchange and each.exchange.attempts) for each in self.connections]
                outcome.hangs.append(f"an answer is owed and does not come; (state, attempts) of connections: {states}")
                return
            await self._calm()

    async def _calm(self) -> None:
        calm, moved = 0, self.moved
        while calm < CALM:
            await asyncio.sleep(0)
            calm += 1
            if moved != self.moved:
                calm, moved = 0, self.moved

    async def _all_gone(self, outcome: Outcome) -> None:
        """Until the attacker's connection is gone and nothing is counted as under way."""
        end = monotonic() + BOUND
        while True:
            left = [each for each in self.connections if not self._is_sentinels(each)]
            in_flight = sum(backend.in_flight for backend in self.balancer.engine.backends)
            retrying = sum(route.retrying for route in self.balancer.routes.values())
            if not left and not in_flight and not retrying and not self._tasks:
                break
            if monotonic() > end:
                states = [each.state for each in left]
                outcome.hangs.append(
                    f"left behind when the client has gone: connections {states}, in_flight {in_flight}, "
                    f"retrying {retrying}, tasks {len(self._tasks)}"
                )
                break
            await asyncio.sleep(0)
        await turns(2)

    def _is_sentinels(self, connection: Downstream) -> bool:
        own = self._sentinel
        if own is None or own.transport.is_closing():
            return False
        return bool(connection.transport.get_extra_info("peername") == own.transport.get_extra_info("sockname"))

    # the sentinel

    def _token(self) -> tuple[bytes, bytes]:
        self._nonce += 1
        token = b"%d-%x" % (self._nonce, hash((id(self), self._nonce)) & 0xFFFFFFFFFFFF)
        self._awaited[token] = answer = b"for the sentinel " + token
        return token, answer

    async def ask_sentinel(self, outcome: Outcome) -> None:
        """The sentinel asks and must get its own answer."""
        peer = self._sentinel
        if peer is None or peer.transport.is_closing():
            peer = self._sentinel = await self._connect()
        token, body = self._token()
        peer.received = b""
        peer.transport.write(b"GET /sentinel HTTP/1.1\r\nHost: example.com\r\nX-Sentinel: %b\r\n\r\n" % token)
        end = monotonic() + BOUND
        message: Message | None = None
        while message is None or not message.complete:
            await asyncio.sleep(0)
            if peer.received:
                try:
                    message = read_response(peer.received, 0, b"GET", ended=peer.ended != "open")
                except Malformed:
                    break
            if monotonic() > end or (peer.ended != "open" and not peer.received):
                break
        if message is None or message.status != 200 or message.body != body or message.end != len(peer.received):
            outcome.sentinel.append(f"the sentinel got {peer.received[:400]!r} ({peer.ended}), expected {body!r}")
            peer.transport.abort()
            self._sentinel = None
        elif b"close" in message.tokens(b"connection"):
            peer.transport.close()
            self._sentinel = None
            await turns(4)


async def turns(count: int) -> None:
    """Let the loop look at every socket so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


def request_for(given: Input) -> bytes:
    """The client's request whose answer is the input."""
    version = b"HTTP/1.0" if given.http10 else b"HTTP/1.1"
    method, more, body = given.method, b"", b""
    if method == b"WS":
        method, more = b"GET", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    elif method == b"POST":
        more, body = b"Content-Length: 5\r\n", b"hello"
    return b"%b /fuzz %b\r\nHost: example.com\r\n%b\r\n%b" % (method, version, more, body)


def _final(received: bytes, given: Input) -> Message | None:
    """The final response in what a client got."""
    position = 0
    try:
        while True:
            message = read_response(received, position, b"GET" if given.method == b"WS" else given.method)
            if message is None or message.status >= 200:
                return message
            if message.status == 101:
                return None
            position = message.end
    except Malformed:
        return None
