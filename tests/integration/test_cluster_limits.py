"""Three nodes with one limit, one of them with two workers: they let through what one would, whatever Redis does.

Times are those of Redis, which is this machine; one node's clock is 90 seconds ahead, where `faketime` is installed.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.lb_process import backend, wait_until
from tests.integration.limits_load import Load, Node, Windows, Wire, start

pytest.importorskip("lb_redis")
from lb_redis.testing import RedisServer, redis_program

WINDOW = 2.0
LIMIT = 400
EXACT = pytest.approx(LIMIT, rel=0.03)
DEMAND = 2 * LIMIT / WINDOW
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

pytestmark = [
    pytest.mark.timed,
    pytest.mark.skipif(redis_program() is None, reason="redis-server is not installed"),
]


class Setting:
    """Redis, three nodes (the last over a wire that can be cut), and what is needed to measure."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.redis = stack.enter_context(RedisServer())
        self.wire = Wire(self.redis.port)
        stack.callback(self.wire.close)
        one = stack.enter_context(backend("one"))
        limit = f"{{requests: {LIMIT}, window: {WINDOW:g}s, key: route}}"
        plain, wired = self.redis.url, f"redis://127.0.0.1:{self.wire.port}"
        self.nodes = start(stack, folder, one.address, limit, [plain], workers=2)
        with pytest.MonkeyPatch.context() as patch:
            if FAKETIME.exists():
                patch.setenv("LD_PRELOAD", str(FAKETIME))
                patch.setenv("FAKETIME", "+90s")
                patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            self.nodes += start(stack, folder, one.address, limit, [plain], first=1)
        self.nodes += start(stack, folder, one.address, limit, [wired], first=2)
        self.windows = Windows(WINDOW)

    def load(self, *rates: float) -> Load:
        """Requests to the nodes in these proportions, twice as many as may pass."""
        return Load([node.port for node in self.nodes], [DEMAND * rate for rate in rates])


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with ExitStack() as stack:
        yield Setting(stack, tmp_path_factory.mktemp("nodes"))


def counted(load: Load, begin: float, windows: int) -> list[int]:
    """How many passed in so many windows."""
    return [load.between(begin + number * WINDOW, begin + (number + 1) * WINDOW) for number in range(windows)]


def test_uneven_load_and_load_that_moves(setting: Setting) -> None:
    with setting.load(0.8, 0.15, 0.05) as load:
        begin = setting.windows.next()
        setting.windows.wait(begin + WINDOW)
        load.rates[:] = [DEMAND, 0, 0]
        setting.windows.wait(begin + 1.5 * WINDOW)
        load.rates[:] = [0, DEMAND, 0]
        setting.windows.wait(begin + 3 * WINDOW)
    found = counted(load, begin, 3)
    assert load.failed == []
    assert found == [EXACT] * 3, found
    assert load.refused > LIMIT


def test_redis_is_killed_and_restarted(setting: Setting) -> None:
    with setting.load(0.6, 0.3, 0.1) as load:
        time.sleep(0.3)
        setting.redis.kill()
        time.sleep(0.4)
        killed = len(load.passed)
        time.sleep(0.4)
        assert len(load.passed) - killed >= 10  # each node has its share
        setting.redis.start()
        back = time.time()
        begin = setting.windows.next()
        begin += WINDOW * (begin < back + 2.0)
        setting.windows.wait(begin + WINDOW)
    assert load.failed == []
    assert load.longest < 1.0
    assert counted(load, begin, 1) == [EXACT]
    for node in setting.nodes:
        assert "cluster lost" in node.process.errors


def test_a_frozen_redis_and_a_cut_node(setting: Setting) -> None:
    """While Redis is frozen, and for the node that is cut off, a share of the limit holds."""
    with setting.load(0.5, 0.25, 0.25) as load:
        begin = setting.windows.next()
        setting.windows.wait(begin)
        setting.wire.cut()
        setting.windows.wait(begin + WINDOW)
        setting.redis.pause()
        time.sleep(0.5)
        setting.redis.resume()
        setting.wire.mend()
        healed = begin + 3 * WINDOW
        setting.windows.wait(healed + WINDOW)
    assert load.failed == []
    assert load.longest < 1.0
    cut = [number for moment, number in load.passed if begin + 0.2 <= moment < begin + WINDOW]
    assert cut.count(2) <= LIMIT / 3 * 1.03
    assert len(cut) <= LIMIT * (1 + 1 / 3) * 1.03
    assert counted(load, healed, 1) == [EXACT]


def test_what_a_refused_client_is_told(setting: Setting) -> None:
    with setting.load(0.9, 0.05, 0.05) as load:
        wait_until(lambda: load.refused > 20)
        status, fields, body = refusal(setting.nodes[2])
    assert status == 429
    assert 1 <= int(fields["Retry-After"]) <= WINDOW
    assert f"q={LIMIT}" in fields["RateLimit-Policy"]
    assert body["error"] == "rate_limited"


def refusal(node: Node) -> tuple[int, dict[str, str], dict[str, str]]:
    """The first answer of a node that is a refusal."""
    for _ in range(200):
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=5)
        connection.request("GET", "/", headers={"Host": "limited.test", "Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status == 429:
            return answer.status, dict(answer.headers), json.loads(body)
        time.sleep(0.005)
    raise AssertionError("nothing was refused")
