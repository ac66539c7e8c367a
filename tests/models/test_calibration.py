"""Maps from scores to probabilities, and what `train --calibrate` does with them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss

from beam_fraud.errors import Code
from beam_fraud.models.calibration import Calibrated, Isotonic, Method, Platt, learn_calibration
from beam_fraud.models.predict import check_classifier, predict_scores
from tests.failing import fails

METHODS: list[Method] = ["isotonic", "platt"]


def overconfident(n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores; a score of one half means one fraud in fifty rows."""
    random = np.random.default_rng(seed)
    odds = random.normal(-4, 1.5, n)
    labels = (random.random(n) < expit(odds)).astype(np.int8)
    return labels, expit(odds + 4)


@pytest.mark.parametrize("method", METHODS)
def test_scores_become_the_shares_of_fraud(method: Method) -> None:
    calibration = learn_calibration(method, *overconfident())
    labels, scores = overconfident(seed=1)
    mapped = calibration(scores)
    assert mapped.min() >= 0
    assert mapped.max() <= 1
    assert brier_score_loss(labels, mapped) < brier_score_loss(labels, scores) / 4
    high = mapped > np.quantile(mapped, 0.9)
    assert mapped[high].mean() == pytest.approx(labels[high].mean(), rel=0.15)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_scores_stays_and_so_does_average_precision(method: Method) -> None:
    calibration = learn_calibration(method, *overconfident())
    labels, scores = overconfident(seed=1)
    assert len(np.unique(calibration(scores))) == len(np.unique(scores))
    assert np.array_equal(np.argsort(calibration(scores)), np.argsort(scores))
    assert average_precision_score(labels, calibration(scores)) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )


def test_steps_alone_would_cost_average_precision() -> None:
    calibration = learn_calibration("isotonic", *overconfident())
    assert isinstance(calibration, Isotonic)
    labels, scores = overconfident(seed=1)
    steps = np.interp(scores, calibration.scores, calibration.probabilities)
    precision = average_precision_score(labels, scores)
    assert average_precision_score(labels, steps) < precision - 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_fall_with_fraud_are_refused(method: Method) -> None:
    labels, scores = overconfident()
    with fails(Code.TRAINING_FAILED, f"--calibrate {method}: "):
        learn_calibration(method, labels, 1 - scores)


def test_separable_scores_give_no_certainty() -> None:
    labels = np.repeat([0, 1], [990, 10]).astype(np.int8)
    platt = learn_calibration("platt", labels, np.linspace(0, 1, 1000))
    low, high = platt(np.array([0.0, 1.0]))
    assert 0 < low < 0.01
    assert 0.9 < high < 1


def test_a_calibrated_model_is_a_classifier_of_the_same_features() -> None:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(500, 3))
    labels = (matrix[:, 0] + random.normal(size=500) > 1).astype(np.int8)
    model = LogisticRegression().fit(matrix, labels)
    calibrated = Calibrated(model, Platt(2.0, -1.0))
    check_classifier(calibrated, 3)
    with fails(Code.MODEL_UNSUITED, "takes 3 features"):
        check_classifier(calibrated, 4)
    expected = Platt(2.0, -1.0)(predict_scores(model, matrix))
    assert np.array_equal(predict_scores(calibrated, matrix), expected)
