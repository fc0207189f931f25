"""Power of two choices: of two backends drawn at random, the less busy one."""

import random
from collections.abc import Iterator

from lb_core import Backend, Strategy, hookimpl


class PowerOfTwo:
    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        return min(random.choices(candidates, k=2), key=lambda backend: backend.in_flight)


@hookimpl
def register_strategies() -> Iterator[Strategy]:
    yield Strategy("power_of_two", PowerOfTwo)
