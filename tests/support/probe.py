"""A probe in a process of its own, that looks again and again whether it is served: `python -m tests.support.probe`."""

from __future__ import annotations

import http.client
import json
import math
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.repository import ROOT
from tests.support.uncovered import environment


@dataclass
class Probe:
    """GETs over connections of their own, one after the other; `seconds` holds what ended in each second: answered?"""

    times: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: dict[int, list[bool]] = field(default_factory=dict)

    @property
    def available(self) -> float:
        """The share of seconds in which a probe was answered, and none was not."""
        whole = range(max(self.seconds, default=0))  # the last one is a part
        return sum(bool(self.seconds.get(second)) and all(self.seconds[second]) for second in whole) / max(
            len(whole), 1
        )

    def p(self, share: float) -> float:
        """A quantile of the answer times, in milliseconds."""
        ordered = sorted(self.times)
        return 1000 * ordered[min(math.ceil(share * len(ordered)) - 1, len(ordered) - 1)] if ordered else math.inf

    def __str__(self) -> str:
        return (
            f"{len(self.times)} probes, available {self.available:.0%} of {max(self.seconds, default=0)} s, "
            f"p50 {self.p(0.5):.1f} ms, p99 {self.p(0.99):.1f} ms, worst {self.p(1):.0f} ms"
        )


@contextmanager
def probing(port: int) -> Iterator[Probe]:
    """Probe for the length of a `with`; the probe's figures are there after it."""
    probe = Probe()
    command = [sys.executable, "-m", "tests.support.probe", str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield probe
        finally:
            out, _ = process.communicate("stop\n", timeout=30)
        found = json.loads(out)
        probe.times, probe.failures = found["times"], found["failures"]
        probe.seconds = {int(second): answers for second, answers in found["seconds"].items()}


def main(port: int, pause: float = 0.02) -> None:
    """Probe until a line comes on standard input; then print the figures."""
    stop = threading.Event()

    def until_told() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=until_told, daemon=True).start()
    begin = time.monotonic()
    times: list[float] = []
    failures: list[str] = []
    seconds: dict[int, list[bool]] = defaultdict(list)
    while not stop.is_set():
        start = time.monotonic()
        failure = _ask(port)
        seconds[int(time.monotonic() - begin)].append(not failure)
        if failure:
            failures.append(failure)
        else:
            times.append(time.monotonic() - start)
        stop.wait(pause)
    print(json.dumps({"times": times, "failures": failures, "seconds": seconds}))


def _ask(port: int) -> str:
    """Why a GET was not answered, or nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/probe", headers={"Host": "probe.example"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if status == 200 else str(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
