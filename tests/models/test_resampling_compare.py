"""Resamplers are compared on validation rows, and chance is not accepted as a gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import average_precision_score

from beam_fraud.models.examples import Examples, FoldRows, LabelledRows
from beam_fraud.models.folds import Fold
from beam_fraud.models.kinds import ModelKind, model_kind
from beam_fraud.models.metrics import WeightedPrecision, gain_interval
from beam_fraud.models.resampling import RESAMPLERS, Resampled, Resampler, candidates, resampler
from beam_fraud.models.resampling.compare import compare
from beam_fraud.schema.schema import Schema


def test_average_precision_under_weights_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    labels = (random.random(500) < 0.2).astype(np.int8)
    scores = np.round(random.random(500) + 0.3 * labels, 2)  # with ties
    weights = random.integers(0, 4, 500)
    assert WeightedPrecision(labels, scores)(weights) == pytest.approx(
        average_precision_score(labels, scores, sample_weight=weights)
    )


def test_a_gain_is_distinguished_from_chance() -> None:
    random = np.random.default_rng(0)
    labels = (np.arange(2000) % 20 == 0).astype(np.int8)
    weak, other = (labels + random.normal(0, 1, 2000) for _ in range(2))
    strong = labels + 0.2 * random.normal(0, 1, 2000)
    low, high = gain_interval([labels], [weak], [other], 0)
    assert low < 0 < high
    low, high = gain_interval([labels], [weak], [strong], 0)
    assert 0 < low < high
    assert gain_interval([labels] * 2, [weak] * 2, [weak] * 2, 0) == (0.0, 0.0)


@dataclass(frozen=True)
class Guess(ModelKind):
    """Random scores."""

    name: ClassVar[str] = "guess"

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        return DummyClassifier(strategy="prior")

    def validate(self, train: LabelledRows, valid: LabelledRows, seed: int) -> Any:
        return self, np.random.default_rng(2).random(len(valid.labels))


@dataclass(frozen=True)
class Planted(Resampler):
    """Moves the scores of validation rows by a fixed amount towards the labels."""

    name: ClassVar[str] = "planted"
    effect: ClassVar[str] = "none"
    pull: float = 0.0

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        return rows

    def validate(
        self, kind: ModelKind, train: Any, resampled: Any, valid: LabelledRows, seed: int
    ) -> Any:
        noise = np.random.default_rng(1).random(len(valid.labels))
        return kind, (1 - self.pull) * noise + self.pull * valid.labels


def in_folds(folds: int = 1) -> FoldRows:
    """Six hundred transactions; the last two hundred rows of each fold validate."""
    frauds = np.arange(600) % 20 == 0
    times = pa.array(np.arange(600) * 60_000_000, pa.timestamp("us", "UTC"))
    amounts = np.random.default_rng(0).lognormal(3, 1, 600) * (1 + 2 * frauds)
    table = pa.table({"event_time": times, "amount": amounts})
    schema = Schema("plain", {"event_time": "event_time", "amount": "amount"})
    examples = Examples(table, frauds.astype(np.int8), schema)
    fold = Fold(np.arange(400), np.arange(400, 600))
    return FoldRows(examples, (fold,) * folds)


@pytest.mark.parametrize("folds", [1, 2])
def test_a_resampler_is_chosen_only_if_it_is_clearly_better(folds: int) -> None:
    useless, good, best = Planted(), Planted(pull=0.2), Planted(pull=0.9)
    impossible = resampler("under=0.01")
    chosen, tried = compare(Guess(), (useless, impossible), in_folds(folds), 0)
    assert chosen.kind == Guess()
    assert [line.chosen for line in tried] == [True, False, False]
    assert "already have" in tried[2].reason
    assert tried[2].average_precision is None

    chosen, tried = compare(Guess(), (good, best, useless), in_folds(folds), 0)
    assert isinstance(chosen.kind, Resampled)
    assert chosen.kind.resampler is best
    assert [line.chosen for line in tried] == [False, False, True, False]
    assert tried[1].gain
    assert tried[1].gain[0] > 0


def test_all_ways_are_compared() -> None:
    kind = model_kind("hist_gradient_boosting", ("trees=5",))
    rows = in_folds()
    _, tried = compare(kind, candidates("compare"), rows, 0)
    assert [line.resample.split("=")[0] for line in tried] == ["none", *RESAMPLERS]
    assert sum(line.chosen for line in tried) == 1
    assert all(line.average_precision or line.reason for line in tried)
    fitted_on = {line.resample: (line.rows, line.frauds) for line in tried}
    assert fitted_on["none"] == (400, 20)
    assert fitted_on["under=0.1"] == (220, 20)
    assert fitted_on["smote=0.1"] == (418, 38)


def test_the_slowest_resampler_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_fraud.models.resampling.compare.MOST_COMPARED", 399)
    _, tried = compare(Guess(), (RESAMPLERS["smote-enn"], Planted()), in_folds(), 0)
    assert "every pair of 400 rows" in tried[1].reason
    assert not tried[2].reason
