"""Power of two choices: of two different backends drawn by weight, the one less busy for its weight.

A tie goes to the one drawn first, so with nothing in flight the shares are those of the weights; under load it comes
close to least connections at a cost that does not grow with the pool. With the metric `ewma` the two are compared by
peak EWMA instead (ewma.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from lb_core import hookimpl
from lb_strategies.drawing import Drawing
from lb_strategies.ewma import Ewma, EwmaSettings

if TYPE_CHECKING:
    from lb_core import Backend


class P2cSettings(EwmaSettings):
    """How two backends are compared; `decay` and `explore` belong to the metric `ewma`."""

    metric: Literal["in_flight", "ewma"] = "in_flight"
    """`in_flight` compares requests in flight, `ewma` latency as well."""

    @model_validator(mode="after")
    def _of_the_metric(self) -> Self:
        idle = sorted(self.model_fields_set & EwmaSettings.model_fields.keys())
        if idle and self.metric != "ewma":
            raise ValueError(
                f"{idle[0]} has no effect on the metric {self.metric}: write metric: ewma, or leave it out"
            )
        return self


class PowerOfTwoChoices(Drawing):
    """The strategy `p2c`."""

    __slots__ = ()

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        """The less busy of two."""
        if candidates is not self._candidates:
            self._switch(candidates)
        shares = self._shares
        if shares.size == 1:
            return candidates[0]
        one, two = shares.two(self._draw)
        first, second = candidates[one], candidates[two]
        # in_flight/weight without dividing
        return second if second.in_flight * first.weight < first.in_flight * second.weight else first


def build(settings: P2cSettings | None = None) -> PowerOfTwoChoices | Ewma:
    """The strategy for its metric."""
    return Ewma(settings, scanned=0) if settings and settings.metric == "ewma" else PowerOfTwoChoices()
