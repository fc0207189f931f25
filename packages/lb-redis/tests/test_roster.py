"""The nodes as one of them knows them."""

from __future__ import annotations

import pytest

from lb_core import Member
from lb_redis.roster import GONE_AFTER, Change, Roster, Told, listen, tell

ME = "a" * 16


class Time:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def roster(time: Time) -> Roster:
    return Roster(ME, time)


def told(name: str, seen: float = 0.0, boot: str = "") -> Told:
    return Told(Member(name, "0.1.0", "up", 1.0, seen=seen), boot or name * 16)


def test_what_a_node_tells_is_understood() -> None:
    member = Member("n1", "0.1.0", "draining", 12.5, workers=3, requests_per_second=9.5, in_flight=4, connections=7)
    found = listen("n1", f"{ME} {tell(member)}", 0.4)
    assert found is not None
    assert found.boot == ME
    assert found.member == Member(
        "n1", "0.1.0", "draining", 12.5, seen=0.4, workers=3, requests_per_second=9.5, in_flight=4, connections=7
    )


@pytest.mark.parametrize("text", ["", "x", f"{ME} []", f"{ME} {{", f"{ME} " + "x" * 5000, f"{ME} {'[' * 4000}"])
def test_what_is_garbage_is_no_node(text: str) -> None:
    assert listen("n1", text, 0.0) is None


def test_garbage_in_a_field_is_left_out() -> None:
    found = listen(
        "n1", f'{ME} {{"version": "a\\u001b[1m", "workers": -3, "rps": "x", "state": "lost", "more": 1}}', 0.0
    )
    assert found is not None
    assert (found.member.version, found.member.workers, found.member.state) == ("", 0, "up")


def test_nodes_come_and_go(roster: Roster, time: Time) -> None:
    assert roster.take([told("me", boot=ME), told("b")]) == Change(("b",), ())
    assert roster.take([told("me", boot=ME), told("b"), told("c")]) == Change(("c",), ())
    assert roster.take([told("me", boot=ME), told("c")]) == Change((), (("b", True),))
    time.now += GONE_AFTER + 0.1
    assert roster.look() == Change((), (("c", False),))
    assert roster.look() == Change()
    assert [(each.name, each.state) for each in roster.members()] == [("c", "gone"), ("me", "up")]


def test_a_node_that_is_silent_is_gone_after_three_seconds(roster: Roster) -> None:
    roster.take([told("b", seen=GONE_AFTER - 0.1), told("c", seen=GONE_AFTER + 0.1)])
    assert {each.name: each.state for each in roster.members()} == {"b": "up", "c": "gone"}
    assert roster.is_alive("b")
    assert not roster.is_alive("c")
    assert not roster.is_alive("x")


def test_a_node_that_was_started_again_has_joined_again(roster: Roster) -> None:
    roster.take([told("b", boot="1" * 16)])
    assert roster.take([told("b", boot="2" * 16)]).joined == ("b",)
    assert roster.boot_of("b") == "2" * 16


def test_the_leader_is_marked_while_it_is_there(roster: Roster, time: Time) -> None:
    roster.take([told("b"), told("c")])
    assert {each.name for each in roster.members("b" * 16) if each.leader} == {"b"}
    time.now += 10
    assert not [each for each in roster.members("b" * 16) if each.leader]


def test_many_nodes_are_asked_for_less_often(roster: Roster, time: Time) -> None:
    assert roster.due()
    roster.take([told(f"n{number}") for number in range(1000)])
    assert roster.interval == 20.0
    time.now += 10
    assert not roster.due()
    time.now += 10
    assert roster.due()
    assert all(each.state == "up" for each in roster.members())


def test_who_is_missing_after_redis_was_away_has_time_to_come_back(roster: Roster, time: Time) -> None:
    roster.take([told("me", boot=ME), told("b"), told("c"), told("d")])
    roster.be_patient()
    assert roster.take([told("me", boot=ME), told("c", seen=9.0), told("d", boot="9" * 16)]) == Change(("d",), ())
    assert (roster.patient, roster.others) == (True, 3), "they count as there"
    time.now += 1
    assert roster.take([told("me", boot=ME), told("c"), told("d", boot="9" * 16)]) == Change(), "c is back"
    time.now += GONE_AFTER
    assert roster.take([told("me", boot=ME), told("c"), told("d", boot="9" * 16)]) == Change((), (("b", False),))
    assert (roster.patient, roster.others) == (False, 2)
