"""Class weights override those of the kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.class_weight import Balanced, with_class_weight
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import KINDS, model_kind
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.resampling import resampled
from tests.failing import fails

#: Kinds that have a weight of frauds, and a setting that makes them quick.
WEIGHTED = {"logistic": (), "forest": ("trees=10",), "hist_gradient_boosting": ("trees=10",)}


def rows(n: int = 400, seed: int = 0) -> LabelledRows:
    random = np.random.default_rng(seed)
    signal = random.normal(size=(n, 2))
    return LabelledRows(signal, (signal[:, 0] + random.normal(size=n) > 2).astype(np.int8))


def mean_score(kind: Any) -> float:
    return float(predict_scores(kind.fit(rows(), 0), rows(seed=1).matrix).mean())


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_heavier_fraud_makes_scores_larger(name: str) -> None:
    kind = model_kind(name, WEIGHTED[name])
    means = [mean_score(with_class_weight(kind, text)) for text in ("none", "3", "balanced")]
    assert means == sorted(means)
    assert means[0] < means[-1] - 0.05


@pytest.mark.parametrize("name", WEIGHTED)
def test_balanced_weighs_by_the_shares_of_the_rows(name: str) -> None:
    labelled = rows()
    frauds = int(labelled.labels.sum())
    kind = model_kind(name, WEIGHTED[name])
    balanced = with_class_weight(kind, "balanced")
    number = with_class_weight(kind, repr((len(labelled.labels) - frauds) / frauds))
    later = rows(seed=1).matrix
    one, same = (predict_scores(k.fit(labelled, 0), later) for k in (balanced, number))
    assert np.array_equal(one, same)
    assert balanced.settings["fraud_weight"] == "balanced"
    assert balanced.name == name


def test_balanced_rows_still_choose_the_number_of_trees() -> None:
    kind = with_class_weight(model_kind("hist_gradient_boosting", ["trees=20"]), "balanced")
    chosen, scores = kind.validate(rows(), rows(seed=1), 0)
    assert isinstance(chosen, Balanced)
    assert chosen.settings["trees"] <= 20
    assert np.allclose(scores, predict_scores(chosen.fit(rows(), 0), rows(seed=1).matrix))
    # Weights of the rows that choose are computed again for all rows.
    assert chosen.kind.settings["fraud_weight"] == 1.0


def test_every_kind_weighs_or_refuses_weights() -> None:
    for name, kind in KINDS.items():
        if name == "isolation_forest":
            with fails(
                Code.MODEL_SETTING,
                r"^--class-weight none: --model isolation_forest",
                kind=UsageError,
            ):
                with_class_weight(kind, "none")
        else:
            assert with_class_weight(kind, "none").settings != {}
            assert with_class_weight(kind, "balanced").name == name


def test_members_of_an_ensemble_are_weighed_each() -> None:
    kind = with_class_weight(model_kind("average:logistic+isolation_forest"), "7")
    assert kind.settings["logistic.fraud_weight"] == 7.0
    kind = resampled(with_class_weight(model_kind("average:logistic+forest"), "balanced"), "under")
    assert kind.settings["forest.fraud_weight"] == "balanced"
    assert kind.settings["forest.resample"] == "under=0.1"


@pytest.mark.parametrize("text", ["heavy", "0", "-1", "nan", "inf", ""])
def test_invalid_weights_are_refused(text: str) -> None:
    with fails(Code.OPTION_VALUE, "^--class-weight .*: .* none, balanced", kind=UsageError):
        with_class_weight(model_kind("forest"), text)


def test_keras_knows_balanced_or_not() -> None:
    kind = model_kind("keras")
    assert with_class_weight(kind, "none").settings["balanced"] is False
    with fails(Code.MODEL_SETTING, "none and balanced", kind=UsageError):
        with_class_weight(kind, "5")


def test_the_weights_of_a_kind_are_the_default() -> None:
    kind = model_kind("forest")
    assert with_class_weight(kind, None) is kind
