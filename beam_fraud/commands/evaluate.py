"""`beam-fraud evaluate`: measure a bundle on labelled transactions."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.commands.figures import render_metrics
from beam_fraud.commands.given import refuse_bundles
from beam_fraud.commands.moment import parse_moment
from beam_fraud.dataset import load_dataset
from beam_fraud.duration import DAY
from beam_fraud.errors import FraudError, UsageError
from beam_fraud.event_time import event_micros, micros_of, moment_of
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import Bundle, load_model, open_bundle
from beam_fraud.models.handbook_protocol import (
    CARDS,
    TEST_DAYS,
    Period,
    card_precision,
    period_after,
    rows_to_test,
)
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
    #: `handbook`: which rows, and one figure more, as `models.handbook_protocol` says; or None.
    protocol: str | None = None


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
    if options.protocol is not None:
        period = _period(options, bundle)
        since, until = (moment_of(micros) for micros in (period.trained_from, period.stop))
    dataset = load_dataset(
        options.files, features.schema, since=since, until=until, history=options.history
    )
    if dataset.rows_dead:
        _log.warning("%d rows are left out: %s", dataset.rows_dead, dataset.dead_reasons)
    transactions = dataset.transactions
    if options.protocol is not None:
        transactions = _tested(transactions, period)
    if not transactions.num_rows:
        raise FraudError("no rows to evaluate on in the files and times given")
    scores = predict_scores(load_model(bundle), feature_matrix(transactions, features))
    labels = np.asarray(transactions.column("label").to_numpy(), dtype=np.int8)
    threshold = bundle.thresholds.review if options.threshold is None else options.threshold
    figures = measure(labels, scores, threshold).to_dict()
    if options.protocol is not None:
        precision = card_precision(event_micros(transactions), _cards(transactions), labels, scores)
        figures |= {"protocol": options.protocol, f"card_precision_at_{CARDS}": precision}
    return {
        "model_id": bundle.model_id,
        **figures,
        "rows_in": dataset.rows_in,
        "rows_dead": dataset.rows_dead,
        "rows_duplicate": dataset.rows_duplicate,
    }


def render(result: dict[str, object]) -> str:
    """The result as text for a terminal."""
    return f"{result['model_id']}\n\n{render_metrics(result, '')}"


def _period(options: EvaluateOptions, bundle: Bundle) -> Period:
    """The days that the protocol tests, unless the options name others."""
    if options.protocol != "handbook":
        raise UsageError(f"--protocol {options.protocol}: must be handbook")
    if bundle.manifest.trained_on is None:
        raise FraudError(
            f"{bundle.path}: doesn't say which days it was trained on, which --protocol handbook "
            "has to know; train it again"
        )
    if "account_id" not in bundle.schema.roles:
        raise FraudError(
            f"{bundle.path}: its schema gives no column for 'account_id', so --protocol handbook "
            "can't tell cards apart"
        )
    first, last = (micros_of(datetime.fromisoformat(text)) for text in bundle.manifest.trained_on)
    period = period_after(first, last)
    since, until = parse_moment("--from", options.since), parse_moment("--until", options.until)
    start = period.start if since is None else micros_of(since)
    stop = start + TEST_DAYS * DAY if until is None else micros_of(until)
    return Period(first, start, stop)


def _tested(transactions: pa.Table, period: Period) -> pa.Table:
    labels = transactions.column("label").to_numpy()
    rows = rows_to_test(event_micros(transactions), _cards(transactions), labels, period)
    return transactions.filter(pa.array(rows))


def _cards(transactions: pa.Table) -> npt.NDArray[np.int64]:
    codes = transactions.column("account_id").combine_chunks().dictionary_encode().indices
    return np.asarray(codes, dtype=np.int64)
