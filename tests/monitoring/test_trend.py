"""Rates and latencies of the last seconds."""

from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.snapshot import Snapshot
from beam_fraud.monitoring.trend import Trend


def snapshot(scored: int, latency: LatencyHistogram | None = None) -> Snapshot:
    return Snapshot({"rows_scored": scored}, latency=latency or LatencyHistogram())


def test_one_sample_gives_no_rate() -> None:
    trend = Trend()
    trend.add(100.0, snapshot(1_000))
    assert trend.rate == 0.0
    assert trend.latency.rows == 0


def test_the_rate_covers_all_samples_before_five_seconds() -> None:
    trend = Trend()
    trend.add(0.0, snapshot(0))
    trend.add(2.0, snapshot(100))
    assert trend.rate == 50.0


def test_a_stopped_stream_has_no_rate_and_no_latency() -> None:
    latency = LatencyHistogram()
    latency.add(0.5, 1_000)
    trend = Trend()
    trend.add(0.0, snapshot(0))
    for quarter in range(1, 45):
        trend.add(quarter / 4, snapshot(1_000, latency))
        if quarter == 19:
            assert trend.rate == 1_000 / 4.75
        if quarter == 21:
            assert trend.rate == 0.0
            assert trend.latency.rows == 1_000
    assert trend.latency.rows == 0


def test_a_late_sample_compares_with_the_last_one() -> None:
    trend = Trend()
    trend.add(0.0, snapshot(0))
    trend.add(60.0, snapshot(600))
    assert trend.rate == 10.0


def test_a_dead_worker_makes_no_negative_rate() -> None:
    trend = Trend()
    trend.add(0.0, snapshot(1_000))
    trend.add(1.0, snapshot(10))
    assert trend.rate == 0.0


def test_memory_does_not_grow() -> None:
    trend = Trend()
    for quarter in range(10_000):
        trend.add(quarter / 4, snapshot(quarter))
    assert len(trend._seen) <= 42
