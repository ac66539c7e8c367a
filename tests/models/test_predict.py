from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from beam_fraud.models.predict import TIMED_ROWS, microseconds_per_row, predict_scores

X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0], [3.0, 2.0]])
Y = [0, 0, 1, 1]


def test_scores_are_the_probability_of_the_second_class() -> None:
    model = LogisticRegression().fit(X, Y)
    scores = predict_scores(model, X)
    assert np.array_equal(scores, model.predict_proba(X)[:, 1])
    assert scores.flags.c_contiguous


def test_a_model_of_named_columns_takes_plain_rows_without_a_warning() -> None:
    model = LogisticRegression().fit(pd.DataFrame(X, columns=["a", "b"]), Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_scores(model, X)


def test_a_prediction_is_timed_on_one_block() -> None:
    class Slow:
        def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
            rows.append(len(matrix))
            return np.zeros((len(matrix), 2))

    rows: list[int] = []
    assert microseconds_per_row(Slow(), np.zeros((TIMED_ROWS + 1, 2))) >= 0
    assert set(rows) == {TIMED_ROWS}


class Busy:
    """Takes a number of microseconds of processor time per row, and counts the rows."""

    def __init__(self, microseconds: float) -> None:
        self._seconds = microseconds / 1e6
        self.rows = 0

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        self.rows += len(matrix)
        end = time.thread_time() + self._seconds * len(matrix)
        while time.thread_time() < end:
            pass
        return np.zeros((len(matrix), 2))


@pytest.mark.parametrize(("cost", "part"), [(100.0, 2 / 16), (6.0, 2 / 16 + 2 / 4)])
def test_a_model_over_the_bound_is_timed_on_few_rows(cost: float, part: float) -> None:
    model = Busy(cost)
    assert microseconds_per_row(model, np.zeros((1_600, 2)), bound=1.0) >= cost
    assert model.rows == 1_600 * part


def test_a_model_under_the_bound_is_timed_on_all_rows_once() -> None:
    model = Busy(1.0)
    assert 1.0 <= microseconds_per_row(model, np.zeros((1_600, 2)), bound=1_000.0) < 1_000.0
    assert model.rows == 1_600 * (2 / 16 + 2 / 4 + 1)


def test_a_first_call_that_takes_long_refuses_nobody() -> None:
    class Lazy(Busy):
        def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
            scores = super().predict_proba(matrix)
            self._seconds = 1e-6
            return scores

    assert microseconds_per_row(Lazy(5_000.0), np.zeros((1_600, 2)), bound=50.0) < 50.0
