"""Who leads, and for how long it may think so."""

from __future__ import annotations

import pytest

from lb_redis.lease import Holder, Lease, clock, parse_holder

ME, OTHER = "a" * 16, "b" * 16


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def lease(time: Time) -> Lease:
    return Lease(ME, 10.0, time)


def test_the_lease_counts_from_when_it_was_asked_for(lease: Lease, time: Time) -> None:
    asked = lease.ask()
    time.now += 4  # the answer takes long
    lease.heard(Holder(ME, 3, "n1"), asked)
    assert lease.leads
    assert lease.token == 3
    assert lease.remaining == pytest.approx(5.0)
    time.now += 5
    assert not lease.leads
    assert lease.token == 0


def test_it_is_renewed_after_a_third(lease: Lease, time: Time) -> None:
    assert lease.due()
    lease.heard(Holder(ME, 1, "n1"), lease.ask())
    assert not lease.due()
    time.now += 3.4
    assert lease.due()
    lease.heard(Holder(ME, 1, "n1"), lease.ask())
    time.now += 8
    assert lease.leads


def test_a_beat_that_did_not_ask_makes_nobody_a_leader_for_longer(lease: Lease, time: Time) -> None:
    lease.heard(Holder(ME, 1, "n1"), lease.ask())
    time.now += 2
    lease.heard(Holder(ME, 1, "n1"), None)
    assert lease.remaining == pytest.approx(7.0)


@pytest.mark.parametrize("holder", [None, Holder(OTHER, 9, "n2")])
def test_who_finds_another_one_or_nobody_leads_no_more(lease: Lease, holder: Holder | None) -> None:
    lease.heard(Holder(ME, 1, "n1"), lease.ask())
    lease.heard(holder, lease.ask())
    assert not lease.leads


def test_an_answer_that_was_asked_for_before_a_long_sleep_is_worth_nothing(lease: Lease, time: Time) -> None:
    asked = lease.ask()
    time.now += 60
    lease.heard(Holder(ME, 1, "n1"), asked)
    assert not lease.leads


def test_the_highest_token_is_remembered(lease: Lease) -> None:
    lease.heard(Holder(OTHER, 41, "n2"), None)
    lease.heard(None, None)
    assert lease.highest == 41


def test_who_gives_up_leads_no_more(lease: Lease) -> None:
    lease.heard(Holder(ME, 1, "n1"), lease.ask())
    lease.give_up()
    assert not lease.leads


@pytest.mark.parametrize("value", [None, b"", b"x", b"a b c", 7, b"a -1 c"])
def test_what_is_no_holder_is_nobody(value: object) -> None:
    assert parse_holder(value) is None
    assert parse_holder(b"aa 3 edge 1") == Holder("aa", 3, "edge 1")


def test_the_clock_runs() -> None:
    assert clock() <= clock()
