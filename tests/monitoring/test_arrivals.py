"""Lateness: how far rows are behind the newest event time of the minutes before them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.monitoring.drift.arrivals import Arrivals

MINUTE = 60_000_000
DAY = 1_440 * MINUTE
ROWS = st.lists(
    st.tuples(st.integers(0, 40 * MINUTE), st.integers(0, 30 * MINUTE)), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 40))
def test_lateness_is_that_of_a_loop_however_the_rows_are_divided(rows, cut):
    times = np.array([time for time, _ in rows])
    decided = times + np.array([wait for _, wait in rows])
    parts = (slice(None, cut), slice(cut, None))
    arrivals = Arrivals.merged(Arrivals.of_rows(times[p], decided[p]) for p in parts)
    found = arrivals.lateness(times, decided)
    for row in range(len(rows)):
        before = times[decided // MINUTE < decided[row] // MINUTE]
        if not len(before):
            assert np.isnan(found[row])
        else:
            assert found[row] == pytest.approx(max(before.max() - times[row], 0) / 1e6)


def test_a_row_from_the_future_makes_no_other_row_late():
    times = np.array([0, 400 * DAY, MINUTE, 2 * MINUTE])
    decided = np.array([0, MINUTE, MINUTE, 2 * MINUTE])
    arrivals = Arrivals.of_rows(times, decided)
    assert arrivals.lateness(times, decided)[2:].tolist() == [0.0, 0.0]


def test_no_rows_have_no_lateness():
    none = np.zeros(0, np.int64)
    assert Arrivals.merged([]).lateness(none, none).tolist() == []
