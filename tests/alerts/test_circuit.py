import pytest

from beam_fraud.alerts.sender import FIRST_PAUSE, LONGEST_PAUSE, OPENS_AFTER, Circuit


def _fail(circuit, times, now=100.0):
    return [circuit.failed(now) for _ in range(times)]


def test_it_opens_after_consecutive_failures_and_reports_it_once():
    circuit = Circuit()
    assert _fail(circuit, OPENS_AFTER + 2) == [False, False, True, False, False]
    assert circuit.open
    assert circuit.succeeded()
    assert not circuit.open
    assert not circuit.succeeded()


def test_a_success_resets_the_count():
    circuit = Circuit()
    for _ in range(5):
        assert not any(_fail(circuit, OPENS_AFTER - 1))
        circuit.succeeded()


def test_pauses_double_up_to_a_minute_and_are_drawn_at_random():
    circuit, pauses = Circuit(), []
    for _ in range(200):
        circuit.failed(100.0)
        pauses.append(circuit.pause(100.0))
    assert FIRST_PAUSE / 2 <= pauses[0] <= FIRST_PAUSE
    assert FIRST_PAUSE <= pauses[1] <= 2 * FIRST_PAUSE
    assert all(LONGEST_PAUSE / 2 <= pause <= LONGEST_PAUSE for pause in pauses[12:])
    assert len(set(pauses[12:])) > 100


def test_one_trial_is_due_when_the_pause_is_over():
    circuit = Circuit()
    circuit.failed(100.0)
    assert circuit.pause(100.0) > 0
    assert circuit.pause(101.0) == 0


def test_it_waits_as_long_as_the_receiver_asks():
    circuit = Circuit()
    circuit.wait(100.0, 30.0)
    assert circuit.pause(110.0) == pytest.approx(20.0)
    assert not circuit.open
