"""Smallest and largest values of ranges."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.features.velocity.batch.window_aggregates import range_maxima, range_minima

VALUES = st.lists(st.integers(-5, 5), min_size=1, max_size=70)


@given(VALUES, st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=30))
def test_every_range_has_its_extremes(values: list[int], pairs: list[tuple[int, int]]) -> None:
    ends = sorted((min(a, len(values)), min(b, len(values))) for a, b in pairs)
    first = np.array([min(pair) for pair in ends], dtype=np.int64)
    behind = np.array([max(pair) for pair in ends], dtype=np.int64)
    parts = [values[a:b] for a, b in zip(first, behind, strict=True)]
    array = np.array(values)
    assert range_minima(array, first, behind).tolist() == [min(p, default=0) for p in parts]
    assert range_maxima(array, first, behind).tolist() == [max(p, default=0) for p in parts]
