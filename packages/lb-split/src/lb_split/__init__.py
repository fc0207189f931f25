"""Traffic splitting for lb: canary, blue-green, weighted split, mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import Feature, Use, hookimpl
from lb_split import kinds, mirror, of_workers
from lb_split.command import SHIFT
from lb_split.mirror import Mirror, MirrorSettings
from lb_split.settings import SELF, SplitSettings
from lb_split.split import Split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lb_core import Command, Route

__all__ = ["Mirror", "Split"]


@hookimpl
def register_features() -> Iterator[Feature]:
    """`split` and `mirror`."""
    yield Feature("split", build, SplitSettings, uses=_pools)
    yield Feature("mirror", mirror.build, MirrorSettings, uses=_shadow)


def build(route: Route, settings: SplitSettings) -> Split:
    """The split of a route."""
    made = kinds.KINDS if route.sharing.memory is None else of_workers.KINDS
    return made[settings.sticks_by](route, settings)


@hookimpl
def register_commands() -> Iterator[Command]:
    """`lb shift`."""
    yield SHIFT


def _pools(settings: SplitSettings) -> Iterator[Use]:
    for index, pool in enumerate(settings.pools):
        if pool.use != SELF:
            yield Use("pool", pool.use, ("pools", index, "use"))


def _shadow(settings: MirrorSettings) -> Iterator[Use]:
    yield Use("pool", settings.use, ("use",))
