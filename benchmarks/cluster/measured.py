"""The costs measured: a redis-server of its own, and the very scripts that lb-redis sends."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random

import redis

from benchmarks import cpu
from benchmarks.cluster.costs import Costs
from benchmarks.processes import Processes, free_port
from lb_core import Member
from lb_redis.beat import BEAT
from lb_redis.keys import Keys
from lb_redis.policy import Batch, Rules
from lb_redis.roster import FORGET_AFTER, GONE_AFTER, tell
from lb_redis.script import WINDOWS, arguments

RULES = Rules(1000, 60.0, nodes=1000)
FACT = (
    b'{"topic":"ejection/app.example.com","message":{"backend":"10.0.0.17:8080","for":30.0},"v":1,"from":"edge-0417",'
)
FACT += b'"boot":"9f8e7d6c5b4a3921","seq":17,"kind":"fact"}'
PARTS = 16
QUIET = 0.02
BOOT = "0123456789abcdef"


def measure(subscribers: int = 300, keys: int = 100_000, members: int = 1000) -> Costs:
    """Start a Redis, use it, and end it."""
    with Processes() as processes:
        port = free_port()
        options = ["--save", "", "--appendonly", "no", "--maxclients", "10000", "--dir", str(processes.folder)]
        command = ["redis-server", "--port", str(port), *options]
        pid = processes.start("redis", command, port=port, cpu="0-1")
        server = _Server(redis.Redis(port=port, protocol=2), pid, port)
        costs = _exchange(server, keys, Costs())
        costs = _facts(server, subscribers, costs)
        return _beats(server, members, costs)


class _Server:
    def __init__(self, client: redis.Redis, pid: int, port: int) -> None:
        self.client = client
        self.pid = pid
        self.port = port

    def info(self, name: str) -> float:
        found = self.client.info()
        assert isinstance(found, dict)
        return float(found[name])

    def cost(self, work: Callable[[int], object], times: int) -> float:
        """Seconds of Redis' CPU for each call of `work`, which gets its number."""
        before = cpu.cpu_ns([self.pid])
        for number in range(times):
            work(number)
        return (cpu.cpu_ns([self.pid]) - before) / 1e9 / times


# counts


def _exchange(server: _Server, keys: int, costs: Costs) -> Costs:
    """Two sizes of batches tell what a call costs and what a key: half of the keys are new, half another node has."""
    random = Random(1)
    fields = [random.randbytes(8) for _ in range(keys)]
    call = server.client.register_script(WINDOWS)
    size = 500
    memory = server.info("used_memory")
    before, busy = _traffic(server), cpu.cpu_ns([server.pid])
    batches = keys // size
    for number in range(batches):
        half = number % (batches // 2)  # the second node that says a key has to share it
        _say(call, fields[half * size : (half + 1) * size], 1, f"node{number}", ask=-83)
    large = (cpu.cpu_ns([server.pid]) - busy) / 1e9 / batches
    bytes_in, bytes_out = (after - then for after, then in zip(_traffic(server), before, strict=True))
    held = server.info("used_memory") - memory
    small_before, count = _traffic(server), 2000
    small = server.cost(lambda n: _say(call, fields[n : n + 1], n + 2, "node0"), count)
    small_in, small_out = (after - then for after, then in zip(_traffic(server), small_before, strict=True))
    each = max(0.0, (large - small) / (size - 1))
    together = server.cost(lambda n: _say_together(server, call, fields[n : n + 1], n + 2), count // PARTS) / PARTS
    in_pipeline = max(0.0, (small - together) / (1 - 1 / PARTS))
    key_in = (bytes_in / batches - small_in / count) / (size - 1)
    key_out = (bytes_out / batches - small_out / count) / (size - 1)
    return replace(
        costs,
        pipeline=in_pipeline,
        call=max(0.0, small - each - in_pipeline),
        key=each,
        memory_key=2 * held / keys,
        key_bytes_in=key_in,
        key_bytes_out=key_out,
        call_bytes_in=small_in / count - key_in,
        call_bytes_out=small_out / count - key_out,
    )


def _say(call: redis.commands.core.Script, fields: list[bytes], number: int, node: str, *, ask: int = 0) -> None:
    count = len(fields)
    batch = Batch(7, 0, number, 0.5, [""] * count, [3] * count, [3] * count, [ask] * count, [0 if ask else -1] * count)
    answered = call(keys=["{lb}:7", "{lb}:6"], args=arguments(batch, RULES, node, fields))
    assert answered[0] == 1, answered


def _say_together(server: _Server, call: redis.commands.core.Script, fields: list[bytes], number: int) -> None:
    """The same number to each part of the counts, in one pipeline."""
    batch = Batch(7, 0, number - 1, 0.5, [""], [3], [3], [0], [-1])
    pipeline = server.client.pipeline(transaction=False)
    for part in range(PARTS):
        args = arguments(batch, RULES, "node0", fields)
        pipeline.evalsha(call.sha, 2, f"{{lb.{part}}}:7", f"{{lb.{part}}}:6", *args)
    assert all(answered[0] == 1 for answered in pipeline.execute())


def _traffic(server: _Server) -> tuple[float, float]:
    return server.info("total_net_input_bytes"), server.info("total_net_output_bytes")


# facts


def _facts(server: _Server, subscribers: int, costs: Costs) -> Costs:
    """One fact at a time pays for writing to everybody; many at once share it."""
    channel = Keys("lb").facts
    before = cpu.cpu_ns([server.pid])
    listeners = [_listener(server.port, channel) for _ in range(subscribers)]
    join = (cpu.cpu_ns([server.pid]) - before) / 1e9 / subscribers
    selector = selectors.DefaultSelector()
    for listener in listeners:
        selector.register(listener, selectors.EVENT_READ)
    nobody = server.cost(lambda _: _publish(server, "nobody", 1), 1000)

    def told(times: int, together: int) -> float:
        def work(_: int) -> None:
            _publish(server, channel, together)
            _drain(selector)

        return server.cost(work, times) / together

    single, many, together = told(50, 1), told(20, 50), 50
    write = (single - many) / subscribers / (1 - 1 / together)
    copy = (many - nobody / together) / subscribers - write / together
    sent = server.info("total_net_output_bytes")
    _publish(server, channel, 100)
    size = (server.info("total_net_output_bytes") - sent) / 100 / subscribers
    for listener in listeners:
        listener.close()
    return replace(costs, write=write, copy=max(copy, 0.0), publish=nobody, join=join, fact_bytes=size)


def _listener(port: int, channel: str) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), 5)
    made.sendall(f"PING\r\nSUBSCRIBE {channel}\r\n".encode())
    heard = b""
    while b"subscribe" not in heard:
        heard += made.recv(4096)
    made.setblocking(False)
    return made


def _publish(server: _Server, channel: str, together: int) -> None:
    pipeline = server.client.pipeline(transaction=False)
    for _ in range(together):
        pipeline.publish(channel, FACT)
    pipeline.execute()


def _drain(selector: selectors.BaseSelector) -> None:
    last = time.monotonic()
    while time.monotonic() - last < QUIET:
        for key, _ in selector.select(QUIET):
            key.fileobj.recv(1 << 20)  # type: ignore[union-attr]  # only sockets are registered
            last = time.monotonic()


# beats


def _beats(server: _Server, members: int, costs: Costs) -> Costs:
    """A node's word of itself, and the list of all."""
    keys = Keys("lb")
    call = server.client.register_script(BEAT.text)
    names = (keys.alive, keys.nodes, keys.leader, keys.fence, keys.edits, keys.secret)

    def say(number: int, everybody: int) -> None:
        boot = f"{number:016x}"
        member = Member(f"edge-{number}", "0.1.0", "up", 1.79e9, requests_per_second=1000, connections=5000)
        info = tell(member)
        said = (member.name, member.name, boot, info, GONE_AFTER, FORGET_AFTER, 10_000, 0, everybody, BOOT, "")
        call(keys=names, args=said)

    for number in range(members):
        say(number, 0)
    plain = server.cost(lambda number: say(number, 0), members)
    sent, asks = server.info("total_net_output_bytes"), 20
    asked = server.cost(lambda number: say(number, 1), asks)
    size = (server.info("total_net_output_bytes") - sent) / asks / members
    return replace(costs, beat=plain, listed=(asked - plain) / members, listed_bytes=size)
