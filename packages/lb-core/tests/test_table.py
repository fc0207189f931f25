"""The routing table: hosts, order, paths, matchers, and what it costs."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_core.errors import ConfigError, RequestError
from lb_core.table import LEARNED_MOST, SCANNED_MOST, Table, as_read, normalise, path_of


@dataclass(frozen=True)
class Match:
    path_prefix: str = ""
    path: str = ""
    methods: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    clients: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(frozen=True)
class RouteConfig:
    name: str
    host: str
    match: Match = Match()
    priority: int = 0
    order: int = 0


@dataclass(eq=False)
class FakeRoute:
    """A route as the table sees it: a name and its configuration."""

    config: RouteConfig

    @property
    def name(self) -> str:
        return self.config.name


def make(*rules: tuple[str, str, dict[str, Any]]) -> Table:
    """A table of (name, host, match and priority) rules in order of declaration."""
    routes = []
    for order, (name, host, options) in enumerate(rules):
        match = {key: value for key, value in options.items() if key != "priority"}
        config = RouteConfig(name, host, Match(**match), options.get("priority", 0), order)
        routes.append(FakeRoute(config))
    return Table(routes)  # type: ignore[arg-type]


def hosts(*names: str) -> Table:
    return make(*((name, name, {}) for name in names))


def ask(
    table: Table, host: str, target: str = "/", method: str = "GET", head: str = "", client: str = ""
) -> str | None:
    route = table.find(host.encode("latin-1"), method.encode(), target.encode("latin-1"), head.encode("utf-8"), client)
    return route.name if route else None


# hosts


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"example.com", b"example.com"),
        (b" Example.COM \t", b"example.com"),
        (b"example.com:8080", b"example.com"),
        (b"example.com:", b"example.com"),
        (b"example.com.", b"example.com"),
        (b"example.com.:443", b"example.com"),
        (b"10.0.0.1:65535", b"10.0.0.1"),
        (b"[::1]:80", b"[::1]"),
        (b"[2001:DB8:0:0::1]", b"[2001:db8::1]"),
        (b"[::ffff:10.0.0.1]", b"[::ffff:a00:1]"),
        (b"[v1.fe80:a]", b"[v1.fe80:a]"),
        (b"under_score.x", b"under_score.x"),
        (b"a%2fb", b"a%2fb"),
        (b"", b""),
        (b"   ", b""),
    ],
)
def test_normalise(raw: bytes, host: bytes) -> None:
    assert normalise(raw) == host


@pytest.mark.parametrize(
    "raw",
    [
        b"a b",
        b"a/b",
        b"user@example.com",
        b"http://example.com",
        b"example.com:http",
        b"example.com:65536",
        b"example.com:-1",
        b"example.com:1:2",
        b"a,b:80,c",
        b"[::1",
        b"::1",
        b"[::1]x",
        b"[:::1]",
        b"[fe80::1%eth0]",
        b"[]",
        b":80",
        b"ex\x00ample",
        b"ex\xc3\xa4mple",
        b"a\r\nb",
        b"a%zz",
        b"a" * 256,
        b"[v1.]",
    ],
)
def test_a_host_outside_the_grammar_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        hosts("*").learn(raw)
    assert caught.value.status == 400
    assert caught.value.word == "bad_host"


@given(st.binary(max_size=40))
def test_normalise_returns_a_host_or_refuses(raw: bytes) -> None:
    try:
        host = normalise(raw)
    except RequestError:
        return
    assert normalise(host) in (host, host.removesuffix(b"."))
    assert host == host.lower()
    assert re.fullmatch(rb"[!-~]*", host)


def test_exact_host_in_every_spelling() -> None:
    table = hosts("example.com")
    for spelling in ("example.com", " EXAMPLE.com:80", "example.com."):
        assert ask(table, spelling) == "example.com"
    assert ask(table, "www.example.com") is None
    assert ask(table, "example.org") is None


def test_one_label_and_many() -> None:
    table = hosts("*.one.x", "**.many.x")
    assert ask(table, "a.one.x") == "*.one.x"
    assert ask(table, "a.b.one.x") is None
    assert ask(table, "one.x") is None
    assert ask(table, ".one.x") is None
    assert ask(table, "a.many.x") == "**.many.x"
    assert ask(table, "a.b.c.many.x") == "**.many.x"
    assert ask(table, "many.x") is None
    assert ask(table, "xmany.x") is None


def test_the_rest_takes_every_host_and_no_host() -> None:
    table = hosts("*", "a.x")
    assert ask(table, "b.y") == "*"
    assert ask(table, "[::1]:80") == "*"
    assert ask(table, "") == "*"
    assert ask(hosts("a.x", "*.x", "**.x"), "") is None


def test_an_address_is_a_host() -> None:
    table = hosts("[2001:db8::1]", "10.0.0.1")
    assert ask(table, "[2001:0DB8::0001]:443") == "[2001:db8::1]"
    assert ask(table, "10.0.0.1:80") == "10.0.0.1"


@pytest.mark.parametrize("patterns", [["*", "**.b.c", "*.c", "**.c", "*.b.c", "a.b.c"]])
def test_longest_wildcard_first(patterns: list[str]) -> None:
    best_first = ["a.b.c", "*.b.c", "**.b.c", "**.c", "*"]
    table = hosts(*patterns)
    assert [rule.host for rule in table.learn(b"a.b.c").rules] == best_first
    for gone in range(len(best_first)):
        assert ask(hosts(*(p for p in patterns if p not in best_first[:gone])), "a.b.c") == best_first[gone]
    assert ask(hosts("**.c", "*.c"), "b.c") == "*.c"


# order


def test_priority_goes_before_everything() -> None:
    table = make(("exact", "a.x", {"path": "/p"}), ("rest", "*", {"priority": 1, "path_prefix": "/"}))
    assert ask(table, "a.x", "/p") == "rest"
    assert ask(make(("a", "a.x", {}), ("b", "*", {"priority": -1})), "a.x") == "a"


def test_a_host_whose_rules_do_not_want_the_request_goes_on_to_the_wildcards() -> None:
    table = make(("exact", "a.x", {"path_prefix": "/v2"}), ("wild", "*.x", {"methods": ("POST",)}), ("rest", "*", {}))
    assert ask(table, "a.x", "/v2/y") == "exact"
    assert ask(table, "a.x", "/", "POST") == "wild"
    assert ask(table, "a.x", "/") == "rest"
    assert ask(make(("exact", "a.x", {"path_prefix": "/v2"})), "a.x", "/") is None


def test_exact_path_then_longest_prefix_then_matchers_then_declaration() -> None:
    table = make(
        ("plain", "a.x", {}),
        ("short", "a.x", {"path_prefix": "/v2"}),
        ("long", "a.x", {"path_prefix": "/v2/users"}),
        ("exact", "a.x", {"path": "/v2"}),
        ("short-get", "a.x", {"path_prefix": "/v2", "methods": ("GET",)}),
        ("short-get-again", "a.x", {"path_prefix": "/v2", "methods": ("GET",)}),
        ("short-get-beta", "a.x", {"path_prefix": "/v2", "methods": ("GET",), "headers": {"X-Beta": "1"}}),
    )
    assert ask(table, "a.x", "/v2") == "exact"
    assert ask(table, "a.x", "/v2/users/7", "POST") == "long"
    assert ask(table, "a.x", "/v2/x", "POST") == "short"
    assert ask(table, "a.x", "/v2/x") == "short-get"
    assert ask(table, "a.x", "/v2/x", head="GET / HTTP/1.1\r\nX-Beta: 1\r\n\r\n") == "short-get-beta"
    assert ask(table, "a.x", "/") == "plain"


def test_route_is_set_where_the_host_alone_decides() -> None:
    table = make(("plain", "a.x", {}), ("path", "b.x", {"path_prefix": "/v2"}), ("rest", "b.x", {}))
    assert table.learn(b"a.x").route is not None
    assert table.learn(b"b.x").route is None
    assert table.learn(b"nobody").route is None
    assert table.learn(b"nobody").find(b"GET", b"/", b"", "") is None


def test_rules_for_display_are_grouped_by_host_best_first() -> None:
    table = make(
        ("rest", "*", {}),
        ("b", "b.x", {}),
        ("wild", "*.x", {}),
        ("b/v2", "b.x", {"path_prefix": "/v2"}),
        ("a", "a.x", {}),
    )
    assert [rule.route.name for rule in table.rules] == ["b/v2", "b", "a", "wild", "rest"]
    assert repr(table.rules[0]) == "<Rule b.x/v2 -> b/v2>"


# paths


@pytest.mark.parametrize(
    ("target", "matches"),
    [
        ("/v2", True),
        ("/v2/", True),
        ("/v2/x", True),
        ("/v2?x=/v3", True),
        ("/v21", False),
        ("/v", False),
        ("/V2", False),
        ("/x/v2", False),
        ("/?/v2", False),
        ("*", False),
        ("http://a.x/v2/y?z", True),
        ("HTTPS://a.x", False),
    ],
)
@pytest.mark.parametrize("prefix", ["/v2", "/v2/"])
def test_a_prefix_ends_at_a_segment(prefix: str, target: str, matches: bool) -> None:
    table = make(("v2", "a.x", {"path_prefix": prefix}), ("rest", "a.x", {}))
    assert ask(table, "a.x", target) == ("v2" if matches else "rest")


def test_the_root_prefix_matches_every_path_but_no_asterisk() -> None:
    table = make(("root", "a.x", {"path_prefix": "/"}))
    assert ask(table, "a.x", "/") == "root"
    assert ask(table, "a.x", "/deep/er?x") == "root"
    assert ask(table, "a.x", "http://a.x") == "root"
    assert ask(table, "a.x", "*", "OPTIONS") is None


def test_a_path_in_the_configuration_is_compared_as_it_is_sent() -> None:
    table = make(("cafe", "a.x", {"path_prefix": "/café au lait"}), ("sent", "a.x", {"path": "/50%25"}))
    assert ask(table, "a.x", "/caf%C3%A9%20au%20lait/x") == "cafe"
    assert ask(table, "a.x", "/50%25") == "sent"


ADMIN: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("admin", "a.x", {"path_prefix": "/admin"}),
    ("public", "a.x", {"path_prefix": "/public"}),
    ("rest", "a.x", {}),
)


@pytest.mark.parametrize(
    "target",
    [
        "/public/../admin",
        "/public/%2e%2e/admin/x",
        "/public/.%2E/admin",
        "/public/..;/admin",
        "/public/..%2fadmin",
        "/public/..%5cadmin",
        "/public/..\\admin",
        "/%61dmin",
        "//admin",
        "/./admin",
        "/admin;x=1/y",
        "/admin%2Fx",
        "/admin/../public",
        "/x/../../../admin",
        "http://a.x/public/../admin",
    ],
)
def test_nobody_gets_around_a_rule(target: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(make(*ADMIN), "a.x", target)
    assert caught.value.status == 400
    assert caught.value.word == "ambiguous_path"


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/files/caf%c3%a9", "rest"),
        ("/public/a/../b", "public"),
        ("/public//x", "public"),
        ("/public/a;b=c", "public"),
        ("/proxy/http://y/../z", "rest"),
        ("/admin/%2e%2e%2fadmin", "admin"),
        ("/page?next=/../admin//x", "rest"),
        ("/a/..hidden/.well-known/x", "rest"),
    ],
)
def test_an_unusual_path_that_stays_with_its_rule_passes(target: str, route: str) -> None:
    assert ask(make(*ADMIN), "a.x", target) == route


@pytest.mark.parametrize(
    ("path", "read"),
    [
        (b"/", b"/"),
        (b"/a/b/", b"/a/b/"),
        (b"/a/..", b"/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/.", b"/a/"),
        (b"/../../a", b"/a"),
        (b"//a///b", b"/a/b"),
        (b"/a%2f%2E%2e%2Fb", b"/b"),
        (b"/a;p/b;q=1", b"/a/b"),
        (b"/a\\b", b"/a/b"),
        (b"*", b"*"),
        (b"", b""),
    ],
)
def test_as_read(path: bytes, read: bytes) -> None:
    assert as_read(path) == read


def test_path_of() -> None:
    assert path_of(b"/a?b?c") == b"/a"
    assert path_of(b"http://h:1/a/b?c") == b"/a/b"
    assert path_of(b"http://h?c=/x") == b"/"
    assert path_of(b"*") == b"*"


SEGMENT = st.sampled_from(["a", "b", "..", ".", "", "%61", "c"])
PATH = st.lists(SEGMENT, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
PLAIN = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(lambda parts: "/" + "/".join(parts))
RULE = st.fixed_dictionaries(
    {},
    optional={
        "path_prefix": PLAIN,
        "methods": st.sampled_from([("GET",), ("POST",), ("GET", "POST")]),
        "priority": st.integers(-1, 1),
    },
) | st.fixed_dictionaries({"path": PLAIN}, optional={"priority": st.integers(-1, 1)})
HOST = st.sampled_from(["a.b.c", "*.b.c", "**.b.c", "**.c", "*.c", "*"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(HOST, RULE), max_size=30), PATH, st.sampled_from(["GET", "POST"]))
def test_the_index_by_path_finds_what_a_scan_finds(
    rules: list[tuple[str, dict[str, Any]]], target: str, method: str
) -> None:
    few = [(str(number), host, options) for number, (host, options) in enumerate(rules)]
    padding = [(f"p{number}", "a.b.c", {"path": f"/never/{number}"}) for number in range(SCANNED_MOST + 1)]
    answers = []
    for table in (make(*few), make(*few, *padding)):
        try:
            answers.append(ask(table, "a.b.c", target, method))
        except RequestError as error:
            answers.append(error.word)
    if len(few) <= SCANNED_MOST:
        assert answers[0] == answers[1]
    best = [rule for rule in make(*few).learn(b"a.b.c").rules if _wants(rule.route.config.match, target, method)]
    assert answers[1] in (best[0].route.name if best else None, "ambiguous_path")


def _wants(match: Any, target: str, method: str) -> bool:
    if match.methods and method not in match.methods:
        return False
    if match.path:
        return bool(target == match.path)
    prefix = match.path_prefix.rstrip("/")
    return target == prefix or target.startswith(prefix + "/")


# further matchers


def test_methods_are_named_in_any_case() -> None:
    table = make(("read", "a.x", {"methods": ("get", "HEAD")}))
    assert ask(table, "a.x", method="GET") == "read"
    assert ask(table, "a.x", method="HEAD") == "read"
    assert ask(table, "a.x", method="POST") is None


HEAD = (
    "GET /x-no: 1 HTTP/1.1\r\nHost: a.x\r\nX-Beta:  1 \r\nx-other: one\r\nX-Other: two\r\nX-Empty:\r\nX-Utf: ä\r\n\r\n"
)


@pytest.mark.parametrize(
    ("headers", "matches"),
    [
        ({"x-beta": "1"}, True),
        ({"X-Beta": "01"}, False),
        ({"Beta": "1"}, False),
        ({"/x-no": "1"}, False),
        ({"X-Other": "two"}, True),
        ({"X-Other": "one, two"}, False),
        ({"X-Beta": "1", "X-Other": "one"}, True),
        ({"X-Beta": "1", "X-Other": "three"}, False),
        ({"X-Empty": ""}, True),
        ({"X-Absent": ""}, False),
        ({"X-Absent": "~"}, False),
        ({"X-Other": "~"}, True),
        ({"X-Other": "~^t.o$"}, True),
        ({"X-Other": "~^w"}, False),
        ({"X-Utf": "ä"}, True),
        ({"X-Utf": "~^ä$"}, True),
        ({"Host": "~x$"}, True),
    ],
)
def test_headers(headers: dict[str, str], matches: bool) -> None:
    table = make(("beta", "a.x", {"headers": headers}))
    assert (ask(table, "a.x", head=HEAD) == "beta") is matches
    with_body = HEAD + "\r\nX-Absent: 1\r\n\r\nX-Beta: 01\r\n"
    assert (ask(table, "a.x", head=with_body) == "beta") is matches


@pytest.mark.parametrize(
    ("query", "target", "matches"),
    [
        ({"beta": "1"}, "/?a=2&beta=1", True),
        ({"beta": "1"}, "/?beta=2&beta=1", True),
        ({"beta": "1"}, "/?beta=11", False),
        ({"beta": "1"}, "/?Beta=1", False),
        ({"beta": "1"}, "/beta=1", False),
        ({"b c": "ä ö"}, "/?b+c=%C3%A4%20%C3%B6", True),
        ({"flag": ""}, "/?flag", True),
        ({"flag": ""}, "/?flag=", True),
        ({"flag": "~^v[12]$"}, "/?flag=v2", True),
        ({"flag": "~^v[12]$"}, "/?flag=v3", False),
        ({"a": "1", "b": "2"}, "/?b=2&a=1", True),
        ({"a": "1", "b": "2"}, "/?a=1", False),
        ({"a": "1"}, "/?a=%ff&a=1", True),
    ],
)
def test_query(query: dict[str, str], target: str, matches: bool) -> None:
    assert (ask(make(("q", "a.x", {"query": query})), "a.x", target) == "q") is matches


@pytest.mark.parametrize(
    ("client", "matches"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_clients(client: str, matches: bool) -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    assert (ask(make(("in", "a.x", {"clients": networks})), "a.x", client=client) == "in") is matches


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"headers": {"X-Beta": "~("}}, "headers.X-Beta"),
        ({"query": {"q": "~*"}}, "query.q"),
        ({"path": "/a", "path_prefix": "/b"}, "match"),
    ],
)
def test_a_rule_that_cannot_be_compiled_names_its_place(options: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(("bad", "a.x", options))
    assert place in str(caught.value)


# what is learned, and the cost


def test_a_host_value_is_looked_up_once() -> None:
    table = hosts("a.x")
    entry = table.learn(b" A.x:80")
    assert table.learned[b" A.x:80"] is entry
    assert entry.host == b"a.x"
    long = b"a.x" + b" " * 1000
    assert table.learn(long).route is entry.route
    assert long not in table.learned


def test_a_refused_host_is_not_remembered() -> None:
    table = hosts("*")
    with pytest.raises(RequestError):
        table.learn(b"a b")
    assert not table.learned


def test_the_memory_of_hosts_is_bounded() -> None:
    table = hosts("*")
    for number in range(LEARNED_MOST + 10):
        table.learn(b"host%d.x" % number)
    assert len(table.learned) <= LEARNED_MOST
    assert len({id(entry.rules) for entry in table.learned.values()}) == 1


def test_ten_thousand_routes_make_no_difference_to_a_host() -> None:
    small = hosts("h0.x", "*.x", "*")
    large = hosts(*(f"h{number}.x" for number in range(10_000)), *(f"*.w{number}.x" for number in range(1000)), "*")
    times = []
    for table in (small, large):
        table.learn(b"h0.x")
        best = min(_seconds(lambda table=table: table.learn(b"h0.x")) for _ in range(50))
        times.append(best)
    assert times[1] < times[0] * 5
    assert ask(large, "h9999.x") == "h9999.x"
    assert ask(large, "q.w999.x") == "*.w999.x"


def test_ten_thousand_paths_of_one_host_are_not_scanned() -> None:
    table = make(
        *((f"r{number}", "a.x", {"path_prefix": f"/p{number}/q"}) for number in range(10_000)), ("rest", "*", {})
    )
    assert ask(table, "a.x", "/p9999/q/z") == "r9999"
    assert ask(table, "a.x", "/p9999/z") == "rest"
    assert ask(table, "a.x", "*", "OPTIONS") == "rest"
    entry = table.learn(b"a.x")
    assert min(_seconds(lambda: entry.find(b"GET", b"/p9999/q/z", b"", "")) for _ in range(50)) < 0.0002
    deep = b"/" + b"x/" * 4000
    assert min(_seconds(lambda: entry.find(b"GET", deep, b"", "")) for _ in range(10)) < 0.002


def _seconds(call: Any) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
