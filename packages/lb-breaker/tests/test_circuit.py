"""The states of a circuit and the way from one to the next."""

from __future__ import annotations

from lb_breaker.circuit import Circuit, State


def test_open_then_half_open_then_closed() -> None:
    circuit = Circuit(timeout=60, passes=2)
    assert (circuit.state, circuit.describe(0), circuit.remaining(0)) == (State.CLOSED, "closed", 0)
    circuit.open(100, "5 failures in a row")
    assert (circuit.state, circuit.opened, circuit.remaining(110)) == (State.OPEN, 1, 50)
    assert circuit.describe(112) == "open for 12s: 5 failures in a row; tried again in 48s"
    assert circuit.remaining(1000) == 0
    circuit.try_again(160)
    assert (circuit.state, circuit.remaining(160)) == (State.HALF_OPEN, 0)
    assert not circuit.pass_probe(161)
    assert circuit.describe(161) == "half open: 1 of 2 probes passed; it had opened after 5 failures in a row"
    assert circuit.pass_probe(162)
    assert (circuit.state, circuit.reason, circuit.since) == (State.CLOSED, "", 162)


def test_a_failure_while_half_open_begins_the_time_and_the_passes_again() -> None:
    circuit = Circuit(timeout=10, passes=2)
    circuit.open(0, "x")
    circuit.try_again(10)
    circuit.pass_probe(11)
    circuit.open(12, "a probe failed")
    assert (circuit.state, circuit.opened, circuit.remaining(12)) == (State.OPEN, 2, 10)
    circuit.try_again(22)
    assert not circuit.pass_probe(23)


def test_states_are_numbers_for_metrics() -> None:
    assert [int(state) for state in (State.CLOSED, State.HALF_OPEN, State.OPEN)] == [0, 1, 2]
