"""Train, evaluate and explore in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.bootstrap import Interval, bootstrap
from beam_fraud.evaluation.candidate import candidate_of
from beam_fraud.evaluation.explore.exploration import Exploration
from beam_fraud.evaluation.explore.exploration import explore as explore_dataset
from beam_fraud.evaluation.holdout import evaluated_rows
from beam_fraud.features.dataset import load_dataset, mixed_currencies
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.fitting import Rows, fit_bundle
from beam_fraud.models.kinds import model_kind
from beam_fraud.models.manifest import model_name
from beam_fraud.models.metrics import Metrics, measure
from beam_fraud.models.threshold import parse_threshold
from beam_fraud.models.training import Recipe
from beam_fraud.pipeline.frames.rows import (
    Transactions,
    bundle_of,
    history_of,
    moment_of,
    names_of,
    schema_of,
    source_of,
    warn,
)
from beam_fraud.schema.schema import Labels, Schema


def train(  # noqa: PLR0913  a notebook names what it means
    transactions: Transactions,
    *,
    schema: Schema | str | Path,
    model: str = "hist_gradient_boosting",
    settings: Mapping[str, object] | None = None,
    history: Transactions | None = None,
    threshold: str = "f1",
    valid_from: datetime | str | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Bundle:
    """Train a model as `beam-fraud train` does: later rows choose settings, then fit on all.

    Args:
      transactions: labelled rows: a data frame, an Arrow table, or paths, directories or globs of
        files. The order does not matter.
      schema: a schema, the name of a preset or a TOML file.
      model: a kind, such as `logistic` or `hist_gradient_boosting`.
      settings: settings of the kind that replace its defaults, such as `{"trees": 50}`.
      history: earlier transactions, which only fill the windows of velocity features.
      threshold: rule of the review threshold: `f1`, `precision=X`, `recall=X`, `budget=N` alerts a
        day, `cost=FN:FP` or a score.
      valid_from: event time of the first validation row, UTC; None for the last fifth of the rows.
      seed: of everything random.
      name: name of the model; None for the kind.

    Returns:
      A bundle in memory; `save` writes it to a directory.

    Raises:
      UsageError: an argument is invalid.
      FraudError: no model can be fitted with these rows and arguments.
    """
    described = schema_of(schema)
    texts = tuple(f"{key}={value}" for key, value in (settings or {}).items())
    kind = model_kind(model, texts)
    kind.check_packages()
    recipe = Recipe(
        kind=kind,
        rule=parse_threshold(threshold),
        valid_from=moment_of("valid_from", valid_from),
        seed=seed,
    )
    labels: Labels = "required" if kind.supervised else "known"
    rows = Rows(source_of(transactions, described, labels), history_of(history, described, labels))
    warnings: list[str] = []
    fitted = fit_bundle(
        rows,
        described,
        recipe,
        name=model_name(name, kind.name),
        rules=(threshold, None),
        data=names_of(transactions),
        warn=warnings.append,
    )
    for warning in warnings:
        warn(warning)
    return fitted.bundle


@dataclass(frozen=True)
class Measurement:
    """Figures of a model on labelled transactions."""

    #: Name of the model and digest of its manifest.
    model_id: str
    #: Figures at the threshold, and over all thresholds.
    metrics: Metrics
    #: 95 % bootstrap intervals of figures; None where undefined.
    intervals: dict[str, Interval | None]
    #: Number of invalid rows.
    rows_dead: int
    #: Number of rows that repeat an id.
    rows_duplicate: int
    #: Warnings about the figures.
    warnings: tuple[str, ...]


def evaluate(
    transactions: Transactions,
    model: Bundle | str | Path,
    *,
    history: Transactions | None = None,
    threshold: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Measurement:
    """Measure a model on labelled transactions, with the figures of `beam-fraud evaluate`.

    Args:
      transactions: labelled rows, as for `train`.
      model: a bundle, its directory or its URL.
      history: earlier transactions, which only fill the windows of velocity features.
      threshold: the threshold, 0 to 1; None for the bundle's own.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Raises:
      UsageError: an argument is invalid.
      FraudError: there are no labels or rows, or the bundle cannot be used.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"threshold={threshold:g}: must be from 0 to 1", Code.OPTION_VALUE)
    bundle = bundle_of(model)
    schema = bundle.schema
    evaluated = evaluated_rows(
        [bundle],
        Rows(
            source_of(transactions, schema, "required"),
            history_of(history, schema, "required"),
        ),
        schema=None,
        protocol=None,
        segments=(),
    )
    [rows], [features] = evaluated.transactions, evaluated.features
    candidate = candidate_of(bundle, rows, features, threshold)
    labels = evaluated.rows.labels
    resampled = bootstrap(
        labels,
        [candidate.scores],
        [candidate.threshold],
        accounts=evaluated.rows.accounts,
        count=resamples,
        seed=seed,
    )
    dataset = evaluated.dataset
    warnings = [dataset.left_out] if dataset.rows_dead else []
    warnings += evaluated.warnings([bundle])
    for warning in warnings:
        warn(warning)
    return Measurement(
        model_id=bundle.model_id,
        metrics=measure(labels, candidate.scores, candidate.threshold),
        intervals=resampled.intervals(0),
        rows_dead=dataset.rows_dead,
        rows_duplicate=dataset.rows_duplicate,
        warnings=tuple(warnings),
    )


def explore(
    transactions: Transactions,
    *,
    schema: Schema | str | Path,
    history: Transactions | None = None,
) -> Exploration:
    """Explore transactions as `beam-fraud explore` does, without its page.

    Args:
      transactions: rows, labelled or not, as for `train`.
      schema: a schema, the name of a preset or a TOML file.
      history: earlier transactions, which only fill the windows of velocity features.

    Returns:
      Balance, missing values, distributions, separations, suspects and advice; rows that are no
      transactions are counted by reason.

    Raises:
      FraudError: there is no transaction, or a file or a column cannot be used.
    """
    described = schema_of(schema)
    dataset = load_dataset(
        source_of(transactions, described, "known"),
        described,
        history=history_of(history, described, "known"),
        labels="known",
    )
    if not dataset.transactions.num_rows:
        raise FraudError(
            f"no transaction to explore among {dataset.rows_in:,} rows", Code.INPUT_EMPTY
        )
    if dataset.rows_dead:
        warn(dataset.left_out)
    if (mixed := mixed_currencies(dataset.transactions, described)) is not None:
        warn(mixed)
    return explore_dataset(dataset, described)
