from __future__ import annotations

import numpy as np
import pytest

from beam_fraud.models.metrics import measure

SCORES = np.array([0.9, 0.7, 0.5, 0.1])


def test_figures_of_a_known_case() -> None:
    metrics = measure(np.array([1, 0, 1, 0], dtype=np.int8), SCORES, 0.5)
    assert metrics.confusion == {"tn": 1, "fp": 1, "fn": 0, "tp": 2}
    assert metrics.precision == pytest.approx(2 / 3)
    assert metrics.recall == 1
    assert metrics.f1 == pytest.approx(0.8)
    # Precision is 1 at the first fraud and 2/3 at the second.
    assert metrics.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.roc_auc == pytest.approx(0.75)
    assert metrics.per_class["genuine"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "rows": 2,
    }


def test_a_score_at_the_threshold_is_flagged() -> None:
    labels = np.array([0, 0, 0, 1], dtype=np.int8)
    assert measure(labels, SCORES, 0.1).confusion["tp"] == 1
    assert measure(labels, SCORES, np.nextafter(0.1, 1)).confusion["tp"] == 0


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_have_undefined_figures(label: int) -> None:
    metrics = measure(np.full(4, label, dtype=np.int8), SCORES, 0.6)
    assert metrics.average_precision is None
    assert metrics.roc_auc is None
    assert metrics.recall == (0.5 if label else None)
    assert metrics.per_class["fraud" if label else "genuine"]["rows"] == 4


def test_precision_is_unknown_where_nothing_is_flagged() -> None:
    metrics = measure(np.array([1, 0, 0, 0], dtype=np.int8), SCORES, 0.95)
    assert metrics.precision is None
    assert metrics.recall == 0
    assert metrics.f1 == 0
