"""How long things take: distributions written as text.

50ms                            always as long
constant(50ms)                  the same
exponential(50ms)               without memory; the argument is the mean, as everywhere
lognormal(50ms, 1.0)            most are short and some are long; sigma of the logarithm
pareto(50ms, 2.5)               a heavy tail; the exponent is above 1, below 2 the variance is infinite
uniform(10ms, 90ms)             anything in between
bimodal(10ms, 500ms, 5%)        short ones, and a share of long ones
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from random import Random

from lb_core.known import nearest
from lb_core.units import format_duration, format_share, parse_duration, parse_share, show

Draw = Callable[[], float]

_CALL = re.compile(r"\s*([a-z_]+)\s*\(([^()]*)\)\s*").fullmatch
EXAMPLE = "write 50ms, exponential(50ms) or lognormal(50ms, 1.0)"


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution of seconds: its text, its mean, and `sampler(random)`, which makes a function that draws."""

    text: str
    mean: float
    sampler: Callable[[Random], Draw]

    def __str__(self) -> str:
        return self.text


def parse_distribution(text: str) -> Distribution:
    """The distribution a text describes; ValueError shows how to write one."""
    if not isinstance(text, str):
        raise ValueError(f"{show(text)} is not a service time: {EXAMPLE}")
    found = _CALL(text)
    if found is None:
        if "(" in text or ")" in text:
            raise ValueError(f"{show(text)} is not a service time: {EXAMPLE}")
        return _constant(parse_duration(text))
    name, arguments = found[1], [part.strip() for part in found[2].split(",")]
    if name not in _KINDS:
        near = nearest(name, _KINDS)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(_KINDS)}"
        raise ValueError(f"unknown distribution {show(name)} ({hint})")
    make, readers, usual = _KINDS[name]
    least = len(readers) - len(usual)
    if not least <= len(arguments) <= len(readers) or not all(arguments):
        raise ValueError(f"{show(text)}: {name} is written {_FORMS[name]}")
    arguments += usual[len(arguments) - least :]
    try:
        return make(*(read(argument) for read, argument in zip(readers, arguments, strict=True)))
    except ValueError as error:
        raise ValueError(f"{show(text)}: {error}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{show(text)} is not a number") from None


def _constant(mean: float) -> Distribution:
    return Distribution(format_duration(mean), mean, lambda _: lambda: mean)


def _exponential(mean: float) -> Distribution:
    def sampler(random: Random) -> Draw:
        draw = random.random
        return lambda: -mean * log(1.0 - draw())

    return Distribution(f"exponential({format_duration(mean)})", mean, sampler)


def _lognormal(mean: float, sigma: float) -> Distribution:
    if not (0 <= sigma <= 5 and mean > 0):
        raise ValueError("lognormal takes a mean above 0s and a sigma from 0 to 5")
    mu = log(mean) - sigma * sigma / 2

    def sampler(random: Random) -> Draw:
        gauss = random.gauss
        return lambda: exp(gauss(mu, sigma))

    return Distribution(f"lognormal({format_duration(mean)}, {sigma:g})", mean, sampler)


def _pareto(mean: float, exponent: float) -> Distribution:
    if not exponent > 1:
        raise ValueError("the exponent of pareto is above 1, else there is no mean")
    least, power = mean * (exponent - 1) / exponent, -1 / exponent

    def sampler(random: Random) -> Draw:
        draw = random.random
        return lambda: least * (1.0 - draw()) ** power

    return Distribution(f"pareto({format_duration(mean)}, {exponent:g})", mean, sampler)


def _uniform(least: float, most: float) -> Distribution:
    if least > most:
        raise ValueError("the first argument of uniform is not above the second")

    def sampler(random: Random) -> Draw:
        draw, width = random.random, most - least
        return lambda: least + width * draw()

    text = f"uniform({format_duration(least)}, {format_duration(most)})"
    return Distribution(text, (least + most) / 2, sampler)


def _bimodal(short: float, long: float, share: float) -> Distribution:
    def sampler(random: Random) -> Draw:
        draw = random.random
        return lambda: long if draw() < share else short

    text = f"bimodal({format_duration(short)}, {format_duration(long)}, {format_share(share)})"
    return Distribution(text, short + (long - short) * share, sampler)


_Reader = Callable[[str], float]
_KINDS: dict[str, tuple[Callable[..., Distribution], tuple[_Reader, ...], list[str]]] = {
    "constant": (_constant, (parse_duration,), []),
    "exponential": (_exponential, (parse_duration,), []),
    "lognormal": (_lognormal, (parse_duration, _number), ["1.0"]),
    "pareto": (_pareto, (parse_duration, _number), ["2.5"]),
    "uniform": (_uniform, (parse_duration, parse_duration), []),
    "bimodal": (_bimodal, (parse_duration, parse_duration, parse_share), []),
}
_FORMS = {
    "constant": "constant(50ms)",
    "exponential": "exponential(50ms)",
    "lognormal": "lognormal(50ms, 1.0), the mean and sigma",
    "pareto": "pareto(50ms, 2.5), the mean and the exponent",
    "uniform": "uniform(10ms, 90ms)",
    "bimodal": "bimodal(10ms, 500ms, 5%), short, long and the share of long ones",
}
