"""The three things to try, done by the demo itself where nobody is there to type them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from lb_core.demo.scene import DEFAULT_STRATEGY, Scene

if TYPE_CHECKING:
    from lb_core.demo.processes import Fleet

RESTART = 0.2
"""A killed backend comes back after this part of the whole time."""


async def tour(fleet: Fleet, scene: Scene, *, seconds: float, other_strategy: str, tell: Callable[[str], None]) -> None:
    """Kill a backend, drain another, change the strategy, at fixed parts of `seconds`."""
    first, second = fleet.backends[0], fleet.backends[1]

    def kill() -> None:
        tell(f"1. kill -9 {first.pid}: {first.name} dies with requests in flight")
        first.kill()

    def drain() -> None:
        tell(f"2. {scene.weight_command(second.name, 0)}: {second.name} drains")
        scene.set_weight(second.name, 0)

    def restore() -> None:
        tell(f"   {second.name} gets its weight back")
        scene.set_weight(second.name, 1)

    def switch() -> None:
        tell(f"3. {scene.strategy_command(other_strategy)}: the strategy changes")
        scene.set_strategy(other_strategy)

    steps = [(0.08, kill), (0.36, drain), (0.56, restore)]
    if other_strategy != DEFAULT_STRATEGY:
        steps.append((0.66, switch))
    passed = 0.0
    for part, step in steps:
        await asyncio.sleep((part - passed) * seconds)
        passed = part
        step()
