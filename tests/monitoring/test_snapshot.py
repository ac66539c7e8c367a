"""The combined state of several workers."""

from beam_fraud.monitoring.counters import ROWS_DEAD, ROWS_DUPLICATE, ROWS_IN, ROWS_SCORED
from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.snapshot import Position, Snapshot, merge


def test_workers_add_up() -> None:
    latency = LatencyHistogram()
    latency.add(0.1, 2)
    one = Snapshot({ROWS_IN: 2, ROWS_SCORED: 2}, {}, latency, updated=3.0, pid=11)
    two = Snapshot({ROWS_IN: 1, ROWS_DEAD: 1}, {}, latency, updated=2.0, pid=12)
    both = merge([one, two])
    assert both.counters == {ROWS_IN: 3, ROWS_SCORED: 2, ROWS_DEAD: 1}
    assert (both.latency.rows, both.updated, both.pid) == (4, 3.0, 0)
    assert latency.rows == 2, "what was merged stays as it was"


def test_a_moved_source_has_the_position_of_its_last_reader() -> None:
    """A dead worker had read further than its successor, which starts at the last commit."""
    died = Snapshot(positions={"tx:0": Position(900, 1000, at=10.0), "tx:1": Position(5, 5, 10.0)})
    successor = Snapshot(positions={"tx:0": Position(400, 1100, at=11.0)})
    for order in ([died, successor], [successor, died]):
        merged = merge(order)
        assert merged.positions["tx:0"].next == 400
        assert merged.lag == 700


def test_no_reports_are_zero_rows() -> None:
    nothing = merge([])
    assert nothing == Snapshot()
    assert (nothing.done, nothing.lag, nothing.dead_by_reason) == (0, 0, {})


def test_a_reader_ahead_of_the_known_end_has_no_lag() -> None:
    assert Position(12, 10, at=0.0).lag == 0


def test_scored_dead_and_repeated_rows_are_done() -> None:
    counters = {ROWS_IN: 99, ROWS_SCORED: 5, ROWS_DEAD: 2, ROWS_DUPLICATE: 1, "dead_malformed": 2}
    snapshot = Snapshot(counters)
    assert snapshot.done == 8
    assert snapshot.dead_by_reason == {"malformed": 2}
