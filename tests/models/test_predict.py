from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
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
