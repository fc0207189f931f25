"""The mirror, with a shadow that listens; more of it over real sockets in tests/integration/test_mirror.py."""

from __future__ import annotations

import asyncio

from lb_core import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.plugins import Plugins
from lb_split import Mirror

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Listening:
    """A backend that answers everything; `received` is what it was sent."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.port = 0
        self.open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Listening:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self.server.close()
        await asyncio.wait(self.open, timeout=5)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        while data := await reader.read(65536):
            self.received += data
            writer.write(OK)
        writer.close()
        await writer.wait_closed()


async def ask(lb: LoadBalancer, body: bytes) -> int:
    """A request by way of the ASGI face; its status."""
    sent: list[dict[str, object]] = []
    received = iter([{"type": "http.request", "body": body, "more_body": False}])
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/x",
        "raw_path": b"/x",
        "query_string": b"",
        "headers": [(b"host", b"example.com"), (b"content-length", b"%d" % len(body))],
        "client": ("192.0.2.1", 1234),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
    }

    async def receive() -> dict[str, object]:
        found = next(received, None)
        if found is None:
            await asyncio.Event().wait()
        return found or {}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async with lb.lifespan():
        async with asyncio.timeout(5):
            await lb(scope, receive, send)
            mirror = dict(lb.routes["example.com"].parts)["mirror"]
            assert isinstance(mirror, Mirror)
            while mirror.in_flight:
                await asyncio.sleep(0.005)
        assert mirror.describe().startswith("50 % to shadow: ")
    status = sent[0]["status"]
    assert isinstance(status, int)
    return status


async def test_every_second_request_is_copied_with_its_body() -> None:
    async with Listening() as original, Listening() as shadow:
        tree = {
            "access_log": False,
            "routes": {
                "example.com": {
                    "backends": [f"127.0.0.1:{original.port}"],
                    "mirror": {"use": "shadow", "percent": 50, "max_body": "100B"},
                }
            },
            "pools": {"shadow": {"backends": [f"127.0.0.1:{shadow.port}"]}},
        }
        plugins = Plugins.discover()
        lb = LoadBalancer(config_from_tree(tree, plugins, source="test"), plugins=plugins)
        assert await ask(lb, b"the body") == 200
        assert shadow.received.startswith(b"POST /x HTTP/1.1\r\nHost: example.com\r\n")
        assert b"X-LB-Mirror: 1\r\n" in shadow.received
        assert shadow.received.endswith(b"\r\n\r\nthe body")
