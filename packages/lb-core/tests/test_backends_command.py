"""`lb backends`: what it shows, and what it does."""

from __future__ import annotations

from typing import Any

import pytest

from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.defaults.backends import BACKENDS
from lb_core.errors import LbError
from lb_core.plugins import Plugins
from lb_core.testing.together import Together, joined

TREE: dict[str, Any] = {
    "workers": 2,
    "pools": {"shared": {"backends": {"s1": "10.0.0.1:80"}}},
    "routes": {
        "api.example.com": {
            "backends": {"web1": {"url": "10.0.0.2:80", "max_connections": 9}, "web2": "10.0.0.3:80"},
        },
        "one.example.com": {"use": "shared"},
        "two.example.com": {"use": "shared"},
    },
}

REASON = "connection refused"


def made(together: Together | None = None, worker: int = -1) -> LoadBalancer:
    if together is None:
        balancer = LoadBalancer(plugins=Plugins.discover())
    elif worker < 0:
        balancer = LoadBalancer(plugins=Plugins.discover(), role="control", sharing=together.control)
    else:
        balancer = LoadBalancer(plugins=Plugins.discover(), role="worker", sharing=together.workers[worker])
        balancer.tell_control = lambda event: None
    balancer.apply(config_from_tree(TREE, balancer.plugins, source="test"))
    return balancer


def run(balancer: LoadBalancer, *arguments: str) -> str:
    return BACKENDS.call(balancer, arguments)


def states(balancer: LoadBalancer, pool: str = "api.example.com") -> list[str]:
    return [each.state for each in balancer.pools[pool].backends]


def test_the_table() -> None:
    balancer = made()
    web1 = balancer.pools["api.example.com"].find("web1")
    web1.requests, web1.failures, web1.in_flight = 1200, 3, 4
    balancer.pools["api.example.com"].set_health(web1, "down", REASON)
    lines = run(balancer).splitlines()
    assert lines[0] == "shared (pool of one.example.com, two.example.com)"
    assert lines[3:5] == [
        "",
        "api.example.com",
    ]
    assert lines[5].split("  ")[1] == "BACKEND"
    assert lines[6].split() == [
        *("web1", "10.0.0.2:80", "down", "0s", "1", "4", "of", "9", "1200", "3"),
        *REASON.split(),
    ]
    assert lines[7].split() == ["web2", "10.0.0.3:80", "up", "1", "0", "0", "0"]
    assert run(balancer, "api.example.com") == "\n".join(lines[4:])
    assert run(balancer, "two.example.com") == run(balancer, "shared") == "\n".join(lines[:3])


def test_drain_resume_and_maintenance() -> None:
    balancer = made()
    said = run(balancer, "drain", "api.example.com", "web1", "2m")
    assert said == (
        "api.example.com/web1 is draining: it takes no new requests, clients that are its own are served for 2m more"
    )
    assert states(balancer) == ["draining", "up"]
    assert "lb backends; serves clients that are its own for 120s more" in run(balancer, "api.example.com")
    assert "already" in run(balancer, "drain", "api.example.com", "web1")
    assert "active again; its state is up" in run(balancer, "resume", "api.example.com", "web1")
    assert "active already" in run(balancer, "resume", "api.example.com", "api.example.com/web1")
    assert "in maintenance" in run(balancer, "maintenance", "one.example.com", "s1")
    assert (states(balancer), states(balancer, "shared")) == (["up", "up"], ["maintenance"])


def test_weight() -> None:
    balancer = made()
    assert run(balancer, "weight", "api.example.com", "web2", "5") == (
        "api.example.com/web2 has weight 5 until the next reload"
    )
    assert balancer.pools["api.example.com"].find("web2").weight == 5
    assert "takes no new requests" in run(balancer, "weight", "api.example.com", "web2", "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("drian", "api.example.com", "web1"), '"drian" is no order; there are drain, maintenance, resume, weight'),
        (("drain",), "say of which backend, as in `lb backends drain ROUTE BACKEND`"),
        (("drain", "api.example.com"), "as in `lb backends drain api.example.com BACKEND`"),
        (("drain", "api.example.co", "web1"), 'no route and no pool "api.example.co": did you mean api.example.com?'),
        (("nowhere",), 'no route and no pool "nowhere"'),
        (("drain", "api.example.com", "web3"), 'no backend "web3" in api.example.com: did you mean web'),
        (("drain", "api.example.com", "web1", "soon"), "lb backends drain: "),
        (("weight", "api.example.com", "web1"), '"" is no weight: give a whole number from 0 to 1000'),
        (("weight", "api.example.com", "web1", "1001"), '"1001" is no weight'),
        (("weight", "api.example.com", "web1", "-1"), '"-1" is no weight'),
        (("resume", "api.example.com", "web1", "now"), '"now" is one word too many'),
    ],
)
def test_what_cannot_be_done_says_what_can(arguments: tuple[str, ...], message: str) -> None:
    balancer = made()
    with pytest.raises(LbError) as caught:
        run(balancer, *arguments)
    assert message in str(caught.value)
    assert states(balancer) == ["up", "up"]


def test_data() -> None:
    assert BACKENDS.data is not None
    found = BACKENDS.data(made(), "drain", "api.example.com", "web1")
    assert found["said"].startswith("api.example.com/web1 is draining")
    api = {pool["pool"]: pool for pool in found["pools"]}["api.example.com"]
    web1 = api["backends"][0]
    assert (web1["name"], web1["state"], web1["max_connections"], web1["candidate"]) == ("web1", "draining", 9, False)
    assert api["routes"] == ["api.example.com"]


def test_workers_newcomers_and_other_nodes_follow() -> None:
    here, there = Together(2), Together(1)
    control = made(here)
    workers = [made(here, 0), made(here, 1)]
    far = [made(there), made(there, 0)]
    joined(here, there)
    run(control, "drain", "api.example.com", "web1")
    run(control, "weight", "api.example.com", "web2", "7")
    for balancer in (*workers, *far):
        assert states(balancer) == ["draining", "up"]
        assert balancer.pools["api.example.com"].find("web2").configured_weight == 7
    here.add()
    newcomer = made(here, 2)
    here.welcome(here.workers[2])
    assert states(newcomer) == ["draining", "up"]
    assert newcomer.pools["api.example.com"].find("web2").configured_weight == 7
    for balancer in (control, *workers):
        balancer.apply(config_from_tree(TREE, balancer.plugins, source="test"))
        assert states(balancer) == ["draining", "up"]
        assert balancer.pools["api.example.com"].find("web2").configured_weight == 1
    run(control, "resume", "api.example.com", "web1")
    assert [states(each) for each in (*workers, newcomer, *far)] == [["up", "up"]] * 5
