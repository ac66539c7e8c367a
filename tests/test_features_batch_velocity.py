"""The batch engine against the slow reference."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.batch_velocity import batch_features
from beam_fraud.features.key_rows import Frauds, KeyRows
from tests.velocity_reference import SPECS, keyed_rows, reference

#: Slices of one row, of a few, and of all rows.
SLICES = st.sampled_from([1, 2, 5, 1000])


def assert_same(features: dict[str, np.ndarray], expected: dict[str, list[float]]) -> None:
    assert list(features) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(features[name], np.array(values, dtype=float), name)


@settings(deadline=None)
@given(keyed_rows(), SLICES)
def test_complete_data_give_what_the_definition_says(
    drawn: tuple[KeyRows, Frauds], slice_rows: int
) -> None:
    rows, frauds = drawn
    features = batch_features(rows, frauds, SPECS, slice_rows=slice_rows)
    assert_same(features, reference(rows, frauds, SPECS))


@settings(deadline=None)
@given(keyed_rows(), SLICES, st.randoms(use_true_random=False), st.booleans())
def test_a_row_sees_what_arrived_before_it(
    drawn: tuple[KeyRows, Frauds], slice_rows: int, random, shuffle: bool
) -> None:
    rows, frauds = drawn
    arrival = list(range(10, 10 + len(rows)))
    if shuffle:
        random.shuffle(arrival)
    arrived = np.array(arrival, dtype=np.int64)
    features = batch_features(rows, frauds, SPECS, arrived, slice_rows=slice_rows)
    assert_same(features, reference(rows, frauds, SPECS, arrival))
