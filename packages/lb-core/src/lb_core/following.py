"""What the control process decides about backends, carried to the workers and to other nodes.

    health      what the active checks found         to the workers: each node checks for itself
    results     every probe, for `on_health_result`  to the workers
    operated    modes and weights an operator set    to the workers, and to the nodes where the address means the same
    words       what was said of others before       to new workers, so that no older word comes back (words.py)

Backends are named by their pool and their own name; a name that the receiver does not have is ignored, because a
newcomer is told everything again. A mode holds as long as the backend is there; a weight until the next reload.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lb_core.health import HealthResult
from lb_core.words import Subject, What, Words, urgency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lb_core.backend import Backend
    from lb_core.pool import Pool
    from lb_core.sharing import Sharing


class Following:
    """Tells what changes in the pools of the process that controls, and follows it in the others.

    `report(pool, backend, result)` is called in a worker for every probe; `wall` is the clock that all nodes share, but
    for its `offset`.
    """

    def __init__(
        self,
        sharing: Sharing,
        pools: Callable[[], Mapping[str, Pool]],
        report: Callable[[Pool, Backend, HealthResult], None],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._sharing = sharing
        self._pools = pools
        self._report = report
        self._heard: dict[Pool, Callable[[Backend, str], None]] = {}
        self._words = Words(lambda: wall() + sharing.offset)
        self._holding: dict[tuple[Backend, What], Pool] = {}
        """Of whom the last word still holds."""
        self._health = sharing.channel("backends/health", self._take, snapshot=self._states_of_health, nodes=False)
        self._operated = sharing.channel("backends/operated", self._take, snapshot=self._words_that_hold)
        self._spent = sharing.channel("backends/words", self._take_words, snapshot=self._other_words, nodes=False)
        self._results = sharing.channel("backends/results", self._take_result, nodes=False)

    def follow(self) -> None:
        """The pools are others now, and weights are those of the configuration."""
        pools = set(self._pools().values())
        there = {backend for pool in pools for backend in pool.backends}
        names = {(pool.name, backend.name) for pool in pools for backend in pool.backends}
        self._words.keep(lambda subject: subject[:2] in names)
        self._holding = {held: pool for held, pool in self._holding.items() if held[0] in there and held[1] == "mode"}
        if self._sharing.seat:
            return
        for gone in self._heard.keys() - pools:
            gone.on_state.remove(self._heard.pop(gone))
        for pool in pools - self._heard.keys():
            hear = self._heard[pool] = self._teller(pool)
            pool.on_state.append(hear)

    def told(self, pool: Pool, backend: Backend, result: HealthResult) -> None:
        """A probe has been answered, here where backends are checked."""
        message = {"pool": pool.name, "backend": backend.name, "ok": result.ok, "detail": result.detail}
        self._results.send({**message, "status": result.status, "seconds": result.seconds})

    # what is told

    def _teller(self, pool: Pool) -> Callable[[Backend, str], None]:
        def tell(backend: Backend, what: str) -> None:
            match what:
                case "health":
                    self._health.send(_health(pool, backend))
                case ("mode" | "weight") as what if not self._sharing.applying:
                    self._words.say(Subject(pool.name, backend.name, what), backend)
                    self._holding[backend, what] = pool
                    self._operated.send(self._word(pool, backend, what))

        return tell

    def _states_of_health(self) -> Iterator[dict[str, Any]]:
        for pool in self._pools().values():
            yield from (_health(pool, backend) for backend in pool.backends)

    def _words_that_hold(self) -> Iterator[dict[str, Any]]:
        for (backend, what), pool in self._holding.items():
            yield self._word(pool, backend, what)

    def _other_words(self) -> Iterator[dict[str, Any]]:
        holding = {Subject(pool.name, backend.name, what) for (backend, what), pool in self._holding.items()}
        words = [[*subject, stamp, urgent] for subject, stamp, urgent in self._words.all() if subject not in holding]
        if words:
            yield {"words": words}

    def _word(self, pool: Pool, backend: Backend, what: What) -> dict[str, Any]:
        message: dict[str, Any] = {"pool": pool.name, "backend": backend.name}
        message["stamp"] = self._words.stamp(Subject(pool.name, backend.name, what))
        if what == "weight":
            message["weight"] = backend.configured_weight
        else:
            message["mode"] = backend.mode
            message["seconds"] = max(0.0, backend.drains_until - pool.clock()) if backend.mode == "draining" else 0.0
            message["reason"] = "" if backend.mode == "active" else backend.reason
        return {**message, **self._sharing.locality.mark(backend)}

    # what is heard

    def _find(self, message: Mapping[str, Any]) -> tuple[Pool, Backend] | None:
        pool = self._pools().get(str(message.get("pool")))
        named = [] if pool is None else [each for each in pool.backends if each.name == message.get("backend")]
        return (pool, named[0]) if pool is not None and named else None

    def _take(self, message: Mapping[str, Any]) -> None:
        found = self._find(message)
        if found is None:
            return
        pool, backend = found
        reason = str(message.get("reason", ""))
        match message:
            case {"health": "starting" | "up" | "down" as health}:
                pool.set_health(backend, health, reason)
            case {"mode": "active" | "draining" | "maintenance" as mode, "seconds": float() | int() as seconds}:
                if self._learn(pool, backend, "mode", message, urgency(mode)):
                    pool.set_mode(backend, mode, reason, seconds=seconds)
            case {"weight": int() as weight}:
                weight = min(max(weight, 0), 1000)
                if self._learn(pool, backend, "weight", message, urgency(weight)):
                    pool.set_weight(backend, weight, operator=True)

    def _learn(self, pool: Pool, backend: Backend, what: What, message: Mapping[str, Any], urgent: int) -> bool:
        news = self._words.learn(Subject(pool.name, backend.name, what), int(message["stamp"]), urgent)
        if news:
            self._holding[backend, what] = pool
        return news

    def _take_words(self, message: Mapping[str, Any]) -> None:
        for pool, backend, what, stamp, urgent in message["words"]:
            self._words.learn(Subject(pool, backend, what), stamp, urgent)

    def _take_result(self, message: Mapping[str, Any]) -> None:
        found = self._find(message)
        if found is not None:
            result = HealthResult(
                bool(message["ok"]), str(message["detail"]), int(message["status"]), float(message["seconds"])
            )
            self._report(*found, result)


def _health(pool: Pool, backend: Backend) -> dict[str, Any]:
    return {"pool": pool.name, "backend": backend.name, "health": backend.health, "reason": backend.reason}
