"""The choice of a row's reasons among its features."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from beam_fraud.decisions.reasons.reasons import choose


def chosen(contributions: list[float], most: int = 5) -> list[int]:
    (result,) = choose(np.array([contributions], dtype=float), most).tolist()
    return [feature for feature in result if feature >= 0]


def test_the_largest_contribution_comes_first() -> None:
    assert chosen([0.3, 3.0, -9.0, 1.0, 0.5]) == [1, 3, 4, 0]


def test_after_three_only_contributions_of_a_twentieth_are_reasons() -> None:
    assert chosen([10.0, 0.1, 0.1, 0.1, 0.1]) == [0, 1, 2]
    assert chosen([1.0, 1.0, 1.0, 0.2, 0.1]) == [0, 1, 2, 3]


def test_at_most_the_requested_number() -> None:
    assert chosen([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], most=4) == [0, 1, 2, 3]
    assert chosen([1.0, 2.0, 3.0], most=1) == [2]


def test_features_that_lowered_the_score_fill_up_to_three() -> None:
    assert chosen([0.5, -0.1, -2.0, 0.0]) == [0, 2, 1]


def test_a_zero_contribution_is_no_reason() -> None:
    assert chosen([0.0, 0.5, 0.0, 0.0]) == [1]
    assert chosen([0.0, 0.0]) == []


def test_of_equal_contributions_the_first_feature_comes_first() -> None:
    assert chosen([1.0, 2.0, 1.0, 2.0, 1.0]) == [1, 3, 0, 2, 4]


@given(arrays(float, (4, 6), elements=st.floats(-5, 5)), st.integers(1, 10))
def test_rows_do_not_depend_on_each_other(contributions: np.ndarray, most: int) -> None:
    together = choose(contributions, most)
    assert together.shape[1] == min(most, 6)
    alone = [choose(contributions[i : i + 1], most)[0] for i in range(4)]
    np.testing.assert_array_equal(together, alone)
    there = together >= 0
    assert (there[:, :-1] | ~there[:, 1:]).all(), "none after a gap"
