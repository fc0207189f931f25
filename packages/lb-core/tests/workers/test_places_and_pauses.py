"""What is decided about workers without any process: shares of sockets, pauses, missed beats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.workers.backoff import Backoff
from lb_core.workers.beats import Pulse
from lb_core.workers.seated import how_it_ended
from lb_core.workers.sockets import share


def test_each_place_has_its_own_key() -> None:
    assert share(3, 3, (0, 1, 2)) == {0: (0,), 1: (1,), 2: (2,)}


def test_after_fewer_workers_some_have_several() -> None:
    assert share(4, 2, (0, 1)) == {0: (0, 2), 1: (1, 3)}


def test_the_key_of_an_empty_place_goes_to_the_next_one() -> None:
    assert share(3, 3, (0, 2)) == {0: (0,), 2: (1, 2)}
    assert share(3, 3, (0, 1)) == {0: (0, 2), 1: (1,)}


def test_nobody_there_has_nothing() -> None:
    assert share(3, 3, ()) == {}


@given(st.integers(1, 40), st.integers(1, 31), st.data())
def test_every_key_is_somebody_s_and_only_one_s(keys: int, places: int, data: st.DataObject) -> None:
    filled = data.draw(st.sets(st.integers(0, places - 1), min_size=1))
    shares = share(keys, places, filled)
    assert shares.keys() == filled
    assert sorted(key for each in shares.values() for key in each) == list(range(keys))


@given(st.integers(1, 40), st.integers(2, 31), st.data())
def test_who_keeps_its_place_keeps_its_keys(keys: int, places: int, data: st.DataObject) -> None:
    filled = data.draw(st.sets(st.integers(0, places - 1), min_size=2))
    gone = data.draw(st.sampled_from(sorted(filled)))
    before, after = share(keys, places, filled), share(keys, places, filled - {gone})
    for place in after:
        assert set(before[place]) <= set(after[place])


def test_a_worker_that_had_lived_is_replaced_at_once() -> None:
    backoff = Backoff()
    assert backoff.ended(1.0, killed=False) == 0.1
    assert backoff.ended(10.0, killed=False) == 0.0
    assert backoff.crashes == 0
    assert backoff.ended(0.0, killed=False) == 0.1


def test_one_that_crashes_again_and_again_after_longer_pauses() -> None:
    backoff = Backoff()
    pauses = [backoff.ended(0.5, killed=False) for _ in range(10)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10])
    assert [backoff.ended(0.0, killed=False) for _ in range(2000)][-1] == 10


def test_one_that_others_kill_is_not_kept_waiting() -> None:
    backoff = Backoff()
    assert [backoff.ended(0.5, killed=True) for _ in range(20)] == pytest.approx([0.1, *[0.2] * 19])


def test_a_pulse_counts_looks_at_which_nothing_had_moved() -> None:
    pulse = Pulse()
    assert [pulse.look(beat) for beat in (0, 0, 0, 5, 5, 9)] == [0, 1, 2, 0, 1, 0]


def test_how_a_process_ended() -> None:
    assert how_it_ended(9) == "SIGKILL"
    assert how_it_ended(139) == "SIGSEGV", "with a core dump"
    assert how_it_ended(3 << 8) == "exit status 3"
    assert how_it_ended(40) == "signal 40", "which has no name"
    assert how_it_ended(None) == "an unknown cause"
