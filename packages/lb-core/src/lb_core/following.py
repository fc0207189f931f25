"""What the control process decides about backends, carried to the workers and to other nodes.

    health      what the active checks found         to the workers: each node checks for itself
    results     every probe, for `on_health_result`  to the workers
    mode        draining, maintenance                to the workers and to the other nodes
    weight      what an operator set                 to the workers and to the other nodes

Backends are named by their pool and their own name; a name that the receiver does not have is ignored, because a
newcomer is told everything again.
"""

from __future__ import annotations

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
        self._health = sharing.channel("backends/health", self._take, snapshot=self._states_of_health, nodes=False)
        self._operated = sharing.channel("backends/operated", self._take, snapshot=self._states_operated)
        self._results = sharing.channel("backends/results", self._take_result, nodes=False)

    def follow(self) -> None:
        """The pools are others now."""
        self._weighed.clear()
        if self._sharing.seat:
            return
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
            channel = self._operated if what in OPERATED else self._health
            channel.send(_state(pool, backend, what))

        return tell

    def _states_of_health(self) -> Iterator[dict[str, Any]]:
        for pool in self._pools().values():
            yield from (_state(pool, backend, "health") for backend in pool.backends)

    def _states_operated(self) -> Iterator[dict[str, Any]]:
        for pool in self._pools().values():
            for backend in pool.backends:
                if backend.mode != "active":
                    yield _state(pool, backend, "mode")
        for backend, pool in self._weighed.items():
            yield _state(pool, backend, "weight")

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
