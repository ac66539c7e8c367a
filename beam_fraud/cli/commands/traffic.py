"""`beam-fraud evaluate --from-labels`: figures of all traffic by what people saw and labelled."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from beam_fraud.cli.commands.database import database_of
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options import EvaluateOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.seen_rows import ModelRows, models_seen, rows_seen
from beam_fraud.evaluation.traffic import Traffic, estimate
from beam_fraud.models.bundle import open_bundle
from beam_fraud.monitoring.activity import doing
from beam_fraud.storage.database.connection import masked, transaction
from beam_fraud.storage.urls import Place
from beam_fraud.wording import did_you_mean

_LOG = logging.getLogger(__name__)
#: Figures and their names in text.
_FIGURES = (
    ("precision", "precision"),
    ("recall", "recall"),
    ("average_precision", "average precision"),
    ("roc_auc", "ROC AUC"),
    ("frauds", "frauds"),
    ("missed", "  missed"),
)
_COUNTS = ("frauds", "missed")


def run(options: EvaluateOptions) -> dict[str, object]:
    """Estimate the figures of every model asked for.

    Raises:
      UsageError: an option is invalid.
      FraudError: the database cannot be read, or has no such transactions.
    """
    _refuse_others(options)
    if options.database is None:
        raise UsageError("--from-labels: give --database URL", Code.OPTION_MISSING)
    database = database_of(options.database)
    since, until = parse_moment("--from", options.since), parse_moment("--until", options.until)
    wanted = [_model_id(model) for model in options.models]
    figures = []
    with transaction(database) as connection, doing("reading what people saw"):
        there = models_seen(connection, since, until)
        if not there:
            raise FraudError(
                f"--database {masked(database)}: no transaction was flagged or audited then",
                Code.INPUT_EMPTY,
            )
        for model in wanted or there:
            if model not in there:
                hint = did_you_mean(model, there, f"its models are {', '.join(there)}")
                raise FraudError(
                    f"--database {masked(database)}: no transaction of model {model!r}; {hint}",
                    Code.INPUT_EMPTY,
                )
            rows = rows_seen(connection, model, since, until)
            figures.append(_figures(rows, options))
    return {"traffic": figures, "database": masked(database)}


def _refuse_others(options: EvaluateOptions) -> None:
    """Raise UsageError for options of rows in files."""
    given = {
        "FILE": options.files,
        "--labels": options.labels,
        "--history": options.history,
        "--schema": options.schema,
        "--threshold": options.threshold is not None,
        "--protocol": options.protocol,
        "--segment": options.segments,
        "--out": options.out,
        "--png": options.png,
    }
    for option, value in given.items():
        if value:
            raise UsageError(f"--from-labels: not together with {option}", Code.OPTION_CONFLICT)


def _model_id(model: str) -> str:
    """Return the id of a bundle, or the id itself."""
    return open_bundle(Place.parse(model)).model_id if Path(model).is_dir() else model


def _figures(rows: ModelRows, options: EvaluateOptions) -> dict[str, Any]:
    if rows.span is None:
        raise FraudError(
            f"{rows.model_id}: no transaction was audited in that time, so nothing tells how much "
            "fraud it misses; run score, stream or serve with --audit-share",
            Code.LABELS_NEEDED,
        )
    traffic = estimate(rows.seen, count=options.resamples, seed=options.seed)
    warnings = [*rows.warnings, *traffic.warnings, *_reported(rows, traffic)]
    for warning in warnings:
        _LOG.warning("%s: %s", rows.model_id, warning)
    return {
        "model_id": rows.model_id,
        "from": rows.span[0].isoformat(),
        "until": rows.span[1].isoformat(),
        "left_out": rows.left_out,
        "reported": rows.reported,
        **asdict(traffic),
        "warnings": warnings,
    }


def _reported(rows: ModelRows, traffic: Traffic) -> list[str]:
    interval = traffic.missed.interval
    if interval is None or rows.reported + traffic.audited_frauds <= interval.high:
        return []
    return [
        f"{rows.reported:,} frauds were reported of transactions that were neither flagged nor "
        f"audited, more than the {interval.high:,.0f} that the audit allows for: do people label "
        "audited transactions with the same care, or are these of other traffic?"
    ]


def render(result: dict[str, Any]) -> str:
    """Return the figures for a terminal."""
    parts = [line for model in result["traffic"] for line in [*_rendered(model), ""]]
    return "\n".join(parts).rstrip()


def _rendered(model: dict[str, Any]) -> list[str]:
    rows = [("", "estimate", "95 % interval")]
    for name, shown in _FIGURES:
        figure, counted = model[name], name in _COUNTS
        interval = figure["interval"]
        ends = "-"
        if interval is not None:
            ends = f"{_number(interval['low'], counted)} to {_number(interval['high'], counted)}"
        rows.append((shown, _number(figure["value"], counted), ends))
    unweighted = _number(model["unweighted_recall"], counted=False)
    left_out = model["left_out"]
    return [
        f"{model['model_id']}, {model['from'][:16]} to {model['until'][:16]} UTC",
        "",
        f"About {model['transactions']:,.0f} transactions: {model['flagged']:,} flagged "
        f"({model['flagged_labelled']:,} of them labelled), of the others {model['audited']:,} "
        f"audited ({model['audited_labelled']:,} labelled, {model['audited_frauds']:,} frauds).",
        *([f"{left_out:,} flagged before or after the audit are left out."] if left_out else []),
        "",
        *table(rows, right=(1,), margin=2),
        "",
        f"Without the probabilities of the audit, recall would look like {unweighted}.",
    ]


def _number(value: float | None, counted: bool) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if counted else f"{value:.3f}"
