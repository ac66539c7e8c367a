"""The test week of the fraud-detection handbook: its models and those of beam-fraud.

Le Borgne, Siblini, Lebichot, Bontempi: "Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook" (ULB, 2022), https://github.com/Fraud-Detection-Handbook, chapters 3
to 5.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from beam_fraud.errors import extra_module
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.handbook import card_codes, card_precision, period_after, rows_to_test
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.threshold import MostF1
from beam_fraud.models.training import Recipe, train
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, micros_of, moment_of
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.schema import EVENT_TIME, Schema
from beam_fraud.storage.urls import Place
from benchmarks.results.lines import Column, Figures, Line, Section
from benchmarks.results.recipe import BundleRecipe
from benchmarks.results.recipes import DEFAULTS, MORE_DAYS
from benchmarks.results.recipes import HANDBOOK as BEST
from benchmarks.results.recipes import HANDBOOK_MORE_DAYS as MORE_DAYS_BEST

#: The end of the days that the handbook trains on, the seven before it.
UNTIL = datetime.fromisoformat("2018-08-01T00:00:00+00:00")
#: How many days that are.
TRAINING_DAYS = 7
COLUMNS = (
    Column("roc_auc", "ROC AUC"),
    Column("average_precision", "average precision"),
    Column("card_precision", "card precision@100"),
)
#: Published: ROC AUC, average precision, card precision@100.
PUBLISHED = {
    "logistic regression": (0.871, 0.606, 0.291),
    "random forest": (0.867, 0.658, 0.287),
    "XGBoost": (0.862, 0.639, 0.273),
}
FLOORS = (0.875, 0.68, 0.295)
AIMS = (0.89, 0.72, 0.31)
TEXT = """\
Simulated transactions of the handbook (Le Borgne, Siblini, Lebichot, Bontempi 2022). The models
are trained on 2018-07-25 to 07-31 and measured on 08-08 to 08-14, without the cards that are
known to be compromised by then. The handbook's models have its printed settings (otherwise the
defaults of their libraries) and its 15 features. The same protocol one, two and three weeks
earlier chose settings and features of the best bundle; the last fifth of its training rows chose
its threshold."""


@dataclass(frozen=True)
class Week:
    """Transactions around the end of training, with the features of a schema."""

    schema: Schema
    #: All rows from the first that is trained on to the last that is tested.
    transactions: pa.Table
    #: First moment after the training rows.
    until: datetime

    @property
    def training(self) -> pa.Table:
        """Return the training rows."""
        return self.transactions.filter(self._before)

    @property
    def tested(self) -> pa.Table:
        """Return the test rows of the protocol."""
        end = micros_of(self.until)
        # Of cards known from the handbook's seven days on, though more may be trained on.
        period = period_after(end - TRAINING_DAYS * DAY, end - 1)
        times = event_micros(self.transactions)
        labels = self.transactions.column("label").to_numpy()
        rows = rows_to_test(times, card_codes(self.transactions), labels, period)
        return self.transactions.filter(pa.array(rows))

    @property
    def _before(self) -> pa.ChunkedArray:
        return pc.less(self.transactions.column("event_time"), pa.scalar(self.until, EVENT_TIME))


def load_week(
    file: str, schema: Schema, until: datetime = UNTIL, days: int = TRAINING_DAYS
) -> Week:
    """Return the rows of a protocol that trains on the `days` before `until`.

    Args:
      file: the handbook's transactions.
      schema: which features they get.
      until: first moment after the training rows, the start of a day.
      days: how many are trained on.
    """
    end = micros_of(until)
    since, stop = moment_of(end - days * DAY), moment_of(end + 14 * DAY)
    dataset = load_dataset([Place.parse(file)], schema, since=since, until=stop)
    return Week(schema, dataset.transactions, until)


def figures(tested: pa.Table, scores: npt.NDArray[np.float64]) -> Figures:
    """Return the handbook's three figures of test rows by their float64[n] scores."""
    labels = np.asarray(tested.column("label").to_numpy(), dtype=np.int8)
    cards = card_precision(event_micros(tested), card_codes(tested), labels, scores)
    return {
        "roc_auc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
        "card_precision": cards or 0.0,
    }


def bundle_figures(week: Week, recipe: BundleRecipe, seed: int) -> Figures:
    """Train a bundle's model on the training rows, and measure it on the test rows."""
    trained = train(week.training, week.schema, Recipe(recipe.kind, MostF1(), seed=seed))
    tested = week.tested
    return figures(tested, predict_scores(trained.model, feature_matrix(tested, trained.features)))


def handbook_models() -> dict[str, Callable[[int], Any]]:
    """Return the classifiers of a seed by name, with the settings that the handbook prints."""
    xgboost = extra_module("xgboost", "the handbook's XGBoost")
    return {
        "logistic regression": lambda seed: LogisticRegression(random_state=seed),
        "random forest": lambda seed: RandomForestClassifier(random_state=seed, n_jobs=-1),
        # The defaults of XGBoost 1, with which the handbook was written; later ones draw histograms
        # and start from the share of frauds, which gives 0.838 / 0.563 / 0.246 here.
        "XGBoost": lambda seed: xgboost.XGBClassifier(
            tree_method="exact", base_score=0.5, random_state=seed, n_jobs=-1
        ),
    }


def handbook_figures(week: Week, model: Any) -> Figures:
    """Fit one of the handbook's models behind a scaler, as the handbook does, and measure it."""
    features = FeatureSet(week.schema)
    training, tested = week.training, week.tested
    labels = np.asarray(training.column("label").to_numpy(), dtype=np.int8)
    fitted = make_pipeline(StandardScaler(), model)
    fitted.fit(feature_matrix(training, features), labels)
    return figures(tested, predict_scores(fitted, feature_matrix(tested, features)))


def section(folder: Path, seeds: int) -> Section:
    """Return the section.

    Args:
      folder: where the transactions are.
      seeds: how many, from 0 on.
    """
    start = time.perf_counter()
    file = str(folder / "handbook_transactions.parquet")
    names = [column.name for column in COLUMNS]
    week = load_week(file, HANDBOOK)
    lines = [
        Line(
            f"{name}, the handbook's settings",
            tuple(handbook_figures(week, model(seed)) for seed in range(seeds)),
            published=dict(zip(names, PUBLISHED[name], strict=True)),
        )
        for name, model in handbook_models().items()
    ]
    for kind in DEFAULTS:
        recipe = BundleRecipe(kind, kind, schema="handbook")
        runs = tuple(bundle_figures(week, recipe, seed) for seed in range(seeds))
        lines.append(Line(f"`--model {kind}`", runs))
    for recipe, days in ((BEST, TRAINING_DAYS), (MORE_DAYS_BEST, MORE_DAYS)):
        bounded = recipe is BEST
        week = load_week(file, recipe.load_schema(), days=days)
        runs = tuple(bundle_figures(week, recipe, seed) for seed in range(seeds))
        lines.append(
            Line(
                recipe.title,
                runs,
                floors=dict(zip(names, FLOORS, strict=True)) if bounded else {},
                aims=dict(zip(names, AIMS, strict=True)) if bounded else {},
                command=recipe.command(Path(file).name),
            )
        )
    seconds = round(time.perf_counter() - start, 1)
    return Section("handbook", "Handbook: the published week", TEXT, COLUMNS, tuple(lines), seconds)
