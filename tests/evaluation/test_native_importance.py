"""Models' own importances of features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from beam_fraud.evaluation.importance import NativeImportance, native_importance
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.reference import Reference
from beam_fraud.schema.presets import HANDBOOK

FEATURES = FeatureSet(HANDBOOK, order=("a", "b", "c"))
MATRIX = np.random.default_rng(0).normal(size=(300, 3))
LABELS = (MATRIX[:, 1] > 1).astype(np.int8)


def importance(model: Any) -> NativeImportance | None:
    return native_importance(model.fit(MATRIX, LABELS), FEATURES, Reference(), MATRIX)


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(5, random_state=0),
        make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)),
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
)
def test_forests_and_regressions_rank_the_predictive_feature_first(model: Any) -> None:
    result = importance(model)
    assert result is not None
    assert result.features[0][0] == "b"
    assert {name for name, _ in result.features} == {"a", "b", "c"}


@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingClassifier(max_iter=2),
        make_pipeline(PCA(3), RandomForestClassifier(5)),
        make_pipeline(PCA(3), LogisticRegression()),
    ],
)
def test_models_without_importances_have_none(model: Any) -> None:
    assert importance(model) is None
