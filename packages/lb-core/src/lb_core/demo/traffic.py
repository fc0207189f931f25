"""The demo's client: so many requests a second over keep-alive connections, and what became of each."""

from __future__ import annotations

import asyncio
from collections import Counter

ANSWER_WITHIN = 10.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Traffic:
    """A steady trickle of GETs. Every request that was not answered with 2xx is `lost`."""

    def __init__(self, host: str, port: int, rate: float) -> None:
        self.host = host
        self.port = port
        self.rate = rate
        self.sent = 0
        self.answered = 0
        self.problems: Counter[str] = Counter()
        self._idle: list[Streams] = []
        self._open: set[asyncio.Task[None]] = set()

    @property
    def lost(self) -> int:
        """Requests that ended without a 2xx answer."""
        return self.problems.total()

    async def run(self) -> None:
        """Send until cancelled; then wait for the answers that are due, and close the connections."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                task = asyncio.create_task(self._send(self.sent))
                self.sent += 1
                self._open.add(task)
                task.add_done_callback(self._open.discard)
                due = max(due + 1 / self.rate, loop.time() - 1.0)  # catch up with a hiccup, not with a suspended laptop
                await asyncio.sleep(due - loop.time())
        finally:
            await asyncio.gather(*self._open)
            for _, writer in self._idle:
                writer.close()

    async def _send(self, number: int) -> None:
        try:
            status = await asyncio.wait_for(self._exchange(f"/item/{number % 100}"), ANSWER_WITHIN)
        except TimeoutError:
            self.problems[f"no answer within {ANSWER_WITHIN:g} s"] += 1
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.problems[str(error) or type(error).__name__] += 1
        else:
            if 200 <= status < 300:
                self.answered += 1
            else:
                self.problems[f"answered {status}"] += 1

    async def _exchange(self, path: str) -> int:
        reader, writer = await self._connection()
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nUser-Agent: lb-demo\r\n\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            await reader.readexactly(int(fields["content-length"]))
        except KeyError as error:
            writer.close()
            raise ValueError("an answer without Content-Length") from error
        except BaseException:
            writer.close()
            raise
        if fields.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(status_line.split(" ", 2)[1])

    async def _connection(self) -> Streams:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self.host, self.port)
