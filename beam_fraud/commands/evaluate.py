"""`beam-fraud evaluate`: measure a bundle on labelled transactions."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from beam_fraud.commands.figures import render_metrics
from beam_fraud.commands.given import refuse_bundles
from beam_fraud.commands.moment import parse_moment
from beam_fraud.dataset import load_dataset
from beam_fraud.errors import FraudError, UsageError
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import load_model, open_bundle
from beam_fraud.models.metrics import measure
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema_toml import load_schema

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateOptions:
    """The arguments of `evaluate`."""

    #: Labelled transactions: files, directories, globs.
    files: tuple[str, ...]
    #: Directory of the bundle.
    model: str
    #: Preset or TOML file in place of the bundle's own schema.
    schema: str | None = None
    #: Earlier transactions, which fill the windows of velocity features and nothing else.
    history: tuple[str, ...] = ()
    #: First event time of the rows, ISO 8601.
    since: str | None = None
    #: First event time after the rows.
    until: str | None = None
    #: Score from which to flag, in place of the bundle's own.
    threshold: float | None = None


def run(options: EvaluateOptions) -> dict[str, object]:
    """Score the rows and compare with their labels.

    Raises:
      FraudError: there is no label or no row, or the bundle can't be used.
    """
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise UsageError(f"--threshold {options.threshold:g}: must be from 0 to 1")
    refuse_bundles((*options.files, *options.history))
    since, until = parse_moment("--from", options.since), parse_moment("--until", options.until)
    bundle = open_bundle(options.model)
    schema = bundle.schema if options.schema is None else load_schema(options.schema)
    features = bundle.features_in(schema)
    dataset = load_dataset(
        options.files, features.schema, since=since, until=until, history=options.history
    )
    if dataset.rows_dead:
        _log.warning("%d rows are left out: %s", dataset.rows_dead, dataset.dead_reasons)
    transactions = dataset.transactions
    if not transactions.num_rows:
        raise FraudError("no rows to evaluate on in the files and times given")
    scores = predict_scores(load_model(bundle), feature_matrix(transactions, features))
    labels = np.asarray(transactions.column("label").to_numpy(), dtype=np.int8)
    threshold = bundle.thresholds.review if options.threshold is None else options.threshold
    return {
        "model_id": bundle.model_id,
        **measure(labels, scores, threshold).to_dict(),
        "rows_in": dataset.rows_in,
        "rows_dead": dataset.rows_dead,
        "rows_duplicate": dataset.rows_duplicate,
    }


def render(result: dict[str, object]) -> str:
    """The result as text for a terminal."""
    return f"{result['model_id']}\n\n{render_metrics(result, '')}"
