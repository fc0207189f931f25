"""What the control process decides about backends, carried to the workers and to other nodes.

    health      what the active checks found         to the workers: each node checks for itself
    results     every probe, for `on_health_result`  to the workers
    mode        draining, maintenance                to the workers and to the other nodes
    weight      what an operator set                 to the workers and to the other nodes

Backends are named by their pool and their own name; a name that the receiver does not have is ignored, because a
newcomer is told everything again. An operator's word carries when it was said, on the cluster's clock, and the latest
holds: a node that was cut off does not bring back what was taken back meanwhile.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lb_core.health import HealthResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lb_core.backend import Backend
    from lb_core.pool import Pool
    from lb_core.sharing import Sharing

OPERATED = ("mode", "weight")


class Following:
    """Tells what changes in the pools of the process that controls, and follows it in the others.

    `report(pool, backend, result)` is called in a worker for every probe.
    """

    def __init__(
        self,
        sharing: Sharing,
        pools: Callable[[], Mapping[str, Pool]],
        report: Callable[[Pool, Backend, HealthResult], None],
    ) -> None:
        self._sharing = sharing
        self._pools = pools
        self._report = report
        self._heard: dict[Pool, Callable[[Backend, str], None]] = {}
        self._weighed: dict[Backend, Pool] = {}
        """Whose weight an operator has set, since the configuration gave it one."""
        self._words: dict[tuple[str, str, str], float] = {}
        """When an operator's last word was said, by pool, backend and what it was about."""
        self._health = sharing.channel("backends/health", self._take, snapshot=self._states_of_health, nodes=False)
        self._operated = sharing.channel("backends/operated", self._take, snapshot=self._states_operated)
        self._results = sharing.channel("backends/results", self._take_result, nodes=False)

    def follow(self) -> None:
        """The pools are others now."""
        self._weighed.clear()
        if self._sharing.seat:
            return
        names = self._pools().keys()
        self._words = {word: at for word, at in self._words.items() if word[0] in names and word[2] == "mode"}
        pools = set(self._pools().values())
        for gone in self._heard.keys() - pools:
            gone.on_state.remove(self._heard.pop(gone))
        for pool in pools - self._heard.keys():
            hear = self._heard[pool] = self._teller(pool)
            pool.on_state.append(hear)

    def told(self, pool: Pool, backend: Backend, result: HealthResult) -> None:
        """A probe has been answered, here where backends are checked."""
        message = {"pool": pool.name, "backend": backend.name, "ok": result.ok, "detail": result.detail}
        self._results.send({**message, "status": result.status, "seconds": result.seconds})

    def _teller(self, pool: Pool) -> Callable[[Backend, str], None]:
        def tell(backend: Backend, what: str) -> None:
            if what == "weight":
                self._weighed[backend] = pool
            if what not in OPERATED:
                self._health.send(_state(pool, backend, what))
                return
            if not self._sharing.applying:
                self._words[pool.name, backend.name, what] = time.time() + self._sharing.offset
            self._operated.send(self._word(pool, backend, what))

        return tell

    def _states_of_health(self) -> Iterator[dict[str, Any]]:
        for pool in self._pools().values():
            yield from (_state(pool, backend, "health") for backend in pool.backends)

    def _states_operated(self) -> Iterator[dict[str, Any]]:
        for pool in self._pools().values():
            for backend in pool.backends:
                if backend.mode != "active" or (pool.name, backend.name, "mode") in self._words:
                    yield self._word(pool, backend, "mode")
        for backend, pool in self._weighed.items():
            yield self._word(pool, backend, "weight")

    def _word(self, pool: Pool, backend: Backend, what: str) -> dict[str, Any]:
        return {**_state(pool, backend, what), "at": self._words.get((pool.name, backend.name, what), 0.0)}

    def _is_news(self, message: Mapping[str, Any]) -> bool:
        """Whether nothing was heard that was said later."""
        at = message.get("at")
        if not isinstance(at, float):
            return True
        word = str(message["pool"]), str(message["backend"]), "mode" if "mode" in message else "weight"
        if at < self._words.get(word, 0.0):
            return False
        if at:
            self._words[word] = at
        return True

    def _find(self, message: Mapping[str, Any]) -> tuple[Pool, Backend] | None:
        pool = self._pools().get(str(message.get("pool")))
        named = [] if pool is None else [each for each in pool.backends if each.name == message.get("backend")]
        return (pool, named[0]) if pool is not None and named else None

    def _take(self, message: Mapping[str, Any]) -> None:
        found = self._find(message)
        if found is None or not self._is_news(message):
            return
        pool, backend = found
        reason = str(message.get("reason", ""))
        match message:
            case {"health": "starting" | "up" | "down" as health}:
                pool.set_health(backend, health, reason)
            case {"mode": "active" | "draining" | "maintenance" as mode, "seconds": float() | int() as seconds}:
                pool.set_mode(backend, mode, reason, seconds=seconds)
            case {"weight": int() as weight}:
                pool.set_weight(backend, min(max(weight, 0), 1000), operator=True)

    def _take_result(self, message: Mapping[str, Any]) -> None:
        found = self._find(message)
        if found is not None:
            result = HealthResult(
                bool(message["ok"]), str(message["detail"]), int(message["status"]), float(message["seconds"])
            )
            self._report(*found, result)


def _state(pool: Pool, backend: Backend, what: str) -> dict[str, Any]:
    message: dict[str, Any] = {"pool": pool.name, "backend": backend.name, "reason": backend.reason}
    match what:
        case "health":
            message["health"] = backend.health
        case "mode":
            message["mode"] = backend.mode
            message["seconds"] = max(0.0, backend.drains_until - pool.clock()) if backend.mode == "draining" else 0.0
        case "weight":
            message["weight"] = backend.configured_weight
    return message
