"""A process that takes from limits it shares with others, for tests: told what to do by lines of JSON, one at a time.

`python counting_process.py '{"descriptor": 3, "areas": {…}, "seat": 1, "limits": [{…}, …]}'`
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from lb_core.sharing import Memory, Sharing
from lb_core.testing.fakes import route_over
from lb_ratelimit.settings import LimitSettings
from lb_ratelimit.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Sequence


def limits_over(sharing: Sharing, limits: Sequence[dict[str, Any]]) -> list[Shared]:
    """These limits of a route, at work."""
    route = route_over(())
    route.sharing = sharing
    made = [Shared(route, LimitSettings.model_validate(each), number) for number, each in enumerate(limits)]
    for each in made:
        each.start()
    return made


def taken(limit: Shared, keys: Sequence[str], tries: int, at: float) -> dict[str, int]:
    """How many of so many tries for each key pass, all in turn from `at` on."""
    take, passed = limit.algorithm.take, dict.fromkeys(keys, 0)
    while time.monotonic() < at:
        pass
    for _ in range(tries):
        for key in keys:
            passed[key] += take(key, time.monotonic())
    return passed


def main() -> None:
    said = json.loads(sys.argv[1])
    areas = {name: (begin, size) for name, (begin, size) in said["areas"].items()}
    sharing = Sharing(seat=said["seat"], memory=Memory(said["descriptor"], areas))
    limits = limits_over(sharing, said["limits"])
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "seats" in order:
            sharing.set_seats(tuple(order["seats"]))
            answer: Any = "seated"
        elif "give_back" in order:
            limits[order["limit"]].algorithm.give_back(order["give_back"], time.monotonic())
            answer = "given back"
        else:
            answer = taken(limits[order["limit"]], order["keys"], order["tries"], order["at"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
