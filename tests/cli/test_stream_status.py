"""The content and width of a stream's status line."""

import pytest

from beam_fraud.alerts.outbox import Counts
from beam_fraud.cli.terminal.stream_status import stream_status
from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.snapshot import Position, Snapshot

NONE = LatencyHistogram()


def behind(**lags: int) -> Snapshot:
    return Snapshot(
        positions={f"tx:{name[1:]}": Position(100, 100 + lag, 0.0) for name, lag in lags.items()}
    )


def latency(*rows: tuple[float, int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for seconds, count in rows:
        histogram.add(seconds, count)
    return histogram


def test_a_stream_that_has_not_begun_has_a_short_line() -> None:
    assert stream_status(Snapshot(), 0.0, NONE) == "0 tx/s, 0 flagged"


def test_few_partitions_are_listed_and_of_many_the_worst() -> None:
    few = behind(p2=7, p10=0, p1=30)
    assert stream_status(few, 1.0, NONE) == "1 tx/s, lag 37 (1: 30, 2: 7, 10: 0), 0 flagged"
    many = behind(p0=1, p1=2, p2=900, p3=4, p4=5)
    assert stream_status(many, 1.0, NONE) == "1 tx/s, lag 912 (2: 900), 0 flagged"


def test_one_partition_or_no_lag_shows_the_total_alone() -> None:
    assert "lag 7, " in stream_status(behind(p0=7), 1.0, NONE)
    assert "lag 0, " in stream_status(behind(p0=0, p1=0), 1.0, NONE)


def test_partitions_of_several_topics_have_the_topic_with_them() -> None:
    two = Snapshot(positions={"tx:0": Position(0, 5, 0.0), "labels:0": Position(0, 1, 0.0)})
    assert "lag 6 (labels:0: 1, tx:0: 5)" in stream_status(two, 1.0, NONE)


def test_every_count_is_on_the_line() -> None:
    counters = {"rows_scored": 990, "rows_flagged": 12, "rows_dead": 3, "rows_duplicate": 7}
    alerts = {"console": Counts(pending=0, sent=12), "file:a": Counts(pending=5, sent=7)}
    assert stream_status(Snapshot(counters), 99.6, latency((0.011, 98), (3.0, 2)), alerts) == (
        "100 tx/s, p50 12 ms, p99 2.7 s, 12 flagged, 3 dead, 7 duplicate, alerts 19 sent 5 waiting"
    )
    assert stream_status(Snapshot(), 0, NONE, {"console": Counts(sent=2)}).endswith("alerts 2 sent")


@pytest.mark.parametrize("partitions", [0, 1, 2, 4, 64])
@pytest.mark.parametrize("rows", [0, 9, 999, 99_999, 99_999_999, 9_999_999_999])
def test_a_hundred_columns_are_enough(partitions: int, rows: int) -> None:
    counters = dict.fromkeys(["rows_scored", "rows_flagged", "rows_dead", "rows_duplicate"], rows)
    positions = {f"a_topic:{number}": Position(0, rows, 0.0) for number in range(partitions)}
    alerts = {"console": Counts(pending=rows, sent=rows)}
    line = stream_status(
        Snapshot(counters, positions), rows, latency((0.011, 1), (1e6, 1)), alerts, width=100
    )
    assert len(line) <= 100
    assert " tx/s, " in line
    assert ", p99 >12 min, " in line
    assert (" dead, " in line) is (rows > 0)
    assert "waiting" in line or rows == 0
