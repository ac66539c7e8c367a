"""Latencies in buckets are accurate enough, also when merged."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.monitoring.latency import BOUNDS, LatencyHistogram

INSIDE = st.floats(BOUNDS[0], BOUNDS[-1])


def histogram_of(*seconds: float) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in seconds:
        histogram.add(value)
    return histogram


@given(st.lists(INSIDE, min_size=1), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_a_sixth_of_the_true_one(seconds: list[float], q: float) -> None:
    true = float(np.quantile(seconds, q, method="inverted_cdf"))
    result = histogram_of(*seconds).quantile(q)
    assert result is not None
    assert abs(result / true - 1) < 0.165


def test_latencies_outside_the_buckets_are_in_the_outer_ones() -> None:
    assert histogram_of(0.0).quantile(0.5) == 0.001
    assert histogram_of(-3.0).quantile(0.5) == 0.001
    assert histogram_of(86_400).quantile(0.5) == math.inf
    assert LatencyHistogram().quantile(0.5) is None


def test_buckets_reach_from_a_millisecond_past_ten_minutes() -> None:
    assert (BOUNDS[0], BOUNDS[8], BOUNDS[24]) == (0.001, 0.01, 1.0)
    assert BOUNDS[-1] > 600
    assert list(BOUNDS) == sorted(set(BOUNDS))


def test_rows_of_one_batch_are_counted_at_once() -> None:
    at_once = LatencyHistogram()
    at_once.add(0.5, rows=3)
    assert at_once == histogram_of(0.5, 0.5, 0.5)
    assert (at_once.rows, at_once.seconds) == (3, 1.5)


@given(st.lists(INSIDE), st.lists(INSIDE))
def test_histograms_can_be_added_and_subtracted(first: list[float], second: list[float]) -> None:
    before, after = histogram_of(*first), histogram_of(*first, *second)
    assert before.merged(histogram_of(*second)).counts == after.counts
    since = after.since(before)
    assert since.counts == histogram_of(*second).counts
    assert since.seconds == pytest.approx(sum(second))


def test_a_histogram_of_other_buckets_is_refused() -> None:
    histogram = histogram_of(0.5, 2000.0)
    written = msgspec.json.encode(histogram)
    assert msgspec.json.decode(written, type=LatencyHistogram) == histogram
    with pytest.raises(msgspec.ValidationError, match="3 buckets, not 49"):
        msgspec.json.decode(b'{"counts": [1, 2, 3], "seconds": 1.0}', type=LatencyHistogram)
