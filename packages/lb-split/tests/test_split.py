"""The feature, fed with exchanges; over real sockets it is tested in tests/integration/test_split.py."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import Event, Exchange, LbError, LoadBalancer, hookimpl
from lb_core.config import config_from_tree
from lb_core.errors import BackendReset, ConnectFailed
from lb_core.plugins import Plugins
from lb_split.command import SHIFT
from lb_split.cookie import reader
from lb_split.kinds import SplitByCookie
from lb_split.part import has_failed
from lb_split.split import split_of

if TYPE_CHECKING:
    from lb_split import Split

POOLS = [{"use": "self", "weight": 75}, {"use": "canary", "weight": 25}]


class Hearing:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event)


def tree(split: Any) -> dict[str, Any]:
    return {
        "access_log": False,
        "routes": {"example.com": {"backends": ["127.0.0.1:9001"], "split": split, "ejection": False}},
        "pools": {"canary": {"backends": ["127.0.0.1:9002"]}},
    }


def balancer(split: Any, hearing: Hearing | None = None) -> LoadBalancer:
    plugins = Plugins.discover(extra=[hearing or Hearing()])
    return LoadBalancer(config_from_tree(tree(split), plugins, source="test"), plugins=plugins)


def begun(lb: LoadBalancer, head: str = "", client: str = "192.0.2.1", scheme: str = "http") -> Exchange:
    route = lb.routes["example.com"]
    connection: Any = SimpleNamespace(peer=client, scheme=scheme, port=80)
    data = f"GET / HTTP/1.1\r\nHost: example.com\r\n{head}\r\n".encode()
    exchange = Exchange(route, connection, client, b"GET", b"/", b"example.com", data)
    assert route.before_request is not None
    assert route.before_request(exchange) is None
    return exchange


def ended(lb: LoadBalancer, status: int, now: float = 1000.0, **about: Any) -> Exchange:
    exchange = begun(lb)
    exchange.attempts = 1
    exchange.status, exchange.ended = status, now
    for name, value in about.items():
        setattr(exchange, name, value)
    lb.routes["example.com"].on_complete(exchange)  # type: ignore[misc]  # there is one
    return exchange


def names(lb: LoadBalancer, count: int, **about: Any) -> Counter[str]:
    return Counter(begun(lb, **about).pool.name for _ in range(count))


def split(lb: LoadBalancer) -> Split:
    return split_of(lb.routes["example.com"])


def test_shares_and_their_description() -> None:
    lb = balancer(POOLS)
    assert names(lb, 1000) == {"example.com": 750, "canary": 250}
    ended(lb, 200)
    ended(lb, 503)
    lines = split(lb).describe()
    assert lines[0].startswith("self 75 %: ")
    assert lines[1].startswith("canary 25 %: ")
    assert sum(part.requests for part in split(lb).parts) == 2


def test_the_cookie_is_secure_over_tls_and_given_once() -> None:
    lb = balancer({"pools": POOLS, "by": "cookie"})
    for scheme, secure in (("http", False), ("https", True)):
        exchange = begun(lb, scheme=scheme)
        lb.routes["example.com"].on_response(exchange)  # type: ignore[misc]
        assert ("; Secure" in exchange.response_headers["Set-Cookie"]) is secure
    again = begun(lb, head="Cookie: lb_split=0000\r\n")
    assert again.pool.name == "example.com"
    lb.routes["example.com"].on_response(again)  # type: ignore[misc]
    assert "Set-Cookie" not in again.response_headers
    assert begun(lb, head="Cookie: xlb_split=0000; lb_split=ffff\r\n").pool.name == "canary"


@pytest.mark.parametrize(
    ("head", "point"),
    [
        ("Cookie: lb_split=00ff\r\n", 255),
        ("cOOKIE:lb_split=00ff\r\n", 255),
        ("Cookie: a=b; lb_split=00ff; c=d\r\n", 255),
        ("Cookie: a=b\r\nCookie: lb_split=00ff \r\n", 255),
        ("Cookie: lb_split=xx; lb_split=00ff", 255),
        ("Cookie: a=lb_split=00ff\r\n", None),
        ("Cookie: lb_split=00ff0\r\n", None),
        ("Cookie: lb_split=0x1f\r\n", None),
        ("Cookie: lb_split=\r\n", None),
        ("X-Cookie: lb_split=00ff\r\n", None),
        ("Referer: http://x/?a= lb_split=00ff\r\n", None),
        ("", None),
    ],
)
def test_where_the_cookie_is_looked_for(head: str, point: int | None) -> None:
    assert reader("lb_split")(f"GET / HTTP/1.1\r\n{head}".encode()) == point


def test_who_got_no_answer_leaves_nothing_behind() -> None:
    lb = balancer({"pools": POOLS, "by": "cookie"})
    ended(lb, 0)
    made = split(lb)
    assert isinstance(made, SplitByCookie)
    assert not made._new


def test_a_rule_for_self_wins_over_the_weights() -> None:
    lb = balancer([{"use": "self", "weight": 0, "header": {"X-Old": "1"}}, {"use": "canary", "weight": 1}])
    assert names(lb, 3, head="X-Old: 1\r\n") == {"example.com": 3}
    assert names(lb, 3) == {"canary": 3}


def test_a_client_without_an_address_is_in_no_range() -> None:
    lb = balancer([{"use": "self", "weight": 1}, {"use": "canary", "clients": ["0.0.0.0/0"]}])
    assert names(lb, 2, client="") == {"example.com": 2}
    assert names(lb, 2, client="::ffff:192.0.2.1") == {"canary": 2}


def test_without_candidates_the_request_begins_where_it_would() -> None:
    for by in ("request", "client", "cookie"):
        lb = balancer({"pools": POOLS, "by": by})
        for pool in lb.pools.values():
            pool.set_health(pool.backends[0], "down")
        assert names(lb, 3) == {"example.com": 3}


def test_another_pool_that_serves_for_the_route_has_the_share_of_self() -> None:
    lb = balancer(POOLS)
    route = lb.routes["example.com"]
    route.pool.set_health(route.pool.backends[0], "down")
    standby = type(route.pool)("standby", lb.pools["canary"].backends)
    route.serving = standby
    assert names(lb, 4) == {"standby": 3, "canary": 1}
    standby.set_health(standby.backends[0], "down")  # which is the backend of the canary too
    lb.pools["canary"].rebuild()
    assert names(lb, 4) == {"standby": 4}  # nobody is left


def test_rollback_with_its_figures() -> None:
    hearing = Hearing()
    lb = balancer({"pools": POOLS, "rollback": {"min_requests": 5}}, hearing)
    for number in range(40):
        ended(lb, 500 if begun(lb).pool.name == "canary" else 200, now=1000.0 + number)
    for number in range(40):
        exchange = begun(lb)
        exchange.attempts, exchange.ended = 1, 1040.0 + number
        exchange.status = 500 if exchange.pool.name == "canary" else 200
        lb.routes["example.com"].on_complete(exchange)  # type: ignore[misc]
    (event,) = [each for each in hearing.events if each.kind == "canary_rolled_back"]
    assert event.details["pool"] == "canary"
    assert split(lb).weights == {"self": 75.0, "canary": 0.0}
    assert "canary 0 %" in split(lb).describe()[1]
    assert "rolled back" in split(lb).describe()[1]
    split(lb).shift({"self": 50})
    assert "rolled back" in split(lb).describe()[1]  # somebody else's share was changed
    split(lb).shift({"canary": 50})
    assert "rolled back" not in split(lb).describe()[1]


@pytest.mark.parametrize(
    ("about", "failed"),
    [
        ({"status": 200}, False),
        ({"status": 404}, False),
        ({"status": 500}, True),
        ({"status": 200, "error": ConnectFailed("refused")}, True),
        ({"status": 200, "error": BackendReset("stale", reused=True)}, False),
        ({"status": 200, "flags": ("client_gone",)}, False),
        ({"status": 200, "flags": ("reset",)}, True),
        ({"status": 200, "flags": ("read_timeout",)}, True),
        ({"status": 0, "flags": ("client_gone",)}, False),
    ],
)
def test_what_counts_as_a_failure(about: dict[str, Any], failed: bool) -> None:
    exchange = begun(balancer(POOLS))
    for name, value in about.items():
        setattr(exchange, name, value)
    assert has_failed(exchange) is failed


def test_a_change_of_the_section_brings_its_own_weights_and_keeps_the_counts() -> None:
    lb = balancer(POOLS)
    ended(lb, 200)
    split(lb).shift({"canary": 100})
    changed = tree([POOLS[0], POOLS[1] | {"weight": 20}])
    lb.apply(config_from_tree(changed, lb.plugins, source="test"))
    assert split(lb).weights == {"self": 75.0, "canary": 20.0}
    assert sum(part.requests for part in split(lb).parts) == 1
    changed["routes"]["example.com"]["split"].append({"use": "third", "weight": 5})
    changed["pools"]["third"] = {"backends": ["127.0.0.1:9003"]}
    lb.apply(config_from_tree(changed, lb.plugins, source="test"))
    assert names(lb, 100) == {"example.com": 75, "canary": 20, "third": 5}


def test_the_turns_go_on_after_a_reload() -> None:
    lb = balancer([{"use": "self", "weight": 9}, {"use": "canary", "weight": 1}])
    before = names(lb, 7)
    changed = tree([{"use": "self", "weight": 9}, {"use": "canary", "weight": 1}])
    changed["routes"]["example.com"]["max_body"] = "1MiB"
    lb.apply(config_from_tree(changed, lb.plugins, source="test"))
    assert before + names(lb, 3) == {"example.com": 9, "canary": 1}


def test_the_command() -> None:
    lb = balancer(POOLS)
    assert SHIFT.call(lb, ("example.com",)).startswith("self 75 %: 0 requests")
    assert "canary 40 %" in SHIFT.call(lb, ("example.com", "canary=40"))
    assert split(lb).weights == {"self": 60.0, "canary": 40.0}
    with pytest.raises(LbError, match=r'no route "exmple.com" \(did you mean example.com\?\)'):
        SHIFT.call(lb, ("exmple.com", "canary=40"))
    with pytest.raises(LbError, match="is not a share"):
        SHIFT.call(lb, ("example.com", "canary"))
    plain = tree(False)
    lb.apply(config_from_tree(plain, lb.plugins, source="test"))
    with pytest.raises(LbError, match="has no split: add the section"):
        SHIFT.call(lb, ("example.com",))
