from collections.abc import Callable
from typing import Any

def scan_request(
    data: bytes, blank: int, max_fields: int, plain: Callable[[int, bool], Any], /
) -> tuple[bytes, bytes, bytes | None, bytes, Any, int] | None: ...
def scan_response(data: bytes, /) -> tuple[int, int] | None: ...
def log_json(
    stamp: bytes,
    request_id: bytes,
    client: bytes,
    method: bytes,
    host: bytes,
    target: bytes,
    route: bytes,
    backend: bytes,
    head: bytes,
    millis: int,
    status: int,
    bytes_in: int,
    bytes_out: int,
    micros: int,
    attempts: int,
    /,
) -> bytes | None: ...
