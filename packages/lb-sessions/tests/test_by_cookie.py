"""Whom the cookie leads where, without sockets; more of it over real ones in tests/integration."""

from __future__ import annotations

from typing import Any

import pytest

from lb_core import Backend, Exchange, Pool
from lb_core.errors import BackendReset, ConnectFailed
from lb_core.testing import exchange, pool
from lb_sessions import CookieSessions, HeaderSessions, StickySettings, by_cookie
from lb_sessions.owners import Owners, token_of

SECRET = "sixteen characters, or more"


def sessions(**options: Any) -> CookieSessions:
    return CookieSessions(StickySettings.model_validate({"secret": SECRET, **options}))


class Balancing:
    """A pool, and requests to it that share one clock."""

    def __init__(self, *names: str, sessions: CookieSessions) -> None:
        self.now = 1000.0
        self.pool = Pool("testing", pool(**{name: {} for name in names}), clock=lambda: self.now)
        self.sessions = sessions

    def __getitem__(self, name: str) -> Backend:
        return self.pool.find(name)

    def request(self, cookie: str = "") -> Exchange:
        made = exchange(headers={"Cookie": cookie} if cookie else {}, backends=self.pool.backends)
        made.pool = self.pool
        return made

    def chosen(self, made: Exchange, candidates: tuple[Backend, ...] | None = None) -> Backend | None:
        return self.sessions.select_backend(made, self.pool.candidates if candidates is None else candidates)

    def answered(self, made: Exchange, backend: Backend) -> str:
        """What its client is told to return."""
        made.backend = backend
        self.sessions.on_response(made)
        self.sessions.on_complete(made)
        return str(made.response_headers.get("Set-Cookie", "")).partition(";")[0]

    def client_of(self, name: str) -> str:
        made = self.request()
        assert self.chosen(made) is None
        return self.answered(made, self[name])


@pytest.fixture
def balancing() -> Balancing:
    return Balancing("a", "b", "c", sessions=sessions())


def test_a_client_is_given_a_cookie_and_comes_back(balancing: Balancing) -> None:
    for name in "abcabc":
        cookie = balancing.client_of(name)
        for _ in range(3):  # the first request settles the table
            made = balancing.request(f"x=y; {cookie}")
            assert balancing.chosen(made) is balancing[name]
            assert balancing.answered(made, balancing[name]) == ""
    assert (balancing.sessions.given, balancing.sessions.moved) == (6, 0)
    assert "6 clients given a backend, 0 moved" in balancing.sessions.describe()


@pytest.mark.parametrize("how", ["down", "ejected", "maintenance", "gone", "weight"])
def test_a_client_is_moved(balancing: Balancing, how: str) -> None:
    cookie = balancing.client_of("a")
    a = balancing["a"]
    if how == "down":
        balancing.pool.set_health(a, "down")
    elif how == "ejected":
        balancing.pool.eject(a, "it failed")
    elif how == "maintenance":
        balancing.pool.set_mode(a, "maintenance")
    elif how == "weight":
        balancing.pool.set_weight(a, 0)
        balancing.now += 30
    else:
        balancing.pool.replace([balancing["b"], balancing["c"]])
    made = balancing.request(cookie)
    assert balancing.chosen(made) is None
    other = balancing.answered(made, balancing["b"])
    assert other not in ("", cookie)
    assert made.flags == (() if how == "gone" else ("repicked",))
    assert balancing.sessions.moved == (how != "gone")
    assert balancing.chosen(balancing.request(other)) is balancing["b"]


def test_a_draining_backend_keeps_its_clients_until_the_deadline(balancing: Balancing) -> None:
    cookie = balancing.client_of("a")
    balancing.pool.set_mode(balancing["a"], "draining", seconds=10)
    made = balancing.request(cookie)
    assert balancing.chosen(made) is balancing["a"]
    assert balancing.answered(made, balancing["a"]) == ""
    assert "though it takes no new ones" in balancing.sessions.why(made, balancing.pool.candidates, balancing["a"])
    balancing.now += 10
    assert balancing.chosen(balancing.request(cookie)) is None


def test_where_nobody_is_a_candidate_it_keeps_its_clients_too(balancing: Balancing) -> None:
    cookie = balancing.client_of("a")
    assert balancing.sessions.keeps(balancing.request()) is None
    for each in balancing.pool.backends:
        balancing.pool.set_mode(each, "draining", seconds=10)
    assert balancing.pool.candidates == ()
    made = balancing.request(cookie)
    assert balancing.sessions.keeps(made) is balancing["a"]
    assert balancing.chosen(made, (balancing["a"],)) is balancing["a"]
    made.backend, made.error = balancing["a"], ConnectFailed("refused")
    assert balancing.sessions.keeps(made) is None
    assert balancing.sessions.keeps(balancing.request("lb_sticky=0123456789abcdef")) is None
    balancing.now += 10
    assert balancing.sessions.keeps(balancing.request(cookie)) is None


def test_a_full_backend_is_passed_over_and_taken_again_when_it_has_room(balancing: Balancing) -> None:
    cookie = balancing.client_of("a")
    a = balancing["a"]
    balancing.pool.set_limit(a, 1)
    a.in_flight = 1
    made = balancing.request(cookie)
    assert balancing.chosen(made) is None  # and everybody else is full too: it waits
    a.in_flight = 0
    assert balancing.chosen(made) is a
    assert balancing.answered(made, a) == ""
    assert made.flags == ()


def test_the_strategy_may_come_to_the_same_backend(balancing: Balancing) -> None:
    cookie = balancing.client_of("a")
    balancing.pool.set_limit(balancing["a"], 1)
    balancing["a"].in_flight = 1
    made = balancing.request(cookie)
    assert balancing.chosen(made) is None
    assert balancing.answered(made, balancing["a"]) == ""
    assert balancing.sessions.moved == 0


def test_a_retry_goes_elsewhere_unless_only_a_kept_connection_had_died(balancing: Balancing) -> None:
    cookie = balancing.client_of("a")
    a = balancing["a"]
    made = balancing.request(cookie)
    assert balancing.chosen(made) is a
    made.backend, made.attempts, made.error = a, 1, BackendReset("closed", reused=True)
    assert balancing.chosen(made, balancing.pool.others(a)) is a
    made.error = BackendReset("closed")
    assert balancing.chosen(made, balancing.pool.others(a)) is None
    assert balancing.answered(made, balancing["b"]) not in ("", cookie)


def test_who_waits_again_after_it_found_its_backend_is_not_remembered(balancing: Balancing) -> None:
    cookie = balancing.client_of("a")
    other = balancing.request()
    assert balancing.chosen(other) is None  # somebody new is under way
    made = balancing.request(cookie)
    assert balancing.chosen(made) is balancing["a"]
    assert balancing.answered(made, balancing["a"]) == ""
    assert balancing.answered(other, balancing["b"])


def test_an_exchange_without_an_answer_is_forgotten(balancing: Balancing) -> None:
    made = balancing.request()
    balancing.chosen(made)
    balancing.sessions.on_complete(made)
    balancing.sessions.on_response(made)
    assert "Set-Cookie" not in made.response_headers


def test_what_never_ends_is_forgotten_in_the_end(balancing: Balancing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_cookie, "MOST", 3)
    asked = [balancing.request() for _ in range(4)]
    for each in asked:
        balancing.chosen(each)
    assert [balancing.answered(each, balancing["a"]) != "" for each in asked] == [False, True, True, True]


def test_an_answer_without_a_backend_sets_nothing(balancing: Balancing) -> None:
    made = balancing.request()
    balancing.chosen(made)
    balancing.sessions.on_response(made)
    assert "Set-Cookie" not in made.response_headers


def test_pools_know_their_own_clients_only(balancing: Balancing) -> None:
    other = Balancing("a", "b", sessions=balancing.sessions)
    other.pool = Pool("other", pool(a={"id": "other/a"}, b={"id": "other/b"}))
    here, there = balancing.client_of("a"), other.client_of("a")
    assert here != there
    assert balancing.chosen(balancing.request(there)) is None
    assert other.chosen(other.request(here)) is None
    for _ in range(2):
        assert balancing.chosen(balancing.request(here)) is balancing["a"]
        assert other.chosen(other.request(there)) is other["a"]


def test_without_a_secret_nobody_is_known_and_no_file_is_made(tmp_path: Any) -> None:
    path = tmp_path / "key"
    balancing = Balancing("a", "b", sessions=sessions(secret="", secret_file=str(path)))
    assert balancing.chosen(balancing.request("lb_sticky=0123456789abcdef")) is None
    assert not path.exists()
    cookie = balancing.client_of("a")
    assert path.exists()
    later = Balancing("b", "a", sessions=sessions(secret="", secret_file=str(path)))
    assert later.chosen(later.request(cookie)) is later["a"]


def test_inherit(tmp_path: Any) -> None:
    old, new = (sessions(secret="", secret_file=str(tmp_path / "key")) for _ in range(2))
    made = old.secret.made()
    old.given, old.moved = 3, 2
    (tmp_path / "key").unlink()
    new.inherit(old)
    assert (new.secret.existing(), new.given, new.moved) == (made, 3, 2)
    other = sessions()
    other.inherit(old)
    assert other.secret.existing() == SECRET.encode()
    other.inherit(HeaderSessions("X-User"))
    assert other.given == 3


def test_a_token_says_nothing_and_differs_for_each_backend_and_secret() -> None:
    backends = pool(100)
    tokens = {token_of(b"one", each) for each in backends} | {token_of(b"two", each) for each in backends}
    assert len(tokens) == 200
    assert all(len(token) == 16 for token in tokens)


def test_tokens_are_kept_while_a_backend_stays() -> None:
    a, b, c = pool(3)
    there = Pool("testing", (a, b))
    owners = Owners(there, b"secret")
    before = owners.token(a)
    there.replace((a, c))
    owners.settle()
    assert owners.token(a) is before
    assert owners.owner(token_of(b"secret", b)) is None
    assert owners.owner(owners.token(c)) is c
    assert owners.token(b) == token_of(b"secret", b)  # it has left with a request under way
    assert set(owners.ready.values()) == {a, c}
