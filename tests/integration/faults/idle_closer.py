"""A backend, as a process of its own, that closes each kept connection a random moment after its last answer.

    python -m tests.integration.faults.idle_closer LONGEST_MS

It prints its port, and answers GET /doubled with the number of POST bodies it was sent more than once.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter

from tests.support.wire import read_body, read_head, response


class IdleCloser:
    """The backend; `longest` is in seconds."""

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self.posted: Counter[bytes] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        patience = None  # a new connection has not been idle
        try:
            while True:
                async with asyncio.timeout(patience):
                    message = await read_head(reader)
                patience = random.uniform(0, self.longest)
                if message is None:
                    break
                await read_body(reader, message)
                if message.body:
                    self.posted[message.body] += 1
                answer = b"fine"
                if message.target == b"/doubled":
                    answer = b"%d" % sum(count > 1 for count in self.posted.values())
                writer.write(response(answer))
        except TimeoutError:
            pass
        finally:
            writer.close()


async def main() -> None:
    """Serve until killed."""
    backend = IdleCloser(float(sys.argv[1]) / 1000)
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
