"""What stands behind the proxies: two nginx ports that answer downloads, and a sink behind them that reads uploads."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from benchmarks.processes import LOAD_CPU, Processes, free_port

KIB = 1024
MIB = 1024 * KIB
FILES = {"16k": 16 * KIB, "1m": MIB, "100m": 100 * MIB, "1g": 1024 * MIB}
HELLO = "hello from a backend, padding to make a hundred or so bytes of body text so it is like json........"


@dataclass(frozen=True)
class Backends:
    """Where they listen; every proxy balances over both ports."""

    ports: tuple[int, int]
    sink: int

    @property
    def addresses(self) -> list[str]:
        """The backends as host:port."""
        return [f"127.0.0.1:{port}" for port in self.ports]


def start_backends(processes: Processes, *, cpu: int | str = LOAD_CPU) -> Backends:
    """Start them, on the load's CPU unless told others ("0,1")."""
    backends = Backends((free_port(), free_port()), free_port())
    sink = [sys.executable, "-m", "benchmarks.sink", str(backends.sink)]
    processes.start("sink", sink, port=backends.sink, cpu=cpu)
    config = processes.write("backends.conf", _nginx(processes, backends))
    processes.start("backends", ["nginx", "-c", str(config)], port=backends.ports[0], cpu=cpu)
    return backends


def _nginx(processes: Processes, backends: Backends) -> str:
    folder = processes.folder
    (folder / "files").mkdir()
    for name, size in FILES.items():
        with (folder / "files" / name).open("wb") as file:
            file.truncate(size)  # a hole: no disk, no memory, and sendfile serves it like any other
    paths = " ".join(f"{kind}_temp_path {folder}/be-{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    listens = " ".join(f"listen 127.0.0.1:{port} backlog=8192;" for port in backends.ports)
    return f"""
worker_processes 1; daemon off; pid {folder}/be.pid; error_log {folder}/be.err crit;
events {{ worker_connections 3600; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 3600s; client_max_body_size 0;
  client_body_temp_path {folder}/be-client; {paths}
  upstream sink {{ server 127.0.0.1:{backends.sink}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    {listens}
    location / {{ default_type text/plain; return 200 "{HELLO}\\n"; }}
    location /file/ {{ alias {folder}/files/; default_type application/octet-stream; }}
    location /chunked/ {{ alias {folder}/files/; default_type text/html; sub_filter zzz q; }}
    location /upload {{
      proxy_pass http://sink; proxy_http_version 1.1; proxy_request_buffering off; proxy_set_header Connection "";
    }}
  }}
}}
"""
