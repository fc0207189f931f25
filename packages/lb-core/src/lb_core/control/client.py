"""The command line's side of the control socket: find the running balancer, and ask it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from lb_core.control import LARGEST_ANSWER
from lb_core.control.peers import is_trusted, user_at
from lb_core.control.places import sockets
from lb_core.errors import LbError

SECONDS = 30.0
LOOK_SECONDS = 2.0
"""How long an answer may take, and how long that of one of several balancers may."""


def ask(path: str, request: Mapping[str, object], *, seconds: float = SECONDS) -> Any:
    """Ask the balancer behind a control socket; raises LbError with what it says, or why it cannot be asked."""
    line = json.dumps(request).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(path)
            if os.geteuid() != 0 and not is_trusted(user_at(connection)):  # root may ask anybody's
                raise LbError(f"{path} belongs to a process of user {user_at(connection)}: it is not asked")
            connection.sendall(line)
            answer = json.loads(_line(connection, time.monotonic() + seconds))
            if not isinstance(answer, dict):
                raise ValueError(answer)
    except TimeoutError:
        raise LbError(f"the balancer behind {path} does not answer within {seconds:g} s") from None
    except OSError as error:
        raise LbError(f"nobody can be asked at {path}: {error.strerror or error}") from None
    except ValueError:
        raise LbError(f"what answers at {path} is no balancer") from None
    if not answer.get("ok"):
        raise LbError(str(answer.get("error")))
    return answer.get("result")


def find(path: str | None, environ: Mapping[str, str], *, file: str = "") -> str:
    """The control socket of the running balancer; `path` or LB_CONTROL names it where there are several.

    Else that of the one which serves the configuration `file`. Raises LbError where there is none, and where there are
    several.
    """
    named = path or environ.get("LB_CONTROL", "")
    if named and named not in ("off", "false"):
        return named
    found = [str(each) for each in sockets(environ, os.geteuid())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise LbError(
            "no balancer of this user runs here: start one with `lb run`; "
            "one with `control: PATH` or of another user is named with `--control PATH`"
        )
    said = {each: _status(each) for each in found}
    serving = [each for each, status in said.items() if file and isinstance(status, dict) and status["file"] == file]
    if len(serving) == 1:
        return serving[0]
    lines = [_described(each, status) for each, status in said.items()]
    raise LbError("\n".join((f"{len(found)} balancers run here: choose one with `--control PATH`", *lines)))


def _status(path: str) -> dict[str, Any] | LbError:
    try:
        status: dict[str, Any] = ask(path, {"ask": "status"}, seconds=LOOK_SECONDS)
    except LbError as error:
        return error
    return status


def _described(path: str, status: dict[str, Any] | LbError) -> str:
    if isinstance(status, LbError):
        return f"  {path}  {status}"
    return f"  {path}  pid {status['pid']}, {status['file'] or 'no file'}, {' '.join(status['urls'])}"


def _line(connection: socket.socket, end: float) -> bytes:
    parts: list[bytes] = []
    length = 0
    while not parts or not parts[-1].endswith(b"\n"):
        if length > LARGEST_ANSWER:
            raise ValueError(f"more than {LARGEST_ANSWER} bytes")
        if time.monotonic() > end:
            raise TimeoutError
        part = connection.recv(65536)
        if not part:
            break
        parts.append(part)
        length += len(part)
    return b"".join(parts)
