"""The script that counts, in a real Redis: it does what the model does, once each, and notices what is lost."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb_redis.policy import Answer, Batch, Rules
from lb_redis.policy_limit import Limit
from lb_redis.script import WINDOWS, answer, arguments, digest
from lb_redis.script_model import Model

redis = pytest.importorskip("redis")

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")

START = 1000.0
SHORT = digest(b"s" * 16)


class Server:
    """A redis-server on a unix socket, started and stopped by its test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client: Any = redis.Redis(unix_socket_path=str(folder / "redis.sock"), socket_timeout=5)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self.folder / "redis.sock"), "--save", ""]
        self.process = subprocess.Popen([*command, "--dir", str(self.folder)], stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                if self.client.ping():
                    return
            except redis.RedisError:
                time.sleep(0.01)
        raise AssertionError("redis-server does not answer")

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.client.connection_pool.disconnect()

    def call(self, rules: Rules, node: str, batch: Batch) -> Answer:
        keys = (f"counts:{batch.index}", f"counts:{batch.index - 1}")
        fields = [SHORT(key) for key in batch.keys]
        try:
            reply = self.client.evalsha(SHA, 2, *keys, *arguments(batch, rules, node, fields))
        except redis.exceptions.NoScriptError:
            reply = self.client.eval(WINDOWS, 2, *keys, *arguments(batch, rules, node, fields))
        return answer(reply, batch)


SHA = __import__("hashlib").sha1(WINDOWS.encode()).hexdigest()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()
    server.client.close()


@pytest.fixture
def server(running: Server) -> Server:
    running.client.flushall()
    return running


def say(server: Server, rules: Rules, node: str, limit: Limit, used: int, key: str = "k") -> Answer:
    """One exchange of one node; the answer is taken in."""
    limit.add([(key, 100, used)], START)
    (batch,) = limit.batches(START)
    found = server.call(rules, node, batch)
    limit.answered(batch, found, START)
    return found


@pytest.mark.parametrize("sliding", [True, False])
def test_it_does_what_the_model_does(server: Server, sliding: bool) -> None:
    chance = random.Random(7)
    rules = Rules(30, 10.0, sliding=sliding, nodes=3)
    model = Model(rules)
    limits = [Limit(rules) for _ in range(3)]
    now, seen = START, 0
    for _ in range(600):
        now += chance.random() * 0.05
        number = chance.randrange(3)
        limit = limits[number]
        limit.settle(now)
        index = rules.index(now) - (chance.random() < 0.1)
        changes = [
            (f"k{chance.randrange(5)}", index, chance.choice([0, 1, 1, 2, 3])) for _ in range(chance.randrange(4))
        ]
        limit.add(changes, now)
        for batch in limit.batches(now):
            expected = model.call(str(number), batch)
            found = server.call(rules, str(number), batch)
            assert found == expected, batch
            seen += 1
            if chance.random() > 0.1:  # else the answer is lost, and the same is said again
                limit.answered(batch, found, now)
    assert seen > 300


def test_a_batch_counts_once_however_often_it_is_sent(server: Server) -> None:
    rules = Rules(100, 10.0, nodes=2)
    first, second = Limit(rules), Limit(rules)
    say(server, rules, "1", first, 5)
    say(server, rules, "2", second, 3)
    first.add([("k", 100, 7)], START)
    (batch,) = first.batches(START)
    answers = [server.call(rules, "1", batch) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].grants[0] > 0
    second_claim = next(iter(second.batches(START)), None)
    assert second_claim is None
    value = int(server.client.hget("counts:100", SHORT("k")))
    assert value % 2**32 == answers[0].totals[0]
    assert value // 2**32 == 2  # nodes that have the key


def test_a_node_that_is_not_known_any_more_is_told_so(server: Server) -> None:
    rules = Rules(100, 10.0, nodes=2)
    limit = Limit(rules)
    for _ in range(3):
        assert say(server, rules, "1", limit, 5).known
    server.client.flushall()
    assert not say(server, rules, "1", limit, 1).known
    (batch,) = limit.batches(START)
    assert server.call(rules, "1", batch).totals == [16]


def test_a_script_that_is_not_known_is_no_loss(server: Server) -> None:
    rules = Rules(100, 10.0, nodes=2)
    limit = Limit(rules)
    say(server, rules, "1", limit, 5)
    server.client.script_flush()
    assert say(server, rules, "1", limit, 5).totals == [10]


def test_after_an_older_state_everybody_says_everything(server: Server) -> None:
    rules = Rules(100, 10.0, nodes=2)
    limits = {"1": Limit(rules), "2": Limit(rules)}
    for node, limit in limits.items():
        say(server, rules, node, limit, 5)
    server.client.save()
    say(server, rules, "1", limits["1"], 5)
    say(server, rules, "1", limits["1"], 5)
    server.stop()
    server.start()  # with what was saved
    assert server.client.hlen("counts:100") == 3
    assert not say(server, rules, "1", limits["1"], 1).known
    assert server.client.hlen("counts:100") == 0
    assert not say(server, rules, "2", limits["2"], 1).known
    for _ in range(2):
        for node, limit in limits.items():
            for batch in limit.batches(START):
                limit.answered(batch, server.call(rules, node, batch), START)
    claims = [limit._windows[100, 0].claimed("k") for limit in limits.values()]
    assert claims[0] >= 16
    assert claims[1] >= 6
    assert int(server.client.hget("counts:100", SHORT("k"))) % 2**32 == sum(claims)
    (server.folder / "dump.rdb").unlink()


def test_counts_expire(server: Server) -> None:
    rules = Rules(100, 10.0, nodes=2)
    say(server, rules, "1", Limit(rules), 5)
    assert 60_000 < server.client.pttl("counts:100") <= 90_000


def test_a_full_redis_refuses_and_counts_nothing(server: Server) -> None:
    rules = Rules(100, 10.0, nodes=2)
    limit = Limit(rules)
    say(server, rules, "1", limit, 5)
    server.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.RedisError, match="maxmemory"):
            say(server, rules, "1", limit, 5)
    finally:
        server.client.config_set("maxmemory", "0")
    (batch,) = limit.batches(START)
    assert server.call(rules, "1", batch).totals == [10]


def test_keys_cannot_be_read_in_redis(server: Server) -> None:
    rules = Rules(100, 10.0, nodes=2)
    say(server, rules, "1", Limit(rules), 5, key="203.0.113.77")
    assert all(b"203" not in field for field in server.client.hkeys("counts:100"))
    assert SHORT("a") != SHORT(b"a")
    assert digest(b"t" * 16)("a") != SHORT("a")
