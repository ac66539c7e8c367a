"""The published Keras recipe."""

from __future__ import annotations

import numpy as np

from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.keras import Keras
from beam_fraud.models.predict import predict_scores
from benchmarks.keras_recipe import Run, run, table


def rows(n: int, seed: int) -> LabelledRows:
    """A larger first number makes fraud more likely."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(n, 3))
    labels = random.random(n) < 1 / (1 + np.exp(4 - 2 * matrix[:, 0]))
    return LabelledRows(matrix, labels.astype(np.int8))


def test_the_recipe_reports_each_epochs_figures_on_unseen_rows() -> None:
    train, test, small = rows(400, 0), rows(200, 1), Keras(units=8, batch=128, epochs=3)
    result = run(train, test, 5, small)
    flagged = predict_scores(small.fit(train, 5), test.matrix) >= 0.5
    fraud = test.labels == 1
    assert (result.fitted_rows, result.rows, result.frauds) == (400, 200, fraud.sum())
    assert (result.tp, result.fp) == ((flagged & fraud).sum(), (flagged & ~fraud).sum())
    assert [epoch.epoch for epoch in result.epochs] == [1, 2, 3]
    assert (result.epochs[-1].tp, result.epochs[-1].fp) == (result.tp, result.fp)


def test_its_table_names_changes_of_the_recipe() -> None:
    good = Run(0, 227_846, 56_961, 75, 64, 500, 0.7, 60.0, ())
    wild = Run(1, 227_846, 56_961, 75, 70, 2_600, 0.7, 60.0, ())
    blind = Run(2, 227_846, 56_961, 75, 40, 10, 0.7, 60.0, ())
    assert table([good]).endswith("met")
    assert "0.853" in table([good])
    # 1,550 false alarms on average, then a recall of 0.693.
    assert table([good, wild]).endswith("missed")
    assert table([good, blind]).endswith("missed")
