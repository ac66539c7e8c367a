"""Features suspected of leakage, or of carrying no information."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from beam_fraud.evaluation.charts import percent
from beam_fraud.evaluation.explore.correlation import Correlation
from beam_fraud.evaluation.explore.counts import Category
from beam_fraud.evaluation.explore.features import Numbers, Separation
from beam_fraud.evaluation.explore.quality import Missing
from beam_fraud.evaluation.explore.rows import Rows

Kind = Literal["predicts alone", "absence predicts", "id", "time", "constant", "known later"]

#: Figures from which a single feature predicts suspiciously well.
_AUC, _AVERAGE_PRECISION, _ABSENCE_AUC = 0.98, 0.9, 0.9
#: Minimum frauds and rows: fewer may show anything by chance.
_LEAST_FRAUDS, _LEAST_ROWS = 10, 100
#: Share of distinct values from which integers, and texts, look like ids.
_UNIQUE_NUMBERS, _UNIQUE_TEXTS = 0.95, 0.5
#: Rank correlation with event time from which a feature counts as time.
_TIME = 0.95
#: Share of rows with one value from which a feature counts as constant.
_CONSTANT = 0.9999
#: Word prefixes in names of columns known only after a case is closed.
_LATER = (
    *("chargeback", "dispute", "refund", "revers", "investigat", "confirm", "verdict", "outcome"),
    *("resol", "settle", "label", "fraud", "scenario", "blocked", "closed", "reported", "claim"),
)


@dataclass(frozen=True)
class Suspect:
    """A feature to check before training."""

    #: Name of the feature.
    feature: str
    #: The suspicion.
    kind: Kind
    #: The evidence, in a sentence.
    why: str


def suspects(
    rows: Rows,
    described: Sequence[Numbers],
    texts: Sequence[Category],
    missing: Sequence[Missing],
    separations: Sequence[Separation],
    together: Correlation,
) -> tuple[Suspect, ...]:
    """Check the results on features; worst first, one reason per kind and feature."""
    features = set(rows.features.names)
    return (
        *_predict_alone(separations),
        *_absence(missing, features, int(rows.fraud.sum())),
        *_known_later(rows),
        *_time(described, together),
        *_ids(described, texts, len(rows)),
        *_constants(described, texts, len(rows)),
    )


def _predict_alone(separations: Sequence[Separation]) -> Iterator[Suspect]:
    for separation in separations:
        if separation.frauds < _LEAST_FRAUDS:
            continue
        if separation.roc_auc >= _AUC or separation.average_precision >= _AVERAGE_PRECISION:
            yield Suspect(
                separation.feature,
                "predicts alone",
                f"alone it has a ROC AUC of {separation.roc_auc:.3f} and an average precision of "
                f"{separation.average_precision:.3f}; is it known when the transaction is made?",
            )


def _absence(missing: Sequence[Missing], features: set[str], frauds: int) -> Iterator[Suspect]:
    for column in missing:
        if column.column not in features or frauds < _LEAST_FRAUDS or column.roc_auc is None:
            continue
        if column.roc_auc >= _ABSENCE_AUC:
            yield Suspect(
                column.column,
                "absence predicts",
                f"whether it is there has a ROC AUC of {column.roc_auc:.3f}; is it filled in once "
                "a case is opened?",
            )


def _known_later(rows: Rows) -> Iterator[Suspect]:
    schema = rows.features.schema
    for feature in schema.features:
        words = re.sub(r"([a-z])([A-Z])", r"\1 \2", feature.column).lower()
        later = [word for word in re.split(r"[^a-z]+", words) if word.startswith(_LATER)]
        if later:
            yield Suspect(
                feature.column,
                "known later",
                f"its name says {later[0]!r}, which is known only after the transaction",
            )
        elif feature.column == schema.role("labelled_at"):
            yield Suspect(feature.column, "known later", "it says when the label was known")


def _time(described: Sequence[Numbers], together: Correlation) -> Iterator[Suspect]:
    for numbers in described:
        coefficient = together.with_time(numbers.feature)
        if coefficient is not None and abs(coefficient) >= _TIME and together.rows >= _LEAST_ROWS:
            yield Suspect(
                numbers.feature,
                "time",
                f"its rank correlation with event time is {coefficient:.3f}: later rows will "
                "have values that no training row has",
            )


def _ids(described: Sequence[Numbers], texts: Sequence[Category], rows: int) -> Iterator[Suspect]:
    for numbers in described:
        unique = numbers.distinct >= _UNIQUE_NUMBERS * max(numbers.present, 1)
        if numbers.whole and unique and numbers.present >= _LEAST_ROWS:
            yield Suspect(numbers.feature, "id", _unique(numbers.distinct, numbers.present))
    for text in texts:
        if text.feature and text.distinct >= _UNIQUE_TEXTS * rows and rows >= _LEAST_ROWS:
            yield Suspect(text.column, "id", _unique(text.distinct, rows))


def _unique(distinct: int, rows: int) -> str:
    return f"{distinct:,} different values in {rows:,} rows: a model can only learn them by heart"


def _constants(
    described: Sequence[Numbers], texts: Sequence[Category], rows: int
) -> Iterator[Suspect]:
    """If a value is sometimes absent, its presence may carry information."""
    for numbers in described:
        share = (numbers.most_frequent_share or 0.0) * numbers.present / rows
        if not numbers.present or (share >= _CONSTANT and rows >= _LEAST_ROWS):
            yield Suspect(numbers.feature, "constant", _constant(share))
    for text in texts:
        share = text.values[0].rows / rows if text.distinct else 0.0
        constant = not text.distinct or (share >= _CONSTANT and rows >= _LEAST_ROWS)
        if text.feature and constant:
            yield Suspect(text.column, "constant", _constant(share))


def _constant(share: float) -> str:
    if not share:
        return "no row has a value"
    return (
        f"{'every row has' if share == 1 else f'{percent(share)} of the rows have'} the same value"
    )
