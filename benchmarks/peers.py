"""The proxies that are compared, each doing the same work: two backends in turn, keep-alive on both sides, the fields
X-Forwarded-For, -Proto and -Host, Via and a request id, bodies streamed, one process or thread that moves traffic.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import STICKY_SECRET
from benchmarks.processes import PROXY_CPU, Processes, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.backends import Backends

LB = Path(sys.executable).with_name("lb")
WITHOUT_SPEEDUPS = "import sys; sys.modules['lb_speedups'] = None; from lb_core.cli import main; sys.exit(main())"
PURE = [sys.executable, "-c", WITHOUT_SPEEDUPS]
"""The same command as somebody has it who did not install lb-speedups."""


@dataclass(frozen=True)
class Peer:
    """A proxy that runs: where it listens, and the process its tree begins with."""

    name: str
    port: int
    pid: int


def start_peer(name: str, processes: Processes, backends: Backends) -> Peer:
    """Start one of PEERS on the proxies' CPU."""
    port = free_port()
    pid = processes.start(name, PEERS[name](processes, backends, port), port=port, cpu=PROXY_CPU)
    return Peer(name, port, pid)


def lb_config(backends: Backends, port: int) -> str:
    """A configuration of lb as most would write it, without an access log as none of the others writes one."""
    addresses = ", ".join(backends.addresses)
    return f"""
listeners:
  web:
    address: "127.0.0.1:{port}"
    limits: {{requests: 1000000000, connections: 0}}
access_log: off
routes:
  "*":
    backends: [{addresses}]
"""


EVERYTHING = {
    "rate_limit": "{requests: 1000000000, window: 60s, key: client_ip}",
    "sticky_sessions": f'{{secret: "{STICKY_SECRET}"}}',
    "circuit_breaker": "{threshold: 5, timeout: 60s}",
    "failover": "backup.example.com",
    "allow_clients": "[127.0.0.0/8]",
    "slow_start": "30s",
}
"""What `lb-full` has on its route, beside what the engine brings."""


def lb_full_config(backends: Backends, port: int, log: Path, features: Mapping[str, str] = EVERYTHING) -> str:
    """A configuration of lb with everything switched on that most would ever have on one route."""
    first, second = backends.addresses
    sections = "\n".join(f"    {name}: {value}" for name, value in features.items())
    return f"""
listeners:
  web:
    address: "127.0.0.1:{port}"
    limits: {{requests: 1000000000, connections: 0}}
trusted_proxies: [127.0.0.0/8]
access_log: {{format: json, file: "{log}"}}
defaults:
  timeouts: {{connect: 3s, response_header: 60s, idle: 60s, queue: 5s, request: 300s, tunnel_idle: 1h}}
  retry: {{attempts: 1, on: [connect, reset], budget: 20%}}
  ejection: {{consecutive_failures: 5, duration: 30s, max_ejected: 50%}}
routes:
  backup.example.com: {{backends: ["{second}"]}}
  "*":
    backends:
      one: {{url: "http://{first}", weight: 2, max_connections: 1000}}
      two: {{url: "http://{second}", weight: 2, max_connections: 1000}}
    strategy: least_connections
    max_body: 200MiB
    health_check: {{path: /, interval: 10s, timeout: 3s, healthy_after: 2, unhealthy_after: 3, expect: 200-399}}
{sections}
    match:
      - {{path_prefix: /never, methods: [GET], headers: {{X-Beta: "1"}}}}
"""


def _lb(processes: Processes, backends: Backends, port: int) -> list[str]:
    config = processes.write("lb.yaml", lb_config(backends, port))
    return [str(LB), "run", "-c", str(config)]


def _lb_pure(processes: Processes, backends: Backends, port: int) -> list[str]:
    config = processes.write("lb-pure.yaml", lb_config(backends, port))
    return [*PURE, "run", "-c", str(config)]


def _lb_full(processes: Processes, backends: Backends, port: int) -> list[str]:
    config = processes.write("lb-full.yaml", lb_full_config(backends, port, processes.folder / "access.log"))
    return [str(LB), "run", "-c", str(config)]


def nginx_command(
    processes: Processes, backends: Backends, port: int, *, buffered: bool = False, workers: int = 1
) -> list[str]:
    """nginx with so many worker processes, several with a listening socket each."""
    name = f"nginx-{port}"
    folder = processes.folder
    servers = " ".join(f"server {address};" for address in backends.addresses)
    paths = " ".join(f"{kind}_temp_path {folder}/{name}-{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    buffering = "on" if buffered else "off"
    options = "backlog=8192" if workers == 1 else "backlog=8192 reuseport"
    config = f"""
worker_processes {workers}; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err crit;
events {{ worker_connections 12000; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 0;
  client_body_temp_path {folder}/{name}-client; {paths}
  upstream backends {{ {servers} keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} {options};
    proxy_buffering {buffering}; proxy_request_buffering {buffering};
    location / {{
      proxy_pass http://backends; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Request-Id $request_id;
      proxy_set_header Via "1.1 nginx";
    }}
  }}
}}
"""
    return ["nginx", "-c", str(processes.write(f"{name}.conf", config))]


def _nginx(processes: Processes, backends: Backends, port: int) -> list[str]:
    return nginx_command(processes, backends, port)


def _nginx_buffered(processes: Processes, backends: Backends, port: int) -> list[str]:
    return nginx_command(processes, backends, port, buffered=True)


def _haproxy(processes: Processes, backends: Backends, port: int) -> list[str]:
    servers = "\n".join(f"  server s{number} {address}" for number, address in enumerate(backends.addresses))
    config = f"""
global
  nbthread 1
  maxconn 1800
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  option forwardfor
frontend f
  bind 127.0.0.1:{port} backlog 8192
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Request-Id %[uuid()]
  http-request add-header Via "1.1 haproxy"
  default_backend b
backend b
  balance roundrobin
  http-reuse always
{servers}
"""
    return ["haproxy", "-db", "-f", str(processes.write("haproxy.cfg", config))]


def _caddy(processes: Processes, backends: Backends, port: int) -> list[str]:
    config = f"""{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  reverse_proxy {" ".join(backends.addresses)} {{
    lb_policy round_robin
    flush_interval -1
    header_up X-Request-Id {{http.request.uuid}}
    header_up +Via "1.1 caddy"
  }}
}}
"""
    path = processes.write("Caddyfile", config)
    return ["caddy", "run", "--config", str(path), "--adapter", "caddyfile"]


PEERS: dict[str, Callable[[Processes, Backends, int], list[str]]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddy,
    "lb": _lb,
    "lb-full": _lb_full,
    "lb-pure": _lb_pure,
    "nginx-buffered": _nginx_buffered,
}
