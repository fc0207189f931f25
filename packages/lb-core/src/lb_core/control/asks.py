"""What may be asked over the control socket, and the answers."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from lb_core import __version__
from lb_core.errors import LbError

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer

log = logging.getLogger("lb.control")

Request = Mapping[str, Any]


class Asks:
    """A balancer that can be asked; `urls` tells where it listens."""

    def __init__(self, balancer: LoadBalancer, urls: Callable[[], list[str]]) -> None:
        self._balancer = balancer
        self._urls = urls
        self._since = time.time()
        self._known: dict[str, Callable[[Request], object]] = {
            "status": self._status,
            "command": self._command,
            "decision": self._decision,
            "explain": self._explain,
        }

    async def answer(self, line: bytes) -> bytes:
        """The answer to a line, a line too; whatever the line is, nothing is raised."""
        try:
            result = self._ask(line)
            answer: dict[str, object] = {"ok": True, "result": await result if isawaitable(result) else result}
        except LbError as error:
            answer = {"ok": False, "error": str(error)}
        except (Exception, SystemExit) as error:
            log.exception("what was asked over the control socket failed")
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}; the balancer's log has the traceback"}
        return json.dumps(answer, default=str).encode() + b"\n"

    def _ask(self, line: bytes) -> object:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            raise LbError("this is not a line of JSON") from None
        if not isinstance(request, dict):
            raise LbError('a request is an object like {"ask": "status"}')
        name = request.get("ask")
        ask = self._known.get(name) if isinstance(name, str) else None
        if ask is None:
            raise LbError(f"nothing is known of {name!r}; there are {', '.join(sorted(self._known))}")
        return ask(request)

    def _status(self, request: Request) -> object:
        del request
        config = self._balancer.config
        return {
            "pid": os.getpid(),
            "version": __version__,
            "since": self._since,
            "file": os.path.abspath(config.files[0]) if config.files else "",
            "urls": self._urls(),
            "commands": sorted(self._balancer.plugins.commands),
            "load": asdict(self._balancer.node.load()),
            "workers": [] if self._balancer.node.workers is None else self._balancer.node.workers.figures(),
        }

    def _command(self, request: Request) -> object:
        commands = self._balancer.plugins.commands
        name = _text(request, "name")
        if name not in commands:
            there = ", ".join(sorted(commands)) or "none"
            raise LbError(f"the running balancer has no command {name!r}; there are: {there}")
        as_json = request.get("json") is True
        return commands[name].call(self._balancer, _texts(request, "arguments"), as_json=as_json)

    def _decision(self, request: Request) -> object:
        request_id = _text(request, "request_id")
        if self._balancer.node.workers is not None:
            return self._balancer.node.workers.decisions(request_id)
        decisions = self._balancer.engine.decisions
        found = decisions.find(request_id)
        return {"decisions": found, "kept": len(decisions), "seconds": decisions.reach}

    def _explain(self, request: Request) -> object:
        headers = request.get("headers") or {}
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise LbError("headers: give an object of texts")
        client = _text(request, "client", "127.0.0.1")
        found = self._balancer.explain(_text(request, "method"), _text(request, "url"), client=client, headers=headers)
        return found.as_data()


def _text(request: Request, key: str, default: str | None = None) -> str:
    value = request.get(key, default)
    if not isinstance(value, str):
        raise LbError(f"{key}: give a text")
    return value


def _texts(request: Request, key: str) -> tuple[str, ...]:
    value = request.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise LbError(f"{key}: give a list of texts")
    return tuple(value)
