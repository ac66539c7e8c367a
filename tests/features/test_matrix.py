"""The feature matrix against plain Python."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.matrix import (
    FeatureSet,
    categories_of,
    code_categories,
    feature_matrix,
    is_night,
    is_weekend,
)
from beam_fraud.schema.schema import EVENT_TIME, FeatureColumn, Schema

#: Arrow knows the summer times of 2038 and later no more.
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))


@settings(deadline=None)
@given(st.lists(MOMENTS), st.sampled_from(["UTC", "Europe/Brussels", "Asia/Kolkata"]))
def test_weekends_and_nights_are_those_of_the_zone(moments: list[datetime], zone: str) -> None:
    times = pa.array(moments, EVENT_TIME)
    local = [moment.astimezone(ZoneInfo(zone)) for moment in moments]
    assert is_weekend(times, zone).tolist() == [float(t.weekday() >= 5) for t in local]
    assert is_night(times, zone).tolist() == [float(t.hour <= 6) for t in local]


@settings(deadline=None)
@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))))
def test_the_calendar_of_utc_reaches_before_the_epoch(moments: list[datetime]) -> None:
    times = pa.array(moments, EVENT_TIME)
    assert is_weekend(times).tolist() == [float(t.weekday() >= 5) for t in moments]
    assert is_night(times).tolist() == [float(t.hour <= 6) for t in moments]


@pytest.mark.parametrize("times", [1, 30])
def test_categories_are_coded_by_their_list(times: int) -> None:
    values = pa.array(["b", None, "a", "new", ""] * times)
    assert categories_of(values) == ("", "a", "b", "new")
    codes = code_categories(values, ("a", "b"))
    np.testing.assert_array_equal(codes, [1.0, np.nan, 0.0, 2.0, 2.0] * times)
    assert code_categories(values, ()).tolist()[0] == 0.0
    assert code_categories(pa.chunked_array([values]), ("a", "b")).tolist()[2] == 0.0


def test_the_matrix_of_a_table_is_that_of_its_batches() -> None:
    schema = Schema(
        "s",
        {"event_time": "t", "amount": "a"},
        (FeatureColumn("x"), FeatureColumn("c", "categorical")),
    )
    features = FeatureSet(schema, {"c": ("p", "q")})
    assert features.names == ("x", "c", "amount", "is_weekend", "is_night")
    assert features.categorical == (1,)
    columns = {
        "event_time": pa.array([datetime(2024, 6, 1, 3, tzinfo=UTC), datetime(2024, 6, 3, 12)]),
        "amount": [1.5, 2.5],
        "x": [np.nan, 7.0],
        "c": pa.array(["q", None]),
    }
    columns["event_time"] = columns["event_time"].cast(EVENT_TIME)
    table = pa.table(columns)
    expected = [[np.nan, 1.0, 1.5, 1.0, 1.0], [7.0, np.nan, 2.5, 0.0, 0.0]]
    (batch,) = table.to_batches()
    matrix = feature_matrix(batch, features)
    assert matrix.flags.c_contiguous
    np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_array_equal(
        feature_matrix(pa.concat_tables([table] * 2), features)[2:], expected
    )
    assert feature_matrix(table[:0], features).shape == (0, 5)
    turned = FeatureSet(schema, {"c": ("p", "q")}, ("amount", "x"))
    np.testing.assert_array_equal(feature_matrix(batch, turned), matrix[:, [2, 0]])
    with pytest.raises(KeyError):
        feature_matrix(batch, FeatureSet(schema, order=("nothing",)))
