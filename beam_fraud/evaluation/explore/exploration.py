"""The exploration of a table of transactions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from beam_fraud.evaluation.explore.advice import Advice, Holdout, advice, holdout
from beam_fraud.evaluation.explore.correlation import Correlation, correlation
from beam_fraud.evaluation.explore.counts import (
    Balance,
    Category,
    Holders,
    OverTime,
    amount_bands,
    balance,
    categories,
    holders,
    over_time,
)
from beam_fraud.evaluation.explore.features import (
    Distribution,
    Numbers,
    Separation,
    category_separation,
    distribution,
    numbers,
    separation,
)
from beam_fraud.evaluation.explore.leakage import Suspect, suspects
from beam_fraud.evaluation.explore.quality import Duplicates, Missing, duplicates, missing_values
from beam_fraud.evaluation.explore.rows import Floats, Rate, Rows, explored_rows
from beam_fraud.features.dataset import Dataset
from beam_fraud.monitoring.activity import doing
from beam_fraud.schema.event_time import event_micros, moment_of
from beam_fraud.schema.presets import PRESETS
from beam_fraud.schema.schema import Schema


@dataclass(frozen=True)
class Exploration:
    """The results of an exploration, on valid transactions unless stated otherwise."""

    #: Rows of the files.
    rows_in: int
    #: Dead letters by reason.
    dead_reasons: dict[str, int]
    #: Rows that repeat an id of the same file.
    rows_duplicate: int
    #: Records of deleted rows, and of rows that were changed after their insertion.
    rows_tombstone: int
    rows_correction: int
    #: First and last event time, ISO 8601, UTC.
    span: tuple[str, str]
    #: Names of the features, in the order of a model's block.
    features: tuple[str, ...]
    #: The classes.
    balance: Balance
    #: Accounts and merchants.
    holders: tuple[Holders, ...]
    #: Absent values by column.
    missing: tuple[Missing, ...]
    #: Equal rows.
    duplicates: Duplicates
    #: By hour, weekday and day.
    over_time: OverTime
    #: By amount.
    amounts: tuple[Rate, ...]
    #: Each numeric feature.
    numbers: tuple[Numbers, ...]
    #: Distributions by class; without features that have no value.
    distributions: tuple[Distribution, ...]
    #: Columns of text.
    categories: tuple[Category, ...]
    #: Separation of the classes by each feature alone, best average precision first.
    separations: tuple[Separation, ...]
    #: Correlations of features.
    correlation: Correlation
    #: Features suspected of leakage.
    suspects: tuple[Suspect, ...]
    #: Proposed split by time; None if impossible.
    holdout: Holdout | None
    #: Advice.
    advice: tuple[Advice, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the results as JSON-compatible values."""
        return asdict(self)


def explore(dataset: Dataset, schema: Schema) -> Exploration:
    """Explore the transactions of a data set with at least one row.

    Args:
      dataset: result of `load_dataset` with optional labels.
      schema: the schema of the files.
    """
    rows = explored_rows(dataset.transactions, schema)
    described, distributions, separations = _numeric(rows)
    separations += [
        separation
        for name in rows.categorical
        if (separation := category_separation(name, rows.texts(name), rows))
    ]
    separations.sort(key=lambda separation: -separation.average_precision)
    missing = missing_values(rows, dataset.dead_missing)
    texts = categories(rows)
    together = correlation(rows)
    suspected = suspects(rows, described, texts, missing, separations, together)
    # A preset's own features are known in time: never advise against them.
    preset = schema == PRESETS.get(schema.name)
    doubted = [s for s in suspected if s.kind == "absence predicts" or not preset]
    counted, split, equal = balance(rows), holdout(rows), duplicates(rows)
    who, when = holders(rows), over_time(rows)
    times = event_micros(rows.transactions)
    return Exploration(
        rows_in=dataset.rows_in,
        dead_reasons=dataset.dead_reasons,
        rows_duplicate=dataset.rows_duplicate,
        rows_tombstone=dataset.rows_tombstone,
        rows_correction=dataset.rows_correction,
        span=(moment_of(int(times[0])).isoformat(), moment_of(int(times[-1])).isoformat()),
        features=rows.features.names,
        balance=counted,
        holders=who,
        missing=missing,
        duplicates=equal,
        over_time=when,
        amounts=amount_bands(rows),
        numbers=tuple(described),
        distributions=tuple(distributions),
        categories=texts,
        separations=tuple(separations),
        correlation=together,
        suspects=suspected,
        holdout=split,
        advice=advice(counted, split, equal, who, doubted, when),
    )


def _numeric(rows: Rows) -> tuple[list[Numbers], list[Distribution], list[Separation]]:
    """Describe each numeric feature, one at a time, because there may be hundreds."""
    described, distributions, separations = (
        list[Numbers](),
        list[Distribution](),
        list[Separation](),
    )
    labelled = rows.fraud | rows.genuine
    all_labelled = bool(labelled.all())
    with doing("looking at features", lambda: f"{len(described)} of {len(rows.numeric)}"):
        for name in rows.numeric:
            values = rows.numbers(name)
            present = _ordered(values)
            described.append(numbers(name, present))
            if (spread := distribution(name, values, present, rows)) is not None:
                distributions.append(spread)
            if rows.both_classes:
                known = present if all_labelled else _ordered(values[labelled])
                if (separated := separation(name, known, _ordered(values[rows.fraud]))) is not None:
                    separations.append(separated)
    return described, distributions, separations


def _ordered(values: Floats) -> Floats:
    """Return the present values, sorted."""
    ordered = np.sort(values)
    # NaN sorts last.
    return ordered[: len(ordered) - int(np.isnan(values).sum())]
