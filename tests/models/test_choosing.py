from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pytest

from beam_fraud.models.choosing import choose, settle
from beam_fraud.models.examples import FoldRows, LabelledRows
from beam_fraud.models.folds import Fold, block_begins, chained_folds, fold_figures, summary
from beam_fraud.models.handbook import card_precision
from beam_fraud.models.kinds import ModelKind, model_kind
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema.duration import DAY
from tests.hourly import examples, hourly
from tests.spying import SpyingModel

HOURLY = examples(hourly())
TIMES = np.asarray(HOURLY.transactions.column("event_time").cast("int64"))
FOLDS = FoldRows(HOURLY, chained_folds(TIMES, block_begins(TIMES, 3, None, 0), 0).folds)


@dataclass(frozen=True)
class Fickle(ModelKind):
    """Chooses other settings in each fold: one for each hundred training rows."""

    name: ClassVar[str] = "fickle"
    hundreds: int = 0
    share: float = 0.0
    on: bool = True
    word: str = ""
    parts: tuple[Any, ...] = ()

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        raise NotImplementedError

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        return SpyingModel(self.hundreds / 10)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        chosen = replace(self, hundreds=len(train.labels) // 100)
        return chosen, predict_scores(chosen.fit(train, seed), valid.matrix)


def test_scores_are_those_of_the_settings_of_all_folds() -> None:
    messages: list[tuple[int, float]] = []
    chosen = choose(Fickle(), FOLDS, 0, after=lambda fold, figure: messages.append((fold, figure)))
    # Fitted on 144, 288 and 432 rows.
    assert chosen.kind.hundreds == 2  # type: ignore[attr-defined]
    for (train, valid), scores in zip(FOLDS, chosen.scores, strict=True):
        assert np.array_equal(scores, predict_scores(chosen.kind.fit(train, 0), valid.matrix))
    assert [fold for fold, _ in messages] == [0, 1, 2]
    assert messages[1][1] == chosen.average_precision[1]
    assert messages[0][1] != chosen.average_precision[0]
    assert chosen.mean == pytest.approx(np.mean(chosen.average_precision))


def test_folds_choose_the_median() -> None:
    kinds = [
        Fickle(1, 0.1, True, "a", (0.2, Fickle(7))),
        Fickle(9, 0.2, False, "b", (0.4, Fickle(5))),
        Fickle(4, 0.9, False, "b", (0.3, Fickle(6))),
        Fickle(5, 0.3, True, "c", (0.3, Fickle(6))),
    ]
    assert settle(kinds) == Fickle(4, 0.25, True, "c", (0.3, Fickle(6)))
    assert settle(kinds[:1]) == kinds[0]


def test_each_fold_has_figures_of_its_own_rows() -> None:
    times = np.array([0, DAY, DAY + 1, DAY + 2, 2 * DAY])
    labels = np.array([1, 0, 1, 0, 1], dtype=np.int8)
    cards = np.array([0, 1, 2, 1, 0])
    fold = Fold(np.array([0]), np.array([1, 2, 3, 4]), unlabelled=2, known=1)
    scores = np.array([0.1, 0.9, 0.2, 0.15])
    figures = fold_figures(fold, times, labels, scores, cards)
    assert (figures.rows_train, figures.rows_valid, figures.frauds) == (1, 4, 2)
    assert (figures.rows_unlabelled, figures.rows_known_cards) == (2, 1)
    assert figures.validated_on == ("1970-01-02T00:00:00+00:00", "1970-01-03T00:00:00+00:00")
    assert figures.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert figures.roc_auc == pytest.approx(3 / 4)
    expected = card_precision(times[1:], cards[1:], labels[1:], scores)
    assert figures.card_precision_at_100 == expected == (0.01 + 0.01) / 2


def test_the_spread_is_between_folds() -> None:
    fold = Fold(np.array([0]), np.array([1, 2, 3]))
    labels, times = np.array([0, 1, 0, 0], dtype=np.int8), np.arange(4)
    good, bad = np.array([1.0, 0.0, 0.0]), np.array([0.5, 1.0, 0.0])
    both = tuple(fold_figures(fold, times, labels, scores, None) for scores in (good, bad))
    result = summary(both)
    assert [of["average_precision"] for of in result["folds"]] == [1.0, 0.5]
    assert result["average_precision"] == {"mean": 0.75, "spread": pytest.approx(0.5**0.5 / 2)}
    assert "card_precision_at_100" not in result
    assert summary(both[:1])["roc_auc"] == {"mean": 1.0, "spread": None}


def test_rows_that_stand_for_others_count_as_often_where_settings_are_chosen() -> None:
    random = np.random.default_rng(5)

    def rows(count: int) -> LabelledRows:
        # Two kinds of fraud: one is clear, the other one needs more trees.
        matrix = random.normal(size=(count, 4))
        clear = matrix[:, 0] > 2.2
        hidden = (matrix[:, 1] > 1.2) & (matrix[:, 2] > 1.2)
        return LabelledRows(matrix, (clear | hidden).astype(np.int8))

    train, valid = rows(3000), rows(2000)
    weights = np.where((valid.labels == 1) & (valid.matrix[:, 1] > 1.2), 20, 1)
    weighted = replace(valid, weights=weights)
    repeated = LabelledRows(
        np.repeat(valid.matrix, weights, axis=0), np.repeat(valid.labels, weights)
    )
    kind = model_kind("hist_gradient_boosting", ["trees=60"])
    chosen, scores = kind.validate(train, weighted, 0)
    assert chosen.settings["trees"] == kind.validate(train, repeated, 0)[0].settings["trees"]
    assert chosen.settings["trees"] != kind.validate(train, valid, 0)[0].settings["trees"]
    assert len(scores) == len(valid.labels)
    assert weighted.average_precision(scores) == pytest.approx(
        repeated.average_precision(np.repeat(scores, weights))
    )
    some = np.array([3, 5, 8])
    assert weighted.take(some).weights is not None
    stand_for = replace(HOURLY, repeats=np.arange(len(HOURLY.labels)))
    features, fitted = stand_for.learn(some)
    assert (len(fitted.labels), fitted.weights) == (16, None)
    weights_of_some = stand_for.rows(some, features).weights
    assert weights_of_some is not None
    assert weights_of_some.tolist() == [3, 5, 8]
