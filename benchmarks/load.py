"""The workloads, and the load generator (wrk) that drives one of them at one proxy."""

from __future__ import annotations

import hmac
import json
import subprocess
from dataclasses import dataclass

from benchmarks.backends import KIB, MIB
from benchmarks.processes import LOAD_CPU, Failed, Processes

STICKY_SECRET = "a secret of the benchmark, and of nothing else"


def sticky(backend: str) -> str:
    """The cookie of a client that stays with a backend of the route `*` of `lb-full`."""
    token = hmac.digest(STICKY_SECRET.encode(), f"*/{backend}".encode(), "sha256").hex()[:16]
    return f"lb_sticky={token}"


# What a browser sends besides Host: nine fields, 450 bytes.
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Cookie": f"session_id=abcdef0123456789; {sticky('one')}",
    "Referer": "http://example.com/page",
    "Cache-Control": "no-cache",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
}

# 512 requests made beforehand, each different, so that no proxy gains by remembering the last head it saw.
DIFFERENT = f"""
local clients = {{[0] = "{sticky("one")}", "{sticky("two")}"}}"""
DIFFERENT += """
local requests = {}
local number = 0
function init(args)
  for k = 1, 512 do
    local headers = {}
    for name, value in pairs(wrk.headers) do headers[name] = value end
    headers["Referer"] = "http://example.com/page/" .. (k * 7919)
    headers["Cookie"] = "session_id=" .. string.format("%016x", k * 104729) .. "; " .. clients[k % 2]
    requests[k] = wrk.format("GET", "/items/" .. k .. "?page=" .. (k % 9), headers)
  end
end
function request()
  number = number % 512 + 1
  return requests[number]
end
"""

# wrk's own report rounds; this one does not.
DONE = """
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "bytes": %d, "errors": %d, "p50": %.1f, "p99": %.1f}\\n',
    summary.requests, summary.bytes, errors.connect + errors.read + errors.write + errors.timeout + errors.status,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Workload:
    """One kind of traffic. `size` is the body of a large response, whose requests are counted by bytes received: in a
    second only a few complete, and the rest would be cost without a request.
    """

    name: str
    about: str
    path: str = "/"
    connections: int = 64
    script: str = ""
    close: bool = False
    size: int = 0

    def text(self) -> str:
        """The script wrk runs."""
        headers = {**BROWSER, "Connection": "close" if self.close else "keep-alive"}
        lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
        return "\n".join([*lines, self.script, DONE])


def _post(size: int) -> str:
    return f'wrk.method = "POST"\nwrk.body = string.rep("x", {size})\n'


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("get", "keep-alive GET, 100-byte body, every request different", script=DIFFERENT),
        Workload("get16k", "GET of 16 KiB with a length", "/file/16k"),
        Workload("chunked16k", "GET of 16 KiB, chunked", "/chunked/16k"),
        Workload("post1k", "POST of 1 KiB", "/upload", script=_post(KIB)),
        Workload("post16k", "POST of 16 KiB", "/upload", script=_post(16 * KIB)),
        Workload("get1m", "GET of 1 MiB", "/file/1m", 8, size=MIB),
        Workload("get100m", "GET of 100 MiB", "/file/100m", 2, size=100 * MIB),
        Workload("post1m", "POST of 1 MiB", "/upload", 8, script=_post(MIB)),
        Workload("close", "a new connection for each GET", script=DIFFERENT, close=True),
    )
}


@dataclass(frozen=True)
class Load:
    """What the generator saw: requests (a large body counts by its share), errors, latency in milliseconds."""

    requests: float
    errors: int
    p50_ms: float
    p99_ms: float


def drive(processes: Processes, workload: Workload, port: int, seconds: int, *, cpu: int | str = LOAD_CPU) -> Load:
    """Send a workload to a port for some seconds, from a CPU or from several ("0,1")."""
    script = processes.write(f"{workload.name}.lua", workload.text())
    command = ["taskset", "-c", str(cpu), "wrk", "-t1", f"-c{workload.connections}", f"-d{seconds}s"]
    command += ["--timeout", "10s", "-s", str(script), f"http://127.0.0.1:{port}{workload.path}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    try:
        seen = json.loads(ended.stdout.strip().rpartition("\n")[2])
    except ValueError:
        raise Failed(f"wrk ended without a report on {workload.name}: {ended.stdout}{ended.stderr}") from None
    requests = seen["bytes"] / workload.size if workload.size else seen["requests"]
    return Load(requests, seen["errors"], seen["p50"] / 1000, seen["p99"] / 1000)
