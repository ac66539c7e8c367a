"""Properties of single kinds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import KINDS, model_kind
from beam_fraud.models.kinds.boosting import Boosting
from beam_fraud.models.predict import predict_scores
from tests.failing import fails
from tests.models.test_kinds_contract import rows
from tests.one_thread import one_thread

pytestmark = pytest.mark.usefixtures("_one_thread")
BOOSTING = [name for name, kind in KINDS.items() if isinstance(kind, Boosting)]


@pytest.fixture(scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("name", BOOSTING)
def test_boosting_chooses_the_number_of_trees_on_later_rows(name: str) -> None:
    def chosen(*settings: str) -> int:
        kind, _ = model_kind(name, ["trees=40", *settings]).validate(rows(), rows(seed=1), seed=0)
        assert isinstance(kind, Boosting)
        return kind.trees

    assert chosen("tolerance=1.0") == 1
    assert 1 < chosen("tolerance=0.02") <= chosen("tolerance=0.0") <= 40


@pytest.mark.parametrize("name", BOOSTING)
def test_the_first_trees_score_as_a_model_of_so_many(name: str) -> None:
    kind = model_kind(name, ["trees=12"])
    assert isinstance(kind, Boosting)
    model = kind.fit(rows(), seed=0)
    few = model_kind(name, ["trees=5"]).fit(rows(), seed=0)
    result = kind.scores_of_first(5, model, rows(seed=1).matrix)
    assert np.allclose(result, predict_scores(few, rows(seed=1).matrix))
    stages = [stage.copy() for stage in kind.stages(model, rows(seed=1).matrix)]
    assert len(stages) == 12
    # Their order is that of the scores, but for what single precision can't tell apart.
    order = np.argsort(stages[4], kind="stable")
    assert (np.diff(result[order]) > -1e-6).all()


@pytest.mark.parametrize("name", BOOSTING)
@pytest.mark.parametrize("categories", [254, 255, 256, 400])
def test_boosting_takes_any_number_of_categories(name: str, categories: int) -> None:
    codes = np.arange(12_000, dtype=float) % categories
    labels = (codes < 40).astype(np.int8)
    model = model_kind(name, ["trees=5"]).fit(LabelledRows(codes[:, None], labels, (0,)), seed=0)
    known, other, unknown, absent = predict_scores(
        model, np.array([[7.0], [100.0], [float(categories)], [np.nan]])
    )
    assert known > other
    assert np.isfinite([unknown, absent]).all()


def test_categories_are_no_numbers_to_boosting() -> None:
    # Every other category is a fraud: no threshold tells them apart, one split by category does.
    codes = np.arange(4000, dtype=float) % 12
    labels = (codes % 2).astype(np.int8)
    for name in BOOSTING:
        one = model_kind(name, ["trees=1", "max_features=1.0"])
        scores = predict_scores(
            one.fit(LabelledRows(codes[:, None], labels, (0,)), 0), codes[:12, None]
        )
        assert scores[1::2].min() > scores[::2].max(), name


def test_an_mlp_lets_frauds_weigh_more() -> None:
    def mean_score(weight: str) -> float:
        kind = model_kind("mlp", ["epochs=5", f"fraud_weight={weight}"])
        return float(predict_scores(kind.fit(rows(), 0), rows(seed=1).matrix).mean())

    assert mean_score("20") > 1.5 * mean_score("1")


def test_an_unknown_kind_names_the_nearest() -> None:
    with fails(Code.MODEL_KIND, "did you mean forest", kind=UsageError):
        model_kind("forrest")
    with fails(Code.MODEL_KIND, "kinds: logistic, forest, extra_trees", kind=UsageError):
        model_kind("zzz")


@pytest.mark.parametrize(
    ("name", "setting"), [("forest", "trees=0"), ("xgboost", "depth=-3"), ("lightgbm", "leaves=1")]
)
def test_a_setting_that_the_library_refuses_is_one_line(name: str, setting: str) -> None:
    with fails(Code.MODEL_SETTING, f"--model {name}: ", kind=UsageError) as refused:
        model_kind(name, [setting]).fit(rows(), seed=0)
    assert "\n" not in str(refused.value)
