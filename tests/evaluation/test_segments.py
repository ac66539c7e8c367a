"""Segments partition the rows, and their figures add up."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.evaluation.rows import EvaluatedRows, rows_of
from beam_fraud.evaluation.segments import (
    MOST_VALUES,
    Segmentation,
    by_amount,
    by_hour,
    by_number,
    by_value,
    by_weekday,
    segment_table,
)
from beam_fraud.models.metrics import measure
from beam_fraud.schema.duration import DAY, HOUR
from beam_fraud.schema.schema import EVENT_TIME

AMOUNTS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


def rows(size: int = 500) -> EvaluatedRows:
    random = np.random.default_rng(0)
    return EvaluatedRows(
        labels=(random.random(size) < 0.2).astype(np.int8),
        times=random.integers(0, 30 * DAY, size),
        amounts=random.lognormal(3, 2, size),
        accounts=None,
    )


def all_segmentations(of: EvaluatedRows) -> list[Segmentation]:
    values = [None if i % 11 == 0 else f"m{i % 40}" for i in range(len(of.labels))]
    numbers = np.where(of.labels == 1, np.nan, of.amounts)
    return [
        by_amount(of.amounts),
        by_hour(of),
        by_weekday(of),
        by_value("merchant_id", pa.chunked_array([values[:100], values[100:]]), of.labels),
        by_number("x", numbers),
    ]


@pytest.mark.parametrize("place", range(5))
def test_segments_add_up_to_the_whole(place: int) -> None:
    given_rows = rows()
    scores = np.random.default_rng(1).random(len(given_rows.labels))
    segmentation = all_segmentations(given_rows)[place]
    table = segment_table(segmentation, given_rows.labels, scores, 0.5)
    whole = measure(given_rows.labels, scores, 0.5)
    assert sum(s.rows for s in table.segments) == whole.rows
    assert sum(s.frauds for s in table.segments) == whole.frauds
    assert sum(s.caught for s in table.segments) == whole.confusion["tp"]
    assert sum(s.flagged - s.caught for s in table.segments) == whole.confusion["fp"]
    assert len({s.name for s in table.segments}) == len(table.segments)
    assert all(s.rows for s in table.segments)


def test_a_segment_has_the_figures_of_its_rows() -> None:
    given_rows = rows()
    scores = np.random.default_rng(1).random(len(given_rows.labels))
    segmentation = by_weekday(given_rows)
    table = segment_table(segmentation, given_rows.labels, scores, 0.5)
    for code, segment in enumerate(table.segments):
        at = segmentation.codes == code
        expected = measure(given_rows.labels[at], scores[at], 0.5)
        assert (segment.precision, segment.recall) == (expected.precision, expected.recall)
        assert segment.average_precision == pytest.approx(expected.average_precision)


@given(AMOUNTS)
def test_bands_hold_the_amounts_that_they_name(amounts: list[float]) -> None:
    values = np.array(amounts)
    bands = by_amount(values)
    for code in range(1, len(bands.segments) - 1):
        low, _, high = bands.segments[code].replace(",", "").partition(" to ")
        held = values[bands.codes == code]
        assert np.all((held >= float(low)) & (held < float(high)))


def test_the_merchants_with_most_frauds_are_shown_and_the_others_are_one() -> None:
    values = pa.array([f"m{i:02}" for i in range(40)] * 3)
    labels = np.array([int(i >= 30) for i in range(40)] * 3, dtype=np.int8)
    segmentation = by_value("merchant_id", values, labels)
    assert len(segmentation.segments) == MOST_VALUES + 1
    assert set(segmentation.segments[:10]) == {f"m{i}" for i in range(30, 40)}
    assert segmentation.segments[-1] == "(others: 25)"
    assert np.sum(segmentation.codes == MOST_VALUES) == 75


def test_few_values_are_in_the_order_of_their_names() -> None:
    values = pa.array(["b", "a", None, "b"])
    segmentation = by_value("kind", values, np.array([1, 0, 0, 0], dtype=np.int8))
    assert segmentation.segments == ("a", "b", "(none)")
    assert segmentation.codes.tolist() == [1, 0, 2, 1]


def test_hours_and_days_are_those_of_the_time_zone() -> None:
    # Monday 2024-01-01, half past eleven at night in London, is Tuesday in Brussels.
    times = pa.array([datetime(2024, 1, 1, 23, 30, tzinfo=UTC)], EVENT_TIME)
    table = pa.table(
        {
            "event_time": times,
            "account_id": pa.array(["a"]),
            "amount": [1.0],
            "label": pa.array([0], pa.int8()),
        }
    )
    there, here = rows_of(table, "UTC"), rows_of(table, "Europe/Brussels")
    assert here.times[0] - there.times[0] == HOUR
    for of, hour, day in ((there, "23:00", "Monday"), (here, "00:00", "Tuesday")):
        assert by_hour(of).segments[by_hour(of).codes[0]] == hour
        assert by_weekday(of).segments[by_weekday(of).codes[0]] == day
