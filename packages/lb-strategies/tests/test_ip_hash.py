"""IP hash: who stays together, and what happens when a backend is gone."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_core import Backend, Exchange
from lb_strategies import IpHash, consistent_hash
from lb_strategies.rendezvous import Rendezvous


def backends(count: int, weight: int = 1) -> tuple[Backend, ...]:
    return tuple(Backend(f"b{number}", "127.0.0.1", 9000 + number, weight=weight) for number in range(count))


def request_of(client: str, failed: Backend | None = None) -> Exchange:
    where: Any = SimpleNamespace(peer=client, scheme="http", port=80, serving=None)
    exchange = Exchange(where, where, client, b"GET", b"/", b"example.com", b"")
    exchange.backend = failed
    return exchange


CLIENTS = [f"10.{a}.{b}.{c}" for a in (0, 7) for b in range(8) for c in range(1, 255)]


@pytest.mark.parametrize("odd", ["", "unix", "not:an:address", "::1%"])
def test_what_is_no_address_has_a_key_too(odd: str) -> None:
    assert IpHash().select_backend(request_of(odd), backends(3)) is not None


def test_a_client_keeps_its_backend() -> None:
    pool, strategy, other = backends(5), IpHash(), IpHash()
    for client in CLIENTS[:50]:
        chosen = strategy.select_backend(request_of(client), pool)
        assert chosen in pool
        assert other.select_backend(request_of(client), backends(5)).name == chosen.name


def test_neighbouring_clients_are_spread_evenly() -> None:
    pool, strategy = backends(4), IpHash()
    counts = Counter(strategy.select_backend(request_of(client), pool) for client in CLIENTS)
    assert [counts[backend] / len(CLIENTS) for backend in pool] == pytest.approx([0.25] * 4, abs=0.03)


def test_clients_follow_the_weights() -> None:
    heavy, light = Backend("heavy", "127.0.0.1", 1, weight=3), Backend("light", "127.0.0.1", 2)
    strategy = IpHash()
    counts = Counter(strategy.select_backend(request_of(client), (heavy, light)) for client in CLIENTS)
    assert counts[heavy] / len(CLIENTS) == pytest.approx(0.75, abs=0.03)


def test_only_the_clients_of_a_backend_that_left_move() -> None:
    pool, strategy = backends(6), IpHash()
    before = {client: strategy.select_backend(request_of(client), pool) for client in CLIENTS}
    gone, rest = pool[2], pool[:2] + pool[3:]
    after = {client: strategy.select_backend(request_of(client), rest) for client in CLIENTS}
    assert {client for client in CLIENTS if before[client] is not after[client]} == {
        client for client in CLIENTS if before[client] is gone
    }
    back = {client: strategy.select_backend(request_of(client), pool) for client in CLIENTS}
    assert back == before


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.sampled_from(CLIENTS))
def test_a_retry_goes_elsewhere_and_always_to_the_same_place(count: int, client: str) -> None:
    pool, strategy = backends(count), IpHash()
    failed = strategy.select_backend(request_of(client), pool)
    others = tuple(backend for backend in pool if backend is not failed)
    second = strategy.select_backend(request_of(client, failed), others)
    assert second in others
    assert strategy.select_backend(request_of(client, failed), others) is second
    assert strategy.select_backend(request_of(client), pool) is failed


def test_retries_build_no_table_and_are_spread_over_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[list[str]] = []

    def counted(names: list[str], weights: tuple[int, ...]) -> Rendezvous:
        built.append(names)
        return Rendezvous(names, weights)

    monkeypatch.setattr(consistent_hash, "Rendezvous", counted)
    pool, strategy = backends(4), IpHash()
    counts: Counter[Backend] = Counter()
    for client in CLIENTS:
        failed = strategy.select_backend(request_of(client), pool)
        if failed is pool[0]:
            counts[strategy.select_backend(request_of(client, failed), tuple(pool[1:]))] += 1
    assert built == [[backend.id for backend in pool]]
    assert [counts[backend] / counts.total() for backend in pool[1:]] == pytest.approx([1 / 3] * 3, abs=0.12)


def test_another_pool_after_a_failure_is_no_retry_in_the_old_table() -> None:
    pool, strategy = backends(3), IpHash()
    failed = strategy.select_backend(request_of("10.0.0.1"), pool)
    fallback = (Backend("x", "127.0.0.1", 1), Backend("y", "127.0.0.1", 2))
    assert strategy.select_backend(request_of("10.0.0.1", failed), fallback) in fallback
